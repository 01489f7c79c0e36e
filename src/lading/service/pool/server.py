"""HTTP/1.1 for the Runtime API of one environment, on a given listening socket, in the running event loop.

Input comes from inside an environment and is hostile: heads, bodies and chunks are bounded; a connection that breaks
the rules is answered 400 and closed. Knows nothing of what calls mean.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from lading.runtimeapi.calls import MAXIMUM_PAYLOAD, Request, Response

MAXIMUM_HEAD = 2 * 1024 * 1024
"""Bytes of request line and headers: the client sends up to 1 MiB of X-Ray cause in one header."""
MAXIMUM_CHUNK_LINE = 1024
_HIGH_WATER = MAXIMUM_PAYLOAD * 2
_REASONS = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Request Entity Too Large",
    500: b"Internal Server Error",
}
_STATUS = {status: b"HTTP/1.1 %d %b\r\n" % (status, reason) for status, reason in _REASONS.items()}
REMEMBERED = 1024
"""Bytes of headers that are remembered."""
_STREAM_MODE = "lambda-runtime-function-response-mode"


class Endpoint(Protocol):
    """Who answers. A connection is the token of its call."""

    def request(self, connection: Connection, request: Request) -> None: ...
    def stream_started(self, connection: Connection, request: Request) -> None: ...
    def stream_data(self, connection: Connection, data: bytes) -> None: ...
    def stream_ended(self, connection: Connection, trailers: Mapping[str, str], *, complete: bool) -> None: ...
    def disconnected(self, connection: Connection) -> None: ...


class BadRequestError(ValueError):
    """What came isn't HTTP/1.1 as we take it."""


class Connection(asyncio.Protocol):
    """One client connection: a call at a time, kept alive."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._step = self._read_head
        self._request: Head | None = None
        self._body = bytearray()
        self._left = 0
        self._streaming = False
        self._answering = False
        self._close = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, not the base class
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._answering:
            # A client that sends its next call before the answer: it waits, up to a bound.
            if len(self._buffer) > _HIGH_WATER and self._transport:
                self._transport.close()
            return
        self._run()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._streaming:
            self._streaming = False
            self._endpoint.stream_ended(self, {}, complete=False)
        self._endpoint.disconnected(self)

    # The endpoint's side

    def reply(self, response: Response) -> None:
        """Answer the call that is open; then the next one may come."""
        self._answering = False
        if self._transport is None:
            return
        self._transport.write(encode(response, close=self._close))
        if self._close:
            self._transport.close()
            return
        if self._buffer:
            self._run()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read no more for now: what the client goes on to send fills its own socket, and then it waits."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # Parsing: each step eats what it can of the buffer and says whether to go on

    def _run(self) -> None:
        try:
            while not self._answering and self._step():
                pass
        except BadRequestError:
            self._refuse()

    def _refuse(self) -> None:
        self._buffer.clear()
        self._close = True
        if self._transport is not None:
            self._transport.write(encode(Response(400, b"400 Bad Request", content_type="text/plain"), close=True))
            self._transport.close()

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAXIMUM_HEAD:
                raise BadRequestError("head too large")
            return False
        if end > MAXIMUM_HEAD:
            raise BadRequestError("head too large")
        head = parse_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        self._begin(head)
        return True

    def _begin(self, head: Head) -> None:
        fields = head.fields
        self._request = head
        self._body.clear()
        self._close = fields.close
        self._left = fields.length
        if fields.waits and self._transport and (fields.chunked or self._left):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fields.streaming and head.path.endswith("/response"):
            self._streaming = True
            self._endpoint.stream_started(self, Request(head.method, head.path, fields.headers))
        self._step = self._read_chunk_size if fields.chunked else self._read_length
        if not fields.chunked and not self._left:
            self._end({})

    def _read_length(self) -> bool:
        self._take()
        if self._left:
            return False
        self._end({})
        return True

    def _read_chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        size = line.split(b";", 1)[0].strip()
        if not size or len(size) > 8 or not all(c in b"0123456789abcdefABCDEF" for c in size):
            raise BadRequestError("chunk size")
        self._left = int(size, 16)
        self._trailers: dict[str, str] = {}
        self._step = self._read_chunk if self._left else self._read_trailer
        return True

    def _read_chunk(self) -> bool:
        self._take()
        if self._left or len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise BadRequestError("chunk end")
        del self._buffer[:2]
        self._step = self._read_chunk_size
        return True

    def _read_trailer(self) -> bool:
        line = self._line(MAXIMUM_HEAD)
        if line is None:
            return False
        if line:
            if len(self._trailers) >= 32:
                raise BadRequestError("too many trailers")
            name, value = _header(line)
            self._trailers[name] = value
            return True
        self._end(self._trailers)
        return True

    def _line(self, limit: int = MAXIMUM_CHUNK_LINE) -> bytes | None:
        end = self._buffer.find(b"\r\n", 0, limit + 2)
        if end < 0:
            if len(self._buffer) > limit:
                raise BadRequestError("line too long")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _take(self) -> None:
        """Move body bytes on. Of a buffered body one byte more than the limit is kept: enough to know it is too large."""
        count = min(self._left, len(self._buffer))
        if not count:
            return
        self._left -= count
        if self._streaming:
            self._endpoint.stream_data(self, bytes(self._buffer[:count]))
        else:
            room = MAXIMUM_PAYLOAD + 1 - len(self._body)
            self._body += self._buffer[: min(count, room)] if room > 0 else b""
        del self._buffer[:count]

    def _end(self, trailers: Mapping[str, str]) -> None:
        assert self._request is not None
        self._answering = True
        self._step = self._read_head
        if self._streaming:
            self._streaming = False
            self._endpoint.stream_ended(self, trailers, complete=True)
            return
        head = self._request
        self._endpoint.request(self, Request(head.method, head.path, head.fields.headers, bytes(self._body)))


@dataclass(frozen=True, slots=True)
class Fields:
    """A request's headers (names in lower case), and what they say of its body and its connection."""

    headers: Mapping[str, str]
    length: int
    chunked: bool
    close: bool
    waits: bool
    """For a word before it sends its body."""
    streaming: bool


@dataclass(frozen=True, slots=True)
class Head:
    method: str
    path: str
    fields: Fields


def parse_head(head: bytes) -> Head:
    """Request line and headers. Raises BadRequestError."""
    line, _, rest = head.partition(b"\r\n")
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1.") or not parts[1].startswith(b"/"):
        raise BadRequestError("request line")
    fields = _remembered(rest) if len(rest) <= REMEMBERED else _parse_fields(rest)
    return Head(parts[0].decode("latin-1"), parts[1].decode("latin-1"), fields)


def _parse_fields(block: bytes) -> Fields:
    lines = block.split(b"\r\n") if block else []
    if len(lines) > 100:
        raise BadRequestError("too many headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, value = _header(line)
        if name in headers and name in ("content-length", "transfer-encoding"):
            raise BadRequestError("repeated header")
        headers[name] = value
    chunked = headers.get("transfer-encoding", "").lower() == "chunked"
    if "transfer-encoding" in headers and (not chunked or "content-length" in headers):
        raise BadRequestError("transfer-encoding")
    return Fields(
        headers,
        length=0 if chunked else _length(headers),
        chunked=chunked,
        close=headers.get("connection", "").lower() == "close",
        waits=headers.get("expect", "").lower() == "100-continue",
        streaming=headers.get(_STREAM_MODE, "").lower() == "streaming",
    )


_remembered = functools.lru_cache(256)(_parse_fields)
"""A client sends the same headers again and again."""


def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not colon or not name or name != name.strip():
        raise BadRequestError("header")
    return name.decode("latin-1").lower(), value.strip().decode("utf-8", "replace")


def _length(headers: Mapping[str, str]) -> int:
    text = headers.get("content-length", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise BadRequestError("content-length")
    return int(text)


def encode(response: Response, *, close: bool = False) -> bytes:
    """Response as bytes on the wire. Header values come from callers: line breaks in them are dropped."""
    head = _STATUS.get(response.status) or b"HTTP/1.1 %d Status\r\n" % response.status
    lines = "".join([f"{name}: {value}\n" for name, value in response.headers])
    if "\r" in lines or lines.count("\n") != len(response.headers):
        lines = "".join([f"{_one_line(name)}: {_one_line(value)}\n" for name, value in response.headers])
    connection = "Connection: close\r\n" if close else ""
    rest = f"Content-Type: {response.content_type}\r\nContent-Length: {len(response.body)}\r\n{connection}\r\n"
    return b"".join((head, lines.replace("\n", "\r\n").encode(), rest.encode(), response.body))


def _one_line(text: str) -> str:
    return text.replace("\r", "").replace("\n", "")


async def serve(listener: socket.socket, endpoint: Endpoint) -> asyncio.Server:
    """Answer on a listening socket until the returned server is closed."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(endpoint), sock=listener)
