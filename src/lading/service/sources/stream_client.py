"""A stream among the neighbours, for its poller. What blocks runs on the threads it is given."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from lading.service.neighbours.moto import forget_iterator
from lading.service.neighbours.neighbours import Neighbours
from lading.service.sources.mapping import SourceMapping
from lading.service.sources.stream_records import Raw
from lading.service.sources.stream_source import Page, Place, Shard, Start, Stream

DAY = 86_400.0
"""Seconds that DynamoDB keeps a stream's records."""
_PAGE = {"kinesis": 10_000, "dynamodb": 1_000}
"""Records of one GetRecords."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class NeighbourStream:
    """The `StreamClient` over Kinesis or DynamoDB Streams."""

    neighbours: Neighbours
    mapping: SourceMapping
    threads: Executor

    async def describe(self) -> Stream:
        return await self._ask(self._kinesis if self.mapping.kind == "kinesis" else self._dynamodb)

    async def place(self, shard: str, start: Start) -> str:
        return await self._ask(lambda: self._iterator(shard, start))

    async def read(self, iterator: str, limit: int) -> Page:
        return await self._ask(lambda: self._read(iterator, limit))

    def _kinesis(self) -> Stream:
        client, name = self._client(), self._name()
        summary = client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        shards: list[Shard] = []
        wanted: dict[str, Any] = {"StreamName": name}
        while True:
            answer = client.list_shards(**wanted)
            shards += [_shard(found) for found in answer["Shards"]]
            if not answer.get("NextToken"):
                break
            wanted = {"NextToken": answer["NextToken"]}
        retention = float(summary["RetentionPeriodHours"]) * 3600
        return Stream(str(summary["StreamCreationTimestamp"].timestamp()), retention, tuple(shards))

    def _dynamodb(self) -> Stream:
        client, arn = self._client(), self.mapping.source
        shards: list[Shard] = []
        wanted = {"StreamArn": arn}
        while True:
            found = client.describe_stream(**wanted)["StreamDescription"]
            if found["StreamLabel"] != arn.rpartition("/")[2]:
                raise LookupError("the table has another stream by now")
            shards += [_shard(shard) for shard in found["Shards"]]
            if not found.get("LastEvaluatedShardId"):
                return Stream(found["StreamLabel"], DAY, tuple(shards))
            wanted["ExclusiveStartShardId"] = found["LastEvaluatedShardId"]

    def _iterator(self, shard: str, start: Start) -> str:
        kinesis = self.mapping.kind == "kinesis"
        wanted: dict[str, Any] = {"StreamName": self._name()} if kinesis else {"StreamArn": self.mapping.source}
        wanted |= {"ShardId": shard, "ShardIteratorType": start.place}
        if start.place is Place.AFTER:
            wanted["StartingSequenceNumber" if kinesis else "SequenceNumber"] = start.sequence
        elif start.place is Place.SINCE and kinesis:
            wanted["Timestamp"] = dt.datetime.fromtimestamp(start.since, dt.UTC)
        elif start.place is Place.SINCE:
            wanted["ShardIteratorType"] = Place.BEGINNING  # the reader leaves out what is older
        return str(self._client().get_shard_iterator(**wanted)["ShardIterator"])

    def _read(self, iterator: str, limit: int) -> Page:
        kind = self.mapping.kind
        answer = self._client().get_records(ShardIterator=iterator, Limit=max(1, min(limit, _PAGE[kind])))
        if kind == "dynamodb" and kind not in self.neighbours.elsewhere:
            forget_iterator(self.mapping.source_scope, iterator)
        records: list[Raw] = answer["Records"]
        return Page(records, answer.get("NextShardIterator"))

    def _client(self) -> Any:
        service = "kinesis" if self.mapping.kind == "kinesis" else "dynamodbstreams"
        return self.neighbours.client(service, self.mapping.source_scope)

    def _name(self) -> str:
        return self.mapping.source.rpartition("/")[2]

    async def _ask(self, question: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, question)


def _shard(found: dict[str, Any]) -> Shard:
    parents = (found.get("ParentShardId"), found.get("AdjacentParentShardId"))
    return Shard(found["ShardId"], tuple(parent for parent in parents if parent))
