"""One append-only stream of what happens: logs, dashboard, metrics and tests read the same thing. Keeps the newest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from lading.model.value import value

KEPT = 10_000
"""Events that a late reader can still see."""


@value
class LogLine:
    """A line of a log stream, without its end. `source`: "platform", "function" or "extension"."""

    time: float
    """Seconds since the epoch."""
    function: str
    """ARN without qualifier."""
    stream: str
    text: str
    source: str
    request_id: str = ""
    group: str = ""
    """The log group; empty: /aws/lambda/NAME."""


@value
class EnvironmentChanged:
    """An execution environment entered a state: "starting", "ready", "busy", "frozen", "resetting", "stopped"."""

    time: float
    function: str
    environment: str
    state: str


@value
class InvocationEnded:
    """An invoke phase is over. Times in milliseconds, memory in MB."""

    time: float
    function: str
    environment: str
    request_id: str
    status: str
    duration: float
    billed: int
    init: float | None
    memory: int


@value
class Throttled:
    """A call found no room. `reason` is AWS's."""

    time: float
    function: str
    request_id: str
    reason: str


@value
class StreamRead:
    """A batch of a stream goes to a function. `age`: how long ago its last record came into the stream, in milliseconds."""

    time: float
    function: str
    source: str
    """ARN of the stream."""
    shard: str
    records: int
    age: float


@value
class DeliveryFailed:
    """What a bucket, topic, rule or schedule had for a function reached none. `reason`: RESOURCE_NOT_FOUND, NO_PERMISSIONS, …"""

    time: float
    function: str
    source: str
    """ARN of who sent it."""
    reason: str


Event = LogLine | EnvironmentChanged | InvocationEnded | Throttled | StreamRead | DeliveryFailed
KINDS: tuple[type[Event], ...] = (LogLine, EnvironmentChanged, InvocationEnded, Throttled, StreamRead, DeliveryFailed)
BUT_LOGS: tuple[type[Event], ...] = KINDS[1:]


class EventStream:
    """Append, follow, look back. Used from one event loop only."""

    def __init__(self, kept: int = KEPT) -> None:
        self._events: deque[tuple[int, Event]] = deque(maxlen=kept)
        self._followers: dict[type[Event], list[Callable[[Any], None]]] = {kind: [] for kind in KINDS}
        self._next = 0

    def append(self, event: Event) -> None:
        self._events.append((self._next, event))
        self._next += 1
        for follower in self._followers[type(event)]:
            follower(event)

    def follow(self, follower: Callable[[Any], None], kinds: tuple[type[Event], ...] = KINDS) -> Callable[[], None]:
        """Call `follower` with every event of these kinds from now on; returns what ends it."""
        for kind in kinds:
            self._followers[kind].append(follower)

        def end() -> None:
            for kind in kinds:
                self._followers[kind].remove(follower)

        return end

    def since(self, number: int = 0) -> Iterator[tuple[int, Event]]:
        """Kept events from a number on, with their numbers."""
        return ((at, event) for at, event in list(self._events) if at >= number)
