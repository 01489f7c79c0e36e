"""Tumbling windows: state that a function hands on from batch to batch of a shard, until the window's end. Pure.

Source: Lambda Developer Guide, "Implementing stateful Kinesis Data Streams processing in Lambda" and its DynamoDB counterpart.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lading.service.sources.stream_records import StreamRecord

MOST_STATE = 1_048_576
"""Bytes of a state; one that is larger ends its window early."""
GRACE = 120.0
"""Seconds without records after which a window that is past counts as over."""


@dataclass(frozen=True)
class Window:
    """Times in seconds since the epoch, as the stream counts them. `ahead`: what the service's clock is ahead of that."""

    start: float
    seconds: int
    state: dict[str, Any] = field(default_factory=dict, hash=False)
    ahead: float = 0.0

    @property
    def over(self) -> float:
        """When nothing more is waited for, on the service's clock."""
        return self.start + self.seconds + self.ahead + GRACE

    @property
    def too_large(self) -> bool:
        return len(json.dumps(self.state, ensure_ascii=False).encode()) > MOST_STATE


def window_of(record: StreamRecord, seconds: int) -> Window:
    """The window that a record belongs to, with no state yet."""
    start = math.floor(record.created / seconds) * seconds
    return Window(float(start), seconds, ahead=record.arrived - record.created)


def of_one_window(records: Sequence[StreamRecord], seconds: int) -> int:
    """How many records from the first on are of its window."""
    starts = [math.floor(record.created / seconds) for record in records]
    return next((at for at, start in enumerate(starts) if start != starts[0]), len(starts))


@dataclass(frozen=True)
class Turn:
    """What an invoke is told of its window."""

    window: Window
    shard: str
    source: str
    """ARN of the stream."""
    final: bool = False
    early: bool = False

    def event(self, records: Sequence[StreamRecord]) -> bytes:
        around = {
            "window": {"start": _moment(self.window.start), "end": _moment(self.window.start + self.window.seconds)},
            "state": self.window.state,
            "shardId": self.shard,
            "eventSourceARN": self.source,
            "isFinalInvokeForWindow": self.final,
            "isWindowTerminatedEarly": self.early,
        }
        rest = json.dumps(around, separators=(",", ":"), ensure_ascii=False).encode()
        return b'{"Records":[' + b",".join(record.text for record in records) + b"]," + rest[1:]


def read_state(payload: bytes) -> dict[str, Any] | None:
    """The state that a function answers with; None, a failed invoke, for an answer without one."""
    try:
        answer = json.loads(payload or b"null")
    except (ValueError, RecursionError):
        return None
    state = answer.get("state") if isinstance(answer, dict) else None
    return state if isinstance(state, dict) else None


def _moment(seconds: float) -> str:
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
