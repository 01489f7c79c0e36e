"""Reads one shard from a place on, spreads its records over lanes, and keeps how far all of them are. One event loop."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import zlib
from collections import deque
from collections.abc import Sequence
from typing import Any

from lading.service.sources.lane import Around, Lane, first_of
from lading.service.sources.mapping import PAYLOAD, SourceMapping
from lading.service.sources.stream_records import StreamRecord, make_record
from lading.service.sources.stream_rules import pause_after
from lading.service.sources.stream_source import Place, Position, Positions, Start, StreamClient
from lading.service.sources.windowed_lane import WindowedLane

SOON, LATER = 0.2, 1.0
"""Seconds between looks at a shard that has something, and at one that had nothing for a while: as on AWS."""
READ_AT_ONCE = 1_000
MOST_BYTES = 4 * PAYLOAD
"""Of records that wait in a shard."""
log = logging.getLogger("lading.service")


class Ledger:
    """Which records are through, in any order, and the last one up to which all are."""

    def __init__(self) -> None:
        self._order: deque[StreamRecord] = deque()
        self._done: set[str] = set()
        self.size = 0
        """Bytes of the records that aren't."""

    def __len__(self) -> int:
        return len(self._order)

    def add(self, record: StreamRecord) -> None:
        self._order.append(record)
        self.size += len(record.text)

    def done(self, records: Sequence[StreamRecord]) -> str:
        """The sequence number up to which all are through by this; "" where that is no further than before."""
        self._done.update(record.sequence for record in records)
        reached = ""
        while self._order and self._order[0].sequence in self._done:
            first = self._order.popleft()
            self._done.discard(first.sequence)
            self.size -= len(first.text)
            reached = first.sequence
        return reached


class ShardReader:
    """`run` returns True at the end of a closed shard, False after `stop`, when what was at work is through."""

    def __init__(
        self, mapping: SourceMapping, shard: str, client: StreamClient, around: Around, positions: Positions
    ) -> None:
        self._mapping = mapping
        self._shard = shard
        self._client = client
        self._around = around
        self._positions = positions
        factor = int(mapping.settings["ParallelizationFactor"])
        self._windowed = WindowedLane(mapping, shard, around, self._through) if mapping.tumbling else None
        self._lanes = [self._windowed or Lane(mapping, shard, around, self._through) for _ in range(factor)]
        self._most = mapping.batch_size * factor + READ_AT_ONCE
        self._ledger = Ledger()
        self._stream = ""
        self._position: Position = {}
        """As it was last kept."""
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()
        self._writing = asyncio.Lock()

    def stop(self) -> None:
        self._stopping.set()
        self._room.set()
        for lane in self._lanes:
            lane.stop()

    async def run(self, stream: str, retention: float, start: Start, iterator: str | None = None) -> bool:
        """iterator: of `start`, where there is one already; then nothing after it is too old."""
        self._stream = stream
        if start.sequence:
            self._position = {"stream": stream, "sequence": start.sequence}
        if self._windowed is not None and start.window is not None:
            self._windowed.resume(start.window)
            self._position["window"] = start.window
        most = float(self._mapping.settings["MaximumRecordAgeInSeconds"])
        for lane in self._lanes:
            lane.oldest = retention if most < 0 else min(most, retention)
        lanes = [asyncio.create_task(lane.run()) for lane in self._lanes]
        for task in lanes:
            task.add_done_callback(self._stop_with)
        try:
            await self._read(start, iterator)
        finally:
            for lane in self._lanes:
                lane.end()
            results = await asyncio.gather(*lanes, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return not self._stopping.is_set()

    def _stop_with(self, lane: asyncio.Task[None]) -> None:
        if not lane.cancelled() and lane.exception() is not None:
            self.stop()

    async def _read(self, start: Start, iterator: str | None) -> None:
        """Until the shard's end, or `stop`."""
        place, pause, troubles = start, SOON, 0
        since = 0.0 if iterator else start.since
        while not self._stopping.is_set():
            await self._wait_for_room()
            try:
                iterator = iterator or await self._client.place(self._shard, place)
                page = await self._client.read(iterator, self._most - len(self._ledger))
                troubles = 0
            except Exception as error:
                troubles += 1
                if troubles == 1:
                    log.warning("%s of %s can't be read for a function: %s", self._shard, self._mapping.source, error)
                elif place.place is Place.AFTER and "Trimmed" in type(error).__name__:
                    place = Start(Place.BEGINNING)  # the stream doesn't keep so old records any more
                iterator = None
                await self._pause(pause_after(troubles))
                continue
            if page.records:
                await self._take(page.records, since)
                place = Start(Place.AFTER, self._sequence(page.records[-1]))
            if page.following is None:
                return
            iterator = page.following
            pause = SOON if page.records else min(LATER, pause * 1.5)
            if len(page.records) < READ_AT_ONCE:
                await self._pause(pause)

    async def _take(self, raws: list[dict[str, object]], since: float) -> None:
        role = await self._around.role() if self._mapping.kind == "kinesis" else ""  # DynamoDB's records don't name it
        ahead = self._around.clock.now() - time.time()
        passed = []
        for raw in raws:
            record = make_record(raw, self._mapping, self._shard, role, ahead)
            self._ledger.add(record)
            if record.created < math.floor(since) or not self._mapping.filters.take(record.matter):
                passed.append(record)
            else:
                self._lanes[zlib.crc32(record.key.encode()) % len(self._lanes)].put(record)
        async with self._writing:
            await self._keep(self._ledger.done(passed), self._position.get("window"))
        self._room.set()

    async def _through(self, records: Sequence[StreamRecord]) -> None:
        """A lane is done with these: keep how far that leads, and the state that counts them."""
        async with self._writing:
            await self._keep(self._ledger.done(records), self._windowed.kept if self._windowed is not None else None)
        self._room.set()

    async def _keep(self, reached: str, window: dict[str, Any] | None) -> None:
        position = {name: value for name, value in self._position.items() if name != "window"}
        position |= {"stream": self._stream, "sequence": reached} if reached else {}
        position |= {"window": window} if window is not None else {}
        if position != self._position and "sequence" in position:
            self._position = position
            await self._positions.put(self._shard, position)

    async def _wait_for_room(self) -> None:
        while not self._stopping.is_set() and (len(self._ledger) >= self._most or self._ledger.size > MOST_BYTES):
            self._room.clear()
            await self._room.wait()

    def _sequence(self, raw: dict[str, object]) -> str:
        inner = raw if self._mapping.kind == "kinesis" else raw["dynamodb"]
        assert isinstance(inner, dict)
        return str(inner["SequenceNumber"])

    async def _pause(self, seconds: float) -> None:
        await first_of(self._stopping.wait(), asyncio.sleep(seconds))
