"""The stream poller over a stream in memory: parents before children, restarts, troubles, and that no record is lost."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lading.service.clock import Clock
from lading.service.control.names import FunctionReference, Scope
from lading.service.queue.event import Result
from lading.service.sources import stream_source as source
from lading.service.sources.lane import Around
from lading.service.sources.mapping import SourceMapping
from lading.service.sources.pattern import Filters
from lading.service.sources.stream_records import Discarded
from lading.service.sources.streams import StreamPoller


@dataclass
class MemoryShard:
    """Data in order; the sequence number of a record is its place."""

    parents: tuple[str, ...] = ()
    data: list[str] = field(default_factory=list)
    open: bool = True
    moments: dict[str, float] = field(default_factory=dict)
    """When records came, in seconds since the epoch; now where it isn't said."""


@dataclass
class MemoryStream:
    """A `StreamClient`: iterators are "shard number"."""

    shards: dict[str, MemoryShard]
    identity: str = "first"
    troubles: int = 0
    """Reads that fail before one doesn't."""

    async def describe(self) -> source.Stream:
        shards = tuple(source.Shard(name, shard.parents) for name, shard in self.shards.items())
        return source.Stream(self.identity, 86_400.0, shards)

    async def place(self, shard: str, start: source.Start) -> str:
        end = len(self.shards[shard].data)
        at = {source.Place.AFTER: int(start.sequence or 0) + 1, source.Place.END: end}.get(start.place, 0)
        return f"{shard} {at}"

    async def read(self, iterator: str, limit: int) -> source.Page:
        if self.troubles:
            self.troubles -= 1
            raise ConnectionError("not now")
        name, _, text = iterator.partition(" ")
        shard, at = self.shards[name], int(text)
        found = shard.data[at : at + limit]
        records = [
            {
                "SequenceNumber": str(at + n), "PartitionKey": data, "Data": data.encode(),
                "ApproximateArrivalTimestamp": dt.datetime.fromtimestamp(shard.moments.get(data, time.time()), dt.UTC),
            }
            for n, data in enumerate(found)
        ]  # fmt: skip
        ended = not shard.open and at + len(found) == len(shard.data)
        return source.Page(records, None if ended else f"{name} {at + len(found)}")


class MemoryPositions:
    """`Positions` that outlive a poller."""

    def __init__(self) -> None:
        self.kept: dict[str, source.Position] = {}

    async def all(self) -> dict[str, source.Position]:
        return dict(self.kept)

    async def put(self, shard: str, position: source.Position) -> None:
        self.kept[shard] = position

    async def forget(self) -> None:
        self.kept.clear()


class Reading:
    """A poller at work, and what its function got."""

    def __init__(self, stream: MemoryStream, positions: MemoryPositions, **settings: Any) -> None:
        defaults = {
            "BatchSize": 2, "FunctionResponseTypes": [], "BisectBatchOnFunctionError": False, "MaximumRetryAttempts": -1,
            "MaximumBatchingWindowInSeconds": 0, "ParallelizationFactor": 1, "MaximumRecordAgeInSeconds": -1,
            "StartingPosition": "TRIM_HORIZON", "TumblingWindowInSeconds": 0,
        }  # fmt: skip
        scope = Scope("000000000000", "eu-west-1")
        arn = "arn:aws:kinesis:eu-west-1:000000000000:stream/s"
        mapping = SourceMapping(scope, "u", arn, FunctionReference("f"), Filters([]), defaults | settings)
        self.clock = Clock()
        self.got: list[str] = []
        self.around: list[dict[str, Any]] = []
        """What else was in each event."""
        self.answer: Callable[[list[str]], Result] = lambda texts: Result(b"null")
        self.discarded: list[Discarded] = []
        needs = Around(self.clock, self._invoke, self._role, self._discard, lambda *_: None, self._tell)
        self.poller = StreamPoller(mapping, stream, needs, positions)

    async def __aenter__(self) -> Reading:
        await self.poller.begin()
        self._task = asyncio.create_task(self.poller.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.poller.stop()
        await asyncio.wait_for(self._task, 30)

    async def until(self, condition: Callable[[], bool], *, step: float = 0.0) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, (self.got, self.discarded)
            if step:
                self.clock.step(step)
            await asyncio.sleep(0.01)

    async def _invoke(self, mapping: SourceMapping, event: bytes, trace: str) -> Result:
        whole = json.loads(event)
        texts = [base64.b64decode(record["kinesis"]["data"]).decode() for record in whole.pop("Records")]
        self.got += texts
        self.around.append(whole)
        return self.answer(texts)

    async def _role(self) -> str:
        return "arn:aws:iam::000000000000:role/r"

    async def _discard(self, shard: str, discarded: Discarded) -> None:
        self.discarded.append(discarded)

    async def _tell(self, result: str) -> None:
        pass


def test_children_come_after_all_of_their_parents() -> None:
    async def check() -> None:
        shards = {
            "a": MemoryShard(data=["a0", "a1", "a2"], open=False),
            "b": MemoryShard(data=["b0"]),
            "c": MemoryShard(("a", "b"), ["c0"]),
            "orphan": MemoryShard(("long gone",), ["o0"]),
        }
        async with Reading(MemoryStream(shards), MemoryPositions()) as reading:
            await reading.until(lambda: len(reading.got) == 5)
            assert "c0" not in reading.got
            shards["b"].data.append("b1")
            shards["b"].open = False
            await reading.until(lambda: len(reading.got) == 7)
        assert reading.got[-2:] == ["b1", "c0"]

    asyncio.run(check())


def test_from_its_end_and_what_came_while_nobody_read() -> None:
    async def check() -> None:
        shard, positions = MemoryShard(data=["old"]), MemoryPositions()
        stream = MemoryStream({"a": shard})
        async with Reading(stream, positions, StartingPosition="LATEST") as reading:
            shard.data.append("one")
            await reading.until(lambda: reading.got == ["one"])
            await reading.until(lambda: positions.kept["a"].get("sequence") == "1")
        shard.data.append("two")
        stream.shards["new"] = MemoryShard(data=["three"])
        async with Reading(stream, positions, StartingPosition="LATEST") as again:
            await again.until(lambda: sorted(again.got) == ["three", "two"])
            stream.identity, stream.shards = "second", {"a": MemoryShard(data=["other"])}
        async with Reading(stream, positions, StartingPosition="LATEST") as last:
            await last.until(lambda: last.got == ["other"])

    asyncio.run(check())


def test_stopped_amid_retries_nothing_is_lost_and_troubles_pass() -> None:
    async def check() -> None:
        positions = MemoryPositions()
        stream = MemoryStream({"a": MemoryShard(data=["0", "1", "2", "3"])}, troubles=1)
        async with Reading(stream, positions) as reading:
            reading.answer = lambda texts: Result(b"", "Unhandled") if "2" in texts else Result(b"null")
            await reading.until(lambda: reading.got.count("2") >= 3, step=1.0)
        assert positions.kept["a"]["sequence"] == "1" and not reading.discarded
        async with Reading(stream, positions) as again:
            again.answer = lambda texts: Result(refused=True) if len(again.got) < 5 else Result(b"null")
            await again.until(lambda: positions.kept["a"]["sequence"] == "3", step=1.0)
        assert again.got == ["2", "3"] * 3

    asyncio.run(check())


def test_a_lane_that_fails_holds_back_only_its_keys_and_the_position() -> None:
    async def check() -> None:
        positions, data = MemoryPositions(), [str(at) for at in range(40)]
        stream = MemoryStream({"a": MemoryShard(data=data)})
        async with Reading(stream, positions, ParallelizationFactor=10, MaximumRecordAgeInSeconds=60) as reading:
            reading.answer = lambda texts: Result(b"", "Unhandled") if "7" in texts else Result(b"null")
            await reading.until(lambda: len(set(reading.got)) > 30)
            assert int(positions.kept["a"].get("sequence", -1)) < 7
            await reading.until(lambda: bool(reading.discarded), step=20.0)
            await reading.until(lambda: positions.kept["a"].get("sequence") == "39", step=20.0)
        given_up = [record.sequence for one in reading.discarded for record in one.records]
        assert "7" in given_up and reading.discarded[0].condition == "RecordAgeExceeded"

    asyncio.run(check())


def test_a_window_fills_a_batch_and_the_clock_ends_it() -> None:
    async def check() -> None:
        shard = MemoryShard(data=["0"])
        stream = MemoryStream({"a": shard})
        async with Reading(stream, MemoryPositions(), MaximumBatchingWindowInSeconds=300, BatchSize=3) as reading:
            batches: list[int] = []
            reading.answer = lambda texts: batches.append(len(texts)) or Result(b"null")  # type: ignore[func-returns-value]
            shard.data += ["1", "2", "3"]
            await reading.until(lambda: batches == [3])
            await reading.until(lambda: batches == [3, 1], step=100.0)

    asyncio.run(check())


def counting(reading: Reading) -> Callable[[list[str]], Result]:
    """A function that counts in its window's state, the windows' ends too."""

    def answer(texts: list[str]) -> Result:
        state = reading.around[-1]["state"]
        return Result(json.dumps({"state": {"count": state.get("count", 0) + len(texts)}}).encode())

    return answer


def test_tumbling_windows_hand_their_state_on_and_end() -> None:
    """By a later record, by the clock two minutes after their end, and with their shard."""
    start = (time.time() // 60 + 5) * 60  # ahead, so that no window is past before its records were read
    moments = {"a": start, "b": start + 1, "c": start + 59, "d": start + 60, "e": start + 300}
    stream = MemoryStream({"s": MemoryShard((), list("abc"), moments=moments)})

    async def run() -> None:
        async with Reading(stream, MemoryPositions(), TumblingWindowInSeconds=60) as reading:
            reading.answer = counting(reading)
            await reading.until(lambda: len(reading.got) == 3)
            assert not any(turn["isFinalInvokeForWindow"] for turn in reading.around)
            stream.shards["s"].data += list("de")
            await reading.until(lambda: len(reading.around) >= 6)
            stream.shards["s"].open = False
            await reading.until(lambda: len(reading.around) == 7)
            counts = [(turn["state"].get("count", 0), turn["isFinalInvokeForWindow"]) for turn in reading.around]
            assert counts == [(0, False), (2, False), (3, True), (0, False), (1, True), (0, False), (1, True)]
            moment = dt.datetime.fromtimestamp(start, dt.UTC)
            first, last = reading.around[0], reading.around[-1]
            assert first["window"] == {
                "start": f"{moment:%Y-%m-%dT%H:%M:00Z}", "end": f"{moment + dt.timedelta(minutes=1):%Y-%m-%dT%H:%M:00Z}",
            }  # fmt: skip
            assert (first["shardId"], first["eventSourceARN"].rpartition("/")[2]) == ("s", "s")
            assert (
                not any(turn["isWindowTerminatedEarly"] for turn in reading.around)
                and last["window"] != first["window"]
            )

    asyncio.run(run())


def test_a_window_ends_by_the_clock() -> None:
    start = time.time() // 900 * 900 + 900
    stream = MemoryStream({"s": MemoryShard((), ["a"], moments={"a": start})})

    async def run() -> None:
        async with Reading(stream, MemoryPositions(), TumblingWindowInSeconds=900) as reading:
            reading.answer = counting(reading)
            await reading.until(lambda: reading.got == ["a"])
            reading.clock.step(start + 900 + 60 - reading.clock.now())
            await asyncio.sleep(0.05)
            assert len(reading.around) == 1, "two minutes are left for late records"
            reading.clock.step(70)
            await reading.until(lambda: len(reading.around) == 2)
            assert reading.around[1]["isFinalInvokeForWindow"] and reading.around[1]["state"] == {"count": 1}

    asyncio.run(run())


def test_a_window_goes_on_after_a_restart() -> None:
    moments = dict.fromkeys("abc", time.time() // 900 * 900 + 900)
    stream, positions = MemoryStream({"s": MemoryShard((), ["a", "b"], moments=moments)}), MemoryPositions()

    async def run() -> None:
        async with Reading(stream, positions, TumblingWindowInSeconds=900) as reading:
            reading.answer = counting(reading)
            await reading.until(lambda: "window" in positions.kept["s"])
        assert positions.kept["s"]["window"]["state"] == {"count": 2}
        stream.shards["s"].data.append("c")
        async with Reading(stream, positions, TumblingWindowInSeconds=900) as reading:
            reading.answer = counting(reading)
            await reading.until(lambda: reading.got == ["c"])
            assert reading.around[0]["state"] == {"count": 2}
            await reading.until(lambda: len(reading.around) == 2, step=300)
            assert reading.around[1]["state"] == {"count": 3}
            await reading.until(lambda: "window" not in positions.kept["s"])

    asyncio.run(run())


def test_an_answer_without_state_failed_and_one_that_is_too_large_ends_its_window() -> None:
    stream = MemoryStream({"s": MemoryShard((), ["a"])})

    async def run() -> None:
        async with Reading(stream, MemoryPositions(), TumblingWindowInSeconds=900, MaximumRetryAttempts=1) as reading:
            answers = [b"null", b'{"state": 3}', json.dumps({"state": {"big": "x" * 1_048_576}}).encode(), b"{}"]
            reading.answer = lambda texts: Result(answers[min(len(reading.around), 4) - 1])
            await reading.until(lambda: len(reading.discarded) == 1, step=5)
            assert [record.sequence for record in reading.discarded[0].records] == ["0"]
            stream.shards["s"].data.append("b")
            await reading.until(lambda: len(reading.around) == 4)
            final = reading.around[3]
            assert (
                final["isFinalInvokeForWindow"]
                and final["isWindowTerminatedEarly"]
                and len(final["state"]["big"]) == 2**20
            )

    asyncio.run(run())
