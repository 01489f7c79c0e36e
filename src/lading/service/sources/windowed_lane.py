"""A lane whose batches belong to tumbling windows: each is told the state so far, and the last invoke of a window its end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lading.service.queue.event import Result
from lading.service.sources import stream_rules as rules
from lading.service.sources.lane import Around, Done, Lane, first_of
from lading.service.sources.mapping import SourceMapping
from lading.service.sources.stream_records import StreamRecord
from lading.service.sources.windows import Turn, Window, of_one_window, read_state, window_of

log = logging.getLogger("lading.service")


class WindowedLane(Lane):
    """The only lane of its shard."""

    def __init__(self, mapping: SourceMapping, shard: str, around: Around, done: Done) -> None:
        super().__init__(mapping, shard, around, done)
        self._seconds = mapping.tumbling
        self._window: Window | None = None

    @property
    def kept(self) -> dict[str, Any] | None:
        """The open window, as it is kept with the position."""
        return None if self._window is None else {"start": self._window.start, "state": self._window.state}

    def resume(self, kept: dict[str, Any]) -> None:
        """The window that was open when reading stopped."""
        self._window = Window(float(kept["start"]), self._seconds, kept["state"])

    async def run(self) -> None:
        while True:
            batch = await self._gather(self._window.over if self._window else float("inf"))
            if self._stopping.is_set():
                return
            if self._window and (not batch or window_of(batch[0], self._seconds).start != self._window.start):
                await self._close(self._window)
            if batch:
                await self._work(batch)
            elif self._ended and not self._waiting:
                return

    def _fitting(self) -> int:
        waiting = list(self._waiting)
        return rules.fitting(waiting[: of_one_window(waiting, self._seconds)], self._mapping)

    async def _invoke(self, records: Sequence[StreamRecord]) -> Result:
        window = self._window or window_of(records[0], self._seconds)
        result = await self._call(window, records)
        if result.refused or result.function_error:
            return result
        state = read_state(result.payload)
        if state is None:
            return replace(result, function_error="Unhandled")
        self._window = replace(window, state=state)
        return result

    async def _work(self, batch: tuple[StreamRecord, ...]) -> None:
        await super()._work(batch)
        if self._window is not None and self._window.too_large and not self._stopping.is_set():
            await self._close(self._window, early=True)

    async def _call(
        self, window: Window, records: Sequence[StreamRecord] = (), *, final: bool = False, early: bool = False
    ) -> Result:
        turn = Turn(window, self._shard, self._mapping.source, final, early)
        return await self._around.invoke(self._mapping, turn.event(records), "")

    async def _close(self, window: Window, *, early: bool = False) -> None:
        """The final invoke; what fails is tried again as batches are, and holds the shard up."""
        most, failures, waits = int(self._mapping.settings["MaximumRetryAttempts"]), 0, 0
        while not self._stopping.is_set():
            result = await self._call(window, final=True, early=early)
            failed = result.refused or bool(result.function_error)
            await self._around.tell("PROBLEM: Function call failed" if failed else "OK")
            failures += bool(result.function_error) and not result.refused
            if not failed or 0 <= most < failures:
                if failed:
                    log.error("the end of a window of %s is given up", self._mapping.source)
                self._window = None
                await self._done(())
                return
            due = self._around.clock.now() + rules.backoff(waits)
            waits += 1
            await first_of(self._stopping.wait(), self._around.clock.wait_until(due))
