"""A host and a pool that outlast an invoke: what `lading invoke` runs in. Use from one event loop.

Knows nothing of projects or builds: it is given versions and events.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, TypeVar

from lading.sandbox.host import Host
from lading.sandbox.spec import Isolation
from lading.service.events import Event, EventStream
from lading.service.pool.debugging import Address, open_relay
from lading.service.pool.decisions import Settings
from lading.service.pool.function import SNAP_START, FunctionVersion, InvokeRequest, Outcome
from lading.service.pool.pool import Pool

SPARES = 4
"""Walls that stand ready for the next cold starts."""
_T = TypeVar("_T")


class Session:
    """An asynchronous context: environments live until it ends. `concurrency`: how many invokes run at once."""

    host: Host

    def __init__(
        self,
        isolation: Isolation,
        concurrency: int = 1,
        follow: Callable[[Event], None] | None = None,
        debug: Address | None = None,
    ) -> None:
        """`debug`: where a debugger reaches the environment started last."""
        self._isolation = isolation
        self._concurrency = concurrency
        self._debug = debug
        self._relay: asyncio.Server | None = None
        self._stream = EventStream()
        if follow is not None:
            self._stream.follow(follow)

    async def __aenter__(self) -> Session:
        spares, most = min(self._concurrency, SPARES), max(1000, self._concurrency)
        self.host = await asyncio.to_thread(lambda: Host(self._isolation, spares=spares))
        self._pool = Pool(self.host, self._stream, Settings(account=most, burst=most))
        if self._debug is not None:
            try:
                self._relay = await open_relay(self._debug, self.host)
            except BaseException:
                await asyncio.to_thread(self.host.close)
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After an error, an interrupt too, what still runs is ended at once."""
        if self._relay is not None:
            self._relay.close()
        try:
            await self._pool.close(now=error is not None)
        finally:
            await asyncio.to_thread(self.host.close)

    async def invoke(self, version: FunctionVersion, events: Sequence[bytes], count: int = 1) -> list[Outcome]:
        """Invoke so many times, with the events in turn; outcomes in order.

        Raises SandboxError; of a version with SnapStart also SnapshotError and RestoreError.
        """
        self._pool.reserve(version, self._concurrency)
        if version.initialization_type == SNAP_START:
            await self._pool.take_snapshot(version)
        else:
            await asyncio.to_thread(self.host.warm, version.spec)
        requests = [
            InvokeRequest(str(uuid.uuid4()), events[number % len(events)], trace_id=_trace()) for number in range(count)
        ]
        return list(await asyncio.gather(*(self._pool.invoke(version, one, queue=True) for one in requests)))

    def retire(self, version: FunctionVersion) -> None:
        """No environment of this version serves again."""
        self._pool.retire(version)


def run_in_loop(work: Coroutine[Any, Any, _T]) -> _T:
    """In a loop of uvloop's where it is installed: half the time per warm invoke."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _trace() -> str:
    """A trace id as X-Ray's, not sampled."""
    identity = uuid.uuid4().hex
    return f"Root=1-{int(time.time()):08x}-{identity[:24]};Parent={identity[16:]};Sampled=0"
