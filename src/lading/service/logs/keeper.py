"""Takes the functions' lines from the event stream and writes them in batches, beside the event loop."""

from __future__ import annotations

import asyncio
import functools
import time
from concurrent.futures import ThreadPoolExecutor

from lading.service.control.names import Scope
from lading.service.events import EventStream, LogLine
from lading.service.logs.store import Entry, LogStore

PAUSE = 0.05
"""Seconds that a line waits for others."""
EXPIRY = 3600.0
"""Seconds between looks for what retention has ended."""


class LogKeeper:
    """From `start` on every line is kept; `close` writes what is left."""

    def __init__(self, store: LogStore, events: EventStream) -> None:
        self.store = store
        self._events = events
        self._waiting: list[LogLine] = []
        self._thread = ThreadPoolExecutor(1, "logs")
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._expired = time.monotonic()

    async def start(self) -> None:
        self._events.follow(self._on_line, (LogLine,))

    async def flush(self) -> None:
        """Everything that was logged up to now can be read."""
        while self._waiting or self._writing is not None:
            if self._writing is None:
                self._write()
            assert self._writing is not None
            await asyncio.shield(self._writing)

    async def close(self) -> None:
        await self.flush()
        self._thread.shutdown()
        self.store.close()

    def _on_line(self, line: LogLine) -> None:
        self._waiting.append(line)
        if self._timer is None and self._writing is None:
            self._write_soon()

    def _write_soon(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PAUSE, self._write)

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_batch())

    async def _write_batch(self) -> None:
        """What waits, in one transaction. What comes meanwhile waits for the next, and a moment for others: a transaction costs
        as much as many lines."""
        loop = asyncio.get_running_loop()
        batch, self._waiting = self._waiting, []
        try:
            await loop.run_in_executor(self._thread, self._keep, batch)
            if time.monotonic() - self._expired > EXPIRY:
                self._expired = time.monotonic()
                await loop.run_in_executor(self._thread, self.store.expire, int(time.time() * 1000))
        finally:
            self._writing = None
            if self._waiting:
                self._write_soon()

    def _keep(self, lines: list[LogLine]) -> None:
        self.store.append([_entry(line) for line in lines], int(time.time() * 1000))


def _entry(line: LogLine) -> Entry:
    text = line.text if line.text.endswith("\n") else line.text + "\n"
    scope, group = _owner(line.function)
    return Entry(scope, line.group or group, line.stream, int(line.time * 1000), text)


@functools.lru_cache(1024)
def _owner(arn: str) -> tuple[Scope, str]:
    """Whose a function's log is, and the group it is in unless it has another."""
    _, _, _, region, account, _, name = arn.split(":", 6)
    return Scope(account, region), f"/aws/lambda/{name}"
