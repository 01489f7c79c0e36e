"""The port: a bound socket, uvicorn over it, and the limits it lacks on clients that are slow with their headers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from lading.errors import UsageError
from lading.service.alarm import Alarm
from lading.service.front.one_write import OneWrite

HEAD_TIME = 20.0
"""Seconds for a request line and its headers."""
IDLE_TIME = 75
"""Seconds a connection is kept between requests; longer than clients keep theirs, so that none is cut in mid-use."""
GRACE = 10
"""Seconds that requests under way have to finish."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which closes a connection whose request line and headers don't arrive in time."""

    _head: Alarm

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", OneWrite(transport, self.loop))
        self._head = Alarm(self.loop)
        self._await_head()

    def on_message_begin(self) -> None:
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head.clear()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head.close()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head.set(HEAD_TIME, self.transport.close)


class GracefulServer(uvicorn.Server):
    """uvicorn's, which ends by returning: what its owner does then is not cut off by the signal, raised once more."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._captured_signals.clear()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises UsageError for an address that can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"can't listen on {host}:{port}: {reason}", hint="choose another: --port 0 takes a free one"
        ) from None
    return listener


def make_server(app: Any) -> GracefulServer:
    """A server for an ASGI application; `server.run(sockets=[…])` or `await server.serve(sockets=[…])`."""
    return GracefulServer(_config(app))


def connections(app: Any) -> Callable[[], asyncio.Protocol]:
    """What answers a connection that was accepted elsewhere, on the loop it is called on."""
    config, state = _config(app), ServerState()
    return lambda: BoundedProtocol(config, state, {})


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        interface="asgi3",
        access_log=False,
        proxy_headers=False,  # nobody stands between: what a request says of where it comes from isn't believed
        log_config=None,
        server_header=False,
        timeout_keep_alive=IDLE_TIME,
        timeout_graceful_shutdown=GRACE,
    )
