"""One request on a connection and its answer: the body as it comes, the response whole or in pieces."""

from __future__ import annotations

import asyncio
import functools
import http
import re
from collections.abc import Iterable, MutableMapping
from typing import Any, Protocol

from lading.service.contract.http import HttpRequest

HIGH_WATER = 65_536
"""Bytes of a body that wait to be asked for, before the client has to wait too."""
Message = MutableMapping[str, Any]
"""ASGI's "http.request" (`body`, `more_body`) or "http.disconnect"."""
_BODILESS = (204, 304)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_OWN = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade"})
"""Headers that are the connection's, whatever an answer says."""


class Wire(Protocol):
    """The connection, as a turn sees it."""

    @property
    def standing(self) -> bytes:
        """Header lines of every response."""
        ...

    def write(self, data: bytes) -> None: ...

    async def drained(self) -> None:
        """Until more may be written, or the client is gone."""
        ...

    def pause(self) -> None:
        """Read no more for now."""
        ...

    def resume(self) -> None: ...

    def cut(self) -> None:
        """Close it: what was announced does not come."""
        ...

    def answered(self, turn: Turn) -> None: ...


class Turn:
    """Made by a connection, which calls `add`, `end` and `leave`; all else is for who answers."""

    __slots__ = (
        "_awaited", "_chunks", "_left", "_more", "_news", "_parts", "_size", "_wire",
        "complete", "gone", "head", "keep_alive", "scheme",
    )  # fmt: skip

    def __init__(
        self, wire: Wire, head: HttpRequest, scheme: str, *, awaited: bool, lasting: bool, chunks: bool
    ) -> None:
        """scheme: "http://" or "https://". awaited: the client waits for a word before it sends the body. lasting: the
        connection may be used again. chunks: the client knows them."""
        self.head = head
        self.scheme = scheme
        self.keep_alive = lasting
        self.complete = False
        """Whether the response is through."""
        self.gone = False
        """Whether the client has left."""
        self._wire = wire
        self._awaited = awaited
        self._chunks = chunks
        self._parts: list[bytes] = []
        """Of the body, not asked for yet; `_size`: their bytes."""
        self._size = 0
        self._more = True
        self._news: asyncio.Future[None] | None = None
        self._left: int | None = None
        """Bytes that a response still has to have, where that was announced."""

    # The connection's side

    def add(self, data: bytes) -> None:
        """A part of the body. What comes after the response is of no interest."""
        if self.complete:
            return
        self._parts.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER:
            self._wire.pause()
        self._tell()

    def end(self) -> None:
        """The body is complete."""
        self._more = False
        self._tell()

    def leave(self) -> None:
        self.gone = True
        self._tell()

    @property
    def whole(self) -> bool:
        """Whether all of the request has come."""
        return not self._more

    # Reading

    def take(self) -> bytes | None:
        """The whole body, where all of it is here; else `receive` has to be asked."""
        return None if self._more or self.gone else self._taken()

    async def receive(self) -> Message:
        """The next part of the body, or that there will be none."""
        if self._awaited and self._more and not self.gone:
            self._wire.write(_CONTINUE)
        self._awaited = False
        while self._more and not self._parts and not self.gone and not self.complete:
            self._wire.resume()
            await self._wait()
        if self.gone or self.complete:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self._taken(), "more_body": self._more}

    async def left(self) -> None:
        """Until the client is gone."""
        while not self.gone:
            await self._wait()

    def _taken(self) -> bytes:
        parts, self._parts, self._size = self._parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _wait(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        finally:
            self._news = None

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    # Answering

    def answer(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """The whole response. Raises ValueError for a header that would break out of its line."""
        lines, length = read_headers(headers)
        bare, heading = status in _BODILESS, self.head.method == "HEAD"
        if not bare:  # what answers a HEAD may have a length of its own
            lines += b"content-length: %d\r\n" % (length if heading and length is not None else len(body))
        self._wire.write(self._head(status, lines) + (b"" if bare or heading else body))
        self._end()

    def begin(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """A response whose body follows in pieces. Raises ValueError for a header that would break out of its line."""
        lines, self._left = read_headers(headers)
        if self._left is not None:
            lines += b"content-length: %d\r\n" % self._left
        elif self._chunks:
            lines += b"transfer-encoding: chunked\r\n"
        else:  # its end is the connection's
            self.keep_alive = False
        self._wire.write(self._head(status, lines))

    async def piece(self, data: bytes) -> None:
        """Of the body. Raises ValueError for more than was announced."""
        if not data or self.gone or self.head.method == "HEAD":
            return
        if self._left is not None:
            if self._left < len(data):
                raise ValueError("a response is longer than its Content-Length")
            self._left -= len(data)
            self._wire.write(data)
        else:
            self._wire.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunks else data)
        await self._wire.drained()

    def finish(self) -> None:
        """No more pieces."""
        if self.head.method != "HEAD":
            if self._left:
                self.cut()
                return
            if self._left is None and self._chunks:
                self._wire.write(b"0\r\n\r\n")
        self._end()

    def cut(self) -> None:
        """The response ends here, and not as it should have: the client is to know."""
        self.complete = True
        self._wire.cut()

    def _head(self, status: int, lines: bytes) -> bytes:
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        return b"".join((status_line(status), self._wire.standing, lines, closing, b"\r\n"))

    def _end(self) -> None:
        self.complete = True
        self._wire.answered(self)


@functools.lru_cache(64)
def status_line(status: int) -> bytes:
    """Raises ValueError for what is no status."""
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is no status of a response")
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


def read_headers(headers: Iterable[tuple[str, str]]) -> tuple[bytes, int | None]:
    """Their lines on the wire but for those that are the connection's own, and the Content-Length among them.

    Raises ValueError for names and values that would break out of a line.
    """
    lines, length = [], None
    for name, value in headers:
        wire = _wire_name(name)
        if wire == "content-length":
            length = int(value)
        elif wire not in _OWN:
            lines.append(f"{wire}: {value}\n")
    text = "".join(lines)
    if text.count("\n") != len(lines) or _CONTROL.search(text):
        raise ValueError("a header's value has a control character")
    return text.replace("\n", "\r\n").encode("latin-1", "replace"), length


@functools.lru_cache(256)
def _wire_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:100]!r} is no header's name")
    return name.lower()
