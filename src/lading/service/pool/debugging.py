"""A debugger for a function that runs here: debugpy beside AWS's client, and a relay from a port of this machine to it.

Nothing of the artifact changes. Environments have networks of their own: their first process hands out connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.errors import LadingError, SandboxError
from lading.model.project import Source
from lading.model.target import Target
from lading.sandbox.host import Host
from lading.sandbox.spec import Debugger
from lading.service.pool.custom_runtime import CustomRuntime
from lading.service.pool.runtime_folder import RuntimeParts, installed

if TYPE_CHECKING:
    from lading.model.progress import Progress
    from lading.store import Store

REQUIREMENT = "debugpy>=1.8,<2"
PORT = 5678
"""Where it waits inside, and by default on this machine: debugpy's own default."""
RETRY = 0.05
"""Seconds until the environment is asked again for a debugger that isn't there yet."""
PIECE = 65_536


class DebugError(LadingError):
    """A debugger was asked for where there can't be one."""

    exit_code = 2


@dataclass(frozen=True)
class Address:
    """Where a debugger connects to."""

    host: str = "127.0.0.1"
    port: int = PORT

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def find_debugger(
    target: Target | CustomRuntime,
    parts: RuntimeParts,
    paths: Sequence[tuple[str, str]],
    store: Store,
    progress: Progress,
) -> Debugger:
    """Installed once per runtime. Raises DebugError, DownloadError."""
    if isinstance(target, CustomRuntime) or parts.interpreter is None:
        raise DebugError(f"no debugger for runtime {parts.name}", hint="leave out --debug")
    folder = installed((REQUIREMENT,), target, parts.interpreter, store, progress)
    return Debugger(folder, PORT, tuple(paths))


def free_port() -> int:
    """Free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def path_pairs(own: Sequence[Source], layers: Sequence[Source]) -> tuple[tuple[str, str], ...]:
    """Folders of the user's own files, and where they are inside: /var/task and /opt."""
    places = [(source.root, "/var/task") for source in own] + [(source.root, "/opt") for source in layers]
    return tuple((str(root if root.is_dir() else root.parent), inside) for root, inside in places)


async def open_relay(address: Address, host: Host) -> asyncio.Server:
    """Listens for debuggers and leads each to the environment that was started last. Raises DebugError."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection(sock=await _reach(host))
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))

    try:
        return await asyncio.start_server(relay, address.host, address.port)
    except OSError as error:
        raise DebugError(
            f"can't wait for a debugger at {address}: {error.strerror or error}",
            hint="try: --debug-address 127.0.0.1:5679",
        ) from error


async def _reach(host: Host) -> socket.socket:
    """A connection to the debugger inside, as soon as it is there."""
    while True:
        for box in host.live[-1:]:
            with contextlib.suppress(SandboxError):
                return await asyncio.to_thread(box.connect, box.spec.debugger.port if box.spec.debugger else PORT)
        await asyncio.sleep(RETRY)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
