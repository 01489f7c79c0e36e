"""A stream as its poller sees it: shards, places in them, pages of records. Values, and the protocol of who reads."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Protocol

from lading.service.sources.stream_records import Raw


class Place(enum.StrEnum):
    """Where reading begins, by the names of GetShardIterator."""

    BEGINNING = "TRIM_HORIZON"
    END = "LATEST"
    SINCE = "AT_TIMESTAMP"
    AFTER = "AFTER_SEQUENCE_NUMBER"


@dataclass(frozen=True)
class Start:
    """A place in a shard. `since`: seconds since the epoch. `window`: the one that was open there."""

    place: Place
    sequence: str = ""
    since: float = 0.0
    window: dict[str, Any] | None = field(default=None, hash=False)


@dataclass(frozen=True)
class Shard:
    """`parents` are read to their end before it."""

    identity: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stream:
    """`identity` tells it from another one of its name; records are kept for `retention` seconds."""

    identity: str
    retention: float
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class Page:
    """What one look gave; `following` is None at the end of a shard that is closed."""

    records: list[Raw]
    following: str | None


class StreamClient(Protocol):
    """One stream. Raises LookupError or what its client raises when it can't be had."""

    async def describe(self) -> Stream: ...

    async def place(self, shard: str, start: Start) -> str:
        """An iterator."""
        ...

    async def read(self, iterator: str, limit: int) -> Page: ...


Position = dict[str, Any]
"""How far a shard was read: `stream` (identity), and `sequence` (all before and with it is done), `since` or neither
(from its beginning); `done`: to its end. `window`: the tumbling window that is open there, `start` and `state`."""


class Positions(Protocol):
    """A mapping's positions, kept over a kill."""

    async def all(self) -> dict[str, Position]:
        """By shard."""
        ...

    async def put(self, shard: str, position: Position) -> None: ...

    async def forget(self) -> None: ...
