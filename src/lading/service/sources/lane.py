"""Records that stay in order: makes batches of them, tries them, and gives up what the mapping says to give up.

A shard has as many lanes as the mapping's ParallelizationFactor. One event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from lading.service.clock import Clock
from lading.service.queue.event import Result
from lading.service.sources import stream_rules as rules
from lading.service.sources.mapping import Invoke, SourceMapping
from lading.service.sources.stream_records import Discarded, StreamRecord, make_event


@dataclass(frozen=True)
class Around:
    """What reading a stream needs of the service."""

    clock: Clock
    invoke: Invoke
    role: Callable[[], Awaitable[str]]
    """ARN of the function's role today."""
    discard: Callable[[str, Discarded], Awaitable[None]]
    """Tell the mapping's destination what of a shard was given up."""
    note: Callable[[str, int, float], None]
    """A batch goes to the function: its shard, number of records, and the age of the last in milliseconds."""
    tell: Callable[[str], Awaitable[None]]
    """Note LastProcessingResult."""


Done = Callable[[Sequence[StreamRecord]], Awaitable[None]]


class Lane:
    """`put` records, `end` where no more come; `run` returns when all are through, or soon after `stop`."""

    def __init__(self, mapping: SourceMapping, shard: str, around: Around, done: Done) -> None:
        self._mapping = mapping
        self._shard = shard
        self._around = around
        self._done = done
        self._waiting: deque[StreamRecord] = deque()
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended = False
        self.oldest = float("inf")
        """Seconds after which a record is given up."""

    def put(self, record: StreamRecord) -> None:
        self._waiting.append(record)
        self._changed.set()

    def end(self) -> None:
        self._ended = True
        self._changed.set()

    def stop(self) -> None:
        self._stopping.set()
        self._changed.set()

    async def run(self) -> None:
        while batch := await self._gather():
            await self._work(batch)

    async def _gather(self, until: float = float("inf")) -> tuple[StreamRecord, ...]:
        """The next batch: full, or what has come within the window of its first record; () at the end, and when there is none
        until that moment."""
        mapping, clock = self._mapping, self._around.clock
        while not self._waiting and not self._ended:
            if self._stopping.is_set() or clock.now() >= until:
                return ()
            self._changed.clear()
            if until == float("inf"):
                await self._changed.wait()
            else:
                await first_of(self._changed.wait(), clock.wait_until(until))
        due = clock.now() + mapping.window
        while not self._ended and not self._stopping.is_set() and clock.now() < due:
            if len(self._waiting) >= mapping.batch_size or self._fitting() < len(self._waiting):
                break
            self._changed.clear()
            await first_of(self._changed.wait(), clock.wait_until(due))
        if self._stopping.is_set():
            return ()
        return tuple(self._waiting.popleft() for _ in range(self._fitting()))

    def _fitting(self) -> int:
        """How many of those that wait make one batch."""
        return rules.fitting(list(self._waiting), self._mapping)

    async def _invoke(self, records: Sequence[StreamRecord]) -> Result:
        return await self._around.invoke(self._mapping, make_event(records), "")

    async def _work(self, batch: tuple[StreamRecord, ...]) -> None:
        left, waits = deque([rules.Try(batch)]), 0
        while left and not self._stopping.is_set():
            now = self._around.clock.now()
            old, attempt = rules.without_old(left.popleft(), self.oldest, now)
            if old is not None:
                await self._discard(old)
            if not attempt.records:
                continue
            age = max(0.0, now - attempt.records[-1].arrived)
            self._around.note(self._shard, len(attempt.records), age * 1000)
            result = await self._invoke(attempt.records)
            outcome = rules.after(attempt, result, self._mapping)
            await self._around.tell(_told(result, outcome))
            await self._done(outcome.done)
            if outcome.discarded is not None:
                await self._discard(outcome.discarded)
            left.extendleft(reversed(outcome.again))
            if outcome.wait:
                due = self._around.clock.now() + rules.backoff(waits)
                await first_of(self._stopping.wait(), self._around.clock.wait_until(due))
            waits = waits + 1 if outcome.wait else 0

    async def _discard(self, discarded: Discarded) -> None:
        await self._around.discard(self._shard, discarded)
        await self._done(discarded.records)


def _told(result: Result, outcome: rules.Outcome) -> str:
    failed = result.refused or result.function_error or outcome.again or outcome.discarded
    return "PROBLEM: Function call failed" if failed else "OK"


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return with the first, and end the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
