"""The port: a bound socket, and uvicorn's server over it, which makes the connections, begins and ends."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from lading.errors import UsageError
from lading.service.front.connection import Connection

PREFERENCE = -10
"""The nice value of the loop's thread."""
log = logging.getLogger("lading.service")
GRACE = 10
"""Seconds that requests under way have to finish."""


class GracefulServer(uvicorn.Server):
    """uvicorn's, which ends by returning: what its owner does then is not cut off by the signal, raised once more."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._captured_signals.clear()


def prefer_loop() -> None:
    """To be called on the thread that the loop will run on: it comes before what it has woken. All functions wait for it, and
    each that it hands an event to would else take its processor away. Other threads and processes stay as they are."""
    try:
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PREFERENCE)
    except (AttributeError, PermissionError):
        log.debug("the loop has no preference: not on Linux, or not permitted")


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
    return lambda: Connection(config, state, {})


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        loop="uvloop",
        ws="none",
        lifespan="on",
        interface="asgi3",
        access_log=False,
        proxy_headers=False,  # nobody stands between: what a request says of where it comes from isn't believed
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
