"""A request and a response as plain values, between the HTTP server and the contract. No sockets here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from lading.model.value import value


@value
class HttpRequest:
    """What a client sent. `path` is the raw (percent-encoded) path, `query` is decoded and keeps order and repeats,
    header names are lower case."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    raw_query: str = ""
    """The query as it was sent."""
    client: str = ""
    """Address of the peer."""

    def header(self, name: str) -> str | None:
        return self.headers.get(name.lower())

    def with_body(self, body: bytes) -> HttpRequest:
        """The same with its body, which comes after its head."""
        return HttpRequest(self.method, self.path, self.query, self.headers, body, self.raw_query, self.client)


@value
class HttpResponse:
    """What goes back. Header names as they shall appear."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cookies: tuple[str, ...] = ()
    """Values of Set-Cookie headers, of which there may be many."""


@dataclass(frozen=True)
class StreamedResponse:
    """A response whose body comes piece by piece."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]
    """May raise CutStreamError."""
    cookies: tuple[str, ...] = ()


Response = HttpResponse | StreamedResponse


class CutStreamError(Exception):
    """Raised by a response's pieces: it ends here, and not as it should have."""
