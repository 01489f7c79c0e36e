"""Serves one prepared function at a port until it is told to stop: `lading run`, without a service."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

from lading.errors import UsageError
from lading.sandbox.host import Host
from lading.service.events import Event, EventStream
from lading.service.front.gate import is_loopback
from lading.service.pool.emulator import Emulator, emulate
from lading.service.pool.function import FunctionVersion
from lading.service.pool.pool import Pool


class AddressTakenError(UsageError):
    """The port can't be listened on."""


@dataclass(frozen=True)
class Listening:
    """Where it listens, and who hears the function's log."""

    host: str
    listener: socket.socket
    follow: Callable[[Event], None]


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises AddressTakenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        reason = error.strerror or str(error)
        raise AddressTakenError(
            f"can't listen on {host}:{port}: {reason}", hint="choose another with --port or --host"
        ) from None


def serve_function(version: FunctionVersion, listening: Listening, ready: Callable[[], None]) -> None:
    """Until SIGINT or SIGTERM; nothing of the function runs after it. `ready` is called when requests are answered."""
    with asyncio.Runner() as runner:
        runner.run(_serve(version, listening, ready))


async def _serve(version: FunctionVersion, listening: Listening, ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stream = EventStream()
    stream.follow(listening.follow)
    host = await asyncio.to_thread(lambda: Host(version.spec.isolation, spares=1))
    pool = Pool(host, stream)
    try:
        await asyncio.to_thread(host.warm, version.spec)
        emulator = Emulator(pool, version, private=is_loopback(listening.host))
        loop.call_soon(ready)
        await emulate(listening.listener, emulator, stop)
    finally:
        try:
            await pool.close(now=True)
        finally:
            await asyncio.to_thread(host.close)
