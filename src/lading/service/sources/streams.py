"""Reads a stream for a function: finds its shards, gives each a reader, and its children one when it is at its end.

Source: Lambda Developer Guide, "Using Lambda with Kinesis" and "Using Lambda with DynamoDB Streams".
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from lading.service.sources.lane import Around, first_of
from lading.service.sources.mapping import SourceMapping
from lading.service.sources.shard import ShardReader
from lading.service.sources.stream_rules import pause_after
from lading.service.sources.stream_source import Place, Position, Positions, Shard, Start, Stream, StreamClient

LOOK = 10.0
"""Seconds between looks for new shards."""
log = logging.getLogger("lading.service")


@dataclass(frozen=True)
class _Running:
    reader: ShardReader
    task: asyncio.Task[bool]


class StreamPoller:
    """`begin`: from then on no record is missed. `run` until `stop`: batches at work are finished then."""

    def __init__(self, mapping: SourceMapping, client: StreamClient, around: Around, positions: Positions) -> None:
        self._mapping = mapping
        self._client = client
        self._around = around
        self._positions = positions
        self._known: dict[str, Position] = {}
        self._iterators: dict[str, str] = {}
        """Of shards that are to be read from their end, as it was at the first look."""
        self._running: dict[str, _Running] = {}
        self._begun = False
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        """A shard came to its end."""

    async def begin(self) -> None:
        try:
            await self._begin()
        except Exception as error:
            log.warning("%s can't be read for a function: %s", self._mapping.source, error)

    async def run(self) -> None:
        troubles = 0
        while not self._stopping.is_set():
            pause = LOOK
            self._ended.clear()
            try:
                if not self._begun:
                    await self._begin()
                await self._look()
                troubles = 0
            except Exception as error:
                troubles += 1
                if troubles == 1:
                    log.warning("%s can't be read for a function: %s", self._mapping.source, error)
                pause = pause_after(troubles)
            await first_of(self._stopping.wait(), self._ended.wait(), asyncio.sleep(pause))
        await self._end_readers()

    def stop(self) -> None:
        self._stopping.set()
        for running in self._running.values():
            running.reader.stop()

    async def _begin(self) -> None:
        """Find out where to read on, or settle where to begin."""
        self._known = await self._positions.all()
        if not self._known:
            stream = await self._client.describe()
            for shard in stream.shards:
                await self._settle(stream, shard)
        self._begun = True

    async def _settle(self, stream: Stream, shard: Shard) -> None:
        """The mapping's StartingPosition, for a shard of the first look."""
        settings = self._mapping.settings
        place = Place(settings["StartingPosition"])
        position: Position = {"stream": stream.identity}
        if place is Place.END:
            self._iterators[shard.identity] = await self._client.place(shard.identity, Start(place))
            position["since"] = time.time()
        elif place is Place.SINCE:
            position["since"] = float(settings["StartingPositionTimestamp"])
        await self._keep(shard.identity, position)

    async def _keep(self, shard: str, position: Position) -> None:
        await self._positions.put(shard, position)
        self._known[shard] = position

    async def _look(self) -> None:
        """Readers for all shards that can be read now."""
        stream = await self._client.describe()
        if any(position["stream"] != stream.identity for position in self._known.values()):
            log.warning("%s is another stream by that name: it is read from its beginning", self._mapping.source)
            await self._end_readers()
            await self._positions.forget()
            self._known.clear()
            self._iterators.clear()
        there = {shard.identity for shard in stream.shards}
        for shard in stream.shards:
            if shard.identity in self._running or self._known.get(shard.identity, {}).get("done"):
                continue
            if all(self._known.get(parent, {}).get("done") for parent in shard.parents if parent in there):
                await self._read(stream, shard.identity)

    async def _read(self, stream: Stream, shard: str) -> None:
        if shard not in self._known:  # it came after the first look: all of it is new
            await self._keep(shard, {"stream": stream.identity})
        reader = ShardReader(self._mapping, shard, self._client, self._around, self._positions)
        begin, iterator = _start(self._known[shard]), self._iterators.pop(shard, None)
        task = asyncio.create_task(reader.run(stream.identity, stream.retention, begin, iterator))
        self._running[shard] = _Running(reader, task)
        task.add_done_callback(lambda task: self._over(shard, stream.identity, task))

    def _over(self, shard: str, stream: str, task: asyncio.Task[bool]) -> None:
        running = self._running.get(shard)
        if self._stopping.is_set() or task.cancelled() or running is None or running.task is not task:
            return  # ended on purpose
        if error := task.exception():
            log.error("a shard is no longer read; it is taken up again", exc_info=error)
        elif not task.result():
            return
        closing = asyncio.create_task(self._close(shard, stream, ended=error is None))
        if error is None:
            closing.add_done_callback(lambda _: self._ended.set())
        self._running[shard] = _Running(running.reader, closing)

    async def _close(self, shard: str, stream: str, *, ended: bool) -> bool:
        if ended:
            await self._keep(shard, {"stream": stream, "done": True})
        else:
            self._known = await self._positions.all()
        self._running.pop(shard, None)
        return ended

    async def _end_readers(self) -> None:
        readers, self._running = list(self._running.values()), {}
        for running in readers:
            running.reader.stop()
        await asyncio.gather(*(running.task for running in readers), return_exceptions=True)


def _start(position: Position) -> Start:
    if "sequence" in position:
        return Start(Place.AFTER, position["sequence"], window=position.get("window"))
    if "since" in position:
        return Start(Place.SINCE, since=position["since"])
    return Start(Place.BEGINNING)
