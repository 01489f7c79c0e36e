"""How commands reach a running `lading serve`: its own routes, below /_lading/."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from lading.errors import UsageError

QUIET = 0.5
"""Seconds without an event after which what was kept is taken to be read."""

endpoint_option = click.option(
    "--endpoint", envvar="AWS_ENDPOINT_URL", default="http://127.0.0.1:4566", show_default=True, help="Of the service."
)


def ask(endpoint: str, path: str, *, method: str = "GET") -> Any:
    """The JSON of an answer. Raises UsageError where no service answers, or it refuses."""
    import httpx

    try:
        answer = httpx.request(method, endpoint.rstrip("/") + path, timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(endpoint, error) from error
    _check(answer.status_code, answer.text)
    return answer.json()


def lines(endpoint: str, path: str, *, follow: bool) -> Iterator[tuple[str, str]]:
    """(event, data) of a stream of server-sent events; without `follow` up to the first pause."""
    import httpx

    timeout = httpx.Timeout(10, read=None if follow else QUIET)
    kind = ""
    try:
        with httpx.stream("GET", endpoint.rstrip("/") + path, timeout=timeout) as answer:
            if answer.status_code != 200:
                answer.read()
            _check(answer.status_code, answer.text if answer.status_code != 200 else "")
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, value
    except httpx.ReadTimeout:
        return
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(endpoint, error) from error


def _check(status: int, text: str) -> None:
    if status != 200:
        try:
            said = json.loads(text)["message"]
        except (ValueError, KeyError, TypeError):
            said = f"status {status}: is it `lading serve`?"
        raise UsageError(f"the service refuses: {said}", hint="run it on this machine, without --keys: lading serve")


def _unreachable(endpoint: str, error: Exception) -> UsageError:
    return UsageError(f"no service answers at {endpoint}: {error}", hint="start one: lading serve")
