"""botocore's clients answered in this process, without a socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lading.service.contract.http import HttpRequest, HttpResponse


class InProcess:
    """For a client's "before-send": what answers its requests in place of a connection."""

    def __init__(self, answer: Callable[[HttpRequest], HttpResponse]) -> None:
        self._answer = answer

    def __call__(self, request: Any, **_: Any) -> Any:
        from botocore.awsrequest import AWSResponse
        from urllib3._collections import HTTPHeaderDict

        parts = urlsplit(request.url)
        headers = {name.lower(): _text(value) for name, value in request.headers.items()} | {"host": parts.netloc}
        body = request.body if request.body is not None else b""
        body = (
            body.encode()
            if isinstance(body, str)
            else bytes(body)
            if isinstance(body, bytes | bytearray)
            else body.read()
        )
        query = tuple(parse_qsl(parts.query, keep_blank_values=True))
        plain = HttpRequest(request.method, parts.path or "/", query, headers, body, parts.query)
        answer = self._answer(plain)
        return AWSResponse(request.url, answer.status, HTTPHeaderDict(answer.headers), _Raw(answer.body))


class _Raw:
    """A body as AWSResponse reads it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, amount: int = 0, **_: Any) -> Any:
        yield self._body
        self._body = b""

    def read(self, amount: int | None = None) -> bytes:
        size = len(self._body) if amount is None else amount
        piece, self._body = self._body[:size], self._body[size:]
        return piece


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
