"""A whole service, put together: what `lading serve` runs, and what tests run beside themselves."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lading.errors import UsageError
from lading.service.control.control import MEMORY, Control, open_control
from lading.service.engine import PoolInvoker, Walls
from lading.service.events import EventStream
from lading.service.front.app import Front
from lading.service.front.function_urls import FunctionUrls
from lading.service.front.gate import Gate, is_loopback
from lading.service.front.lambda_api import LambdaApi
from lading.service.front.own import OwnRoutes
from lading.service.front.server import bind, make_server


@dataclass(frozen=True)
class Settings:
    """How to serve. `keys` (access key id → secret) are required beyond loopback; given, signatures are verified."""

    host: str = "127.0.0.1"
    port: int = 4566
    state: Path | str = MEMORY
    keys: Mapping[str, str] | None = None
    hosts: frozenset[str] = frozenset()
    """Further names that requests may have in Host and Origin."""
    walls: Walls | None = field(default_factory=Walls)
    """How environments are made; None: functions are kept and not run."""


def make_front(control: Control, settings: Settings) -> Front:
    """The application of a control plane. Raises UsageError for an open address without keys."""
    local = is_loopback(settings.host)
    if not local and not settings.keys:
        raise UsageError(
            f"{settings.host} can be reached from other machines, so every request must be signed",
            hint="name the keys that may sign: --keys FILE (one ACCESS_KEY_ID:SECRET a line)",
        )
    gate = Gate(settings.hosts, any_host=not local)
    invoker = PoolInvoker(control, EventStream(), settings.walls) if settings.walls is not None else None
    closing = (invoker.close,) if invoker is not None else ()
    urls = FunctionUrls(control, invoker, settings.keys)
    return Front({"lambda": LambdaApi(control, invoker)}, OwnRoutes(control), urls, gate, settings.keys, closing)


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """A service on a thread of its own while the context lasts; its URL. Everything it accepted is kept when it ends."""
    control = open_control(settings.state)
    with contextlib.closing(control), contextlib.closing(bind(settings.host, settings.port)) as listener:
        server = make_server(make_front(control, settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        port = listener.getsockname()[1]
        thread.start()
        try:
            yield f"http://{settings.host}:{port}"
        finally:
            server.should_exit = True
            thread.join()
