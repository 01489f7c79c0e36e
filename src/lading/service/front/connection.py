"""A client's connection to the port: HTTP/1.1 by llhttp (httptools), one turn after the other, for uvicorn's server.

Bounded here: a head's bytes and time, bodies that nobody reads, idle connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl

import httptools
import uvicorn
from uvicorn.server import ServerState

from lading.service.alarm import Alarm
from lading.service.contract.http import HttpRequest
from lading.service.front.turn import Turn

HEAD_TIME = 20.0
"""Seconds for a request line and its headers."""
HEAD_SIZE = 65_536
"""Bytes of them: more than any service of AWS takes."""
IDLE_TIME = 75.0
"""Seconds a connection is kept between requests; longer than clients keep theirs, so that none is cut in mid-use."""
REST_TIME = 30.0
"""Seconds for the rest of a body that was answered before it had come."""

log = logging.getLogger("lading.service")


class Application(Protocol):
    """Answers turns."""

    def exchange(self, turn: Turn) -> Awaitable[None]: ...


class Connection(asyncio.Protocol):
    """Made by uvicorn, or with `connections` for sockets that were accepted elsewhere."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._application = cast("Application", config.loaded_app)
        self._loop = _loop or asyncio.get_running_loop()
        self._server = server_state
        self._parser = httptools.HttpRequestParser(self)
        self._alarm = Alarm(self._loop)
        """Until a head, the rest of a body or the next request must have come."""
        self._transport: asyncio.Transport | None = None
        self._scheme, self._client = "http://", ""
        self._turn: Turn | None = None
        """The one being answered."""
        self._incoming: Turn | None = None
        """The one whose body comes."""
        self._waiting: deque[Turn] = deque()
        """Those that a client sent before it had its answer."""
        self._read = 0
        """Bytes of the read that is parsed."""
        self._shared = False
        """Whether a message ended in it, so that not all of it is the next head's."""
        self._oversized = False
        self._reading = True
        self._broken = False
        """Nothing more is read: the connection ends with the answers that are due."""
        self._writable: asyncio.Future[None] | None = None
        self._begin_head()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, not the base class
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(cast("Any", self))
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        self._scheme = "https://" if transport.get_extra_info("sslcontext") else "http://"
        self._alarm.set(HEAD_TIME, self._close)

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        self._read, self._shared = len(data), False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._stop_reading()
        except httptools.HttpParserError:
            if not self._oversized:
                self._refuse(400, b"Invalid HTTP request received.")
                return
        if self._heading:
            self._head_size += max(self._parsed(), 1) if self._shared else self._read
            if self._head_size > HEAD_SIZE:
                self._refuse(431, b"The request's head is too large.")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(cast("Any", self))
        self._transport = None
        self._broken = True
        self._alarm.close()
        for turn in (self._turn, *self._waiting):
            if turn is not None:
                turn.leave()
        self._waiting.clear()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def shutdown(self) -> None:
        """uvicorn's: no request is taken any more."""
        if self._turn is None:
            self._close()
        else:
            self._turn.keep_alive = False

    # llhttp's side

    def on_message_begin(self) -> None:
        self._begin_head()
        self._alarm.set(HEAD_TIME, self._close)

    def _begin_head(self) -> None:
        self._heading = True
        self._head_size = 0
        self._fields = 0
        self._url = b""
        self._headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Fields of one name are one, with commas (RFC 9110, section 5.3); cookies with semicolons (RFC 6265, 5.4)."""
        self._fields += len(name) + len(value) + 4
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers = self._headers
        if key in headers:
            text = f"{headers[key]}{'; ' if key == 'cookie' else ','}{text}"
        headers[key] = text

    def _parsed(self) -> int:
        """Bytes of the head that the parser has given: what it holds of a line that isn't complete is a read's at most."""
        return len(self._url) + self._fields

    def on_headers_complete(self) -> None:
        if self._head_size + self._read > HEAD_SIZE and self._parsed() > HEAD_SIZE:
            self._oversized = True
            raise ValueError("the head is too large")  # the parser stops
        self._alarm.clear()
        self._heading = False
        parser, headers = self._parser, self._headers
        chunks = parser.get_http_version() != "1.0"
        path, query = _split(self._url)
        head = HttpRequest(
            method=parser.get_method().decode("ascii"),
            path=path,
            query=tuple(parse_qsl(query, keep_blank_values=True)) if query else (),
            headers=headers,
            raw_query=query,
            client=self._client,
        )
        self._incoming = turn = Turn(
            self,
            head,
            self._scheme,
            awaited="expect" in headers and headers["expect"].lower() == "100-continue",
            lasting=chunks and parser.should_keep_alive() and not parser.should_upgrade(),
            chunks=chunks,
        )
        if self._turn is None:
            self._begin(turn)
        else:
            self._waiting.append(turn)
            self.pause()

    def on_body(self, body: bytes) -> None:
        assert self._incoming is not None, "a body has a head"
        self._incoming.add(body)

    def on_message_complete(self) -> None:
        assert self._incoming is not None, "a message has a head"
        self._shared = True
        self._incoming.end()
        if self._turn is None:
            self._rest()

    # A turn's side

    @property
    def standing(self) -> bytes:
        return b"".join([b"%b: %b\r\n" % pair for pair in self._server.default_headers])

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def drained(self) -> None:
        if self._writable is not None:
            await self._writable

    def pause(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._reading and self._transport is not None and not self._broken and not self._waiting:
            self._reading = True
            self._transport.resume_reading()

    def cut(self) -> None:
        self._broken = True
        self._close()

    def answered(self, turn: Turn) -> None:
        """The next one, or nothing for a while."""
        self._server.total_requests += 1
        self._turn = None
        if not turn.keep_alive or (self._broken and not self._waiting):
            self._broken = True
            self._close()
        elif self._waiting:
            self._begin(self._waiting.popleft())
            self.resume()
        else:
            self.resume()
            if turn.whole:
                self._rest()
            else:
                self._alarm.set(REST_TIME, self._close)

    # What follows

    def _begin(self, turn: Turn) -> None:
        self._turn = turn
        task = self._loop.create_task(self._run(turn))
        tasks = self._server.tasks
        tasks.add(cast("Any", task))
        task.add_done_callback(tasks.discard)

    async def _run(self, turn: Turn) -> None:
        try:
            await self._application.exchange(turn)
        except Exception:
            log.exception("%s %s could not be answered", turn.head.method, turn.head.path[:200])
        finally:
            if not turn.complete and not turn.gone:
                turn.cut()

    def _rest(self) -> None:
        """Nothing is under way: the next request may take its time. One that has begun to come has its own."""
        if not self._heading or not self._head_size:
            self._alarm.set(IDLE_TIME, self._close)

    def _refuse(self, status: int, text: bytes) -> None:
        """What came can't be read on. Answers that are due come first, and then nobody expects one to this."""
        self._stop_reading()
        incoming = self._incoming
        if incoming is not None and not incoming.whole:  # its body can't be read on: it gets no answer, or has had one
            if self._waiting and self._waiting[-1] is incoming:
                self._waiting.pop()
            else:
                self._close()
                return
        if self._turn is None and self._transport is not None:
            reason = b"Bad Request" if status == 400 else b"Request Header Fields Too Large"
            head = b"HTTP/1.1 %d %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self._transport.write(head % (status, reason, len(text)) + text)
            self._close()
        elif self._turn is not None:
            (self._waiting[-1] if self._waiting else self._turn).keep_alive = False

    def _stop_reading(self) -> None:
        self.pause()
        self._broken = True

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _split(url: bytes) -> tuple[str, str]:
    """Path and query, as they were sent."""
    if url.startswith(b"/") and b"#" not in url:
        path, _, query = url.partition(b"?")
    else:
        parsed = httptools.parse_url(url)
        path, query = parsed.path or b"", parsed.query or b""
    return path.decode("ascii", "replace"), query.decode("ascii", "replace")
