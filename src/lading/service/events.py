"""One append-only stream of what happens: logs, dashboard, metrics and tests read the same thing. Keeps the newest."""

from __future__ import annotations

import asyncio
import contextlib
import threading
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


@value
class AsyncEvent:
    """An event of the asynchronous queue counts for a metric of CloudWatch's: AsyncEventsReceived, AsyncEventAge (it is tried),
    AsyncEventsDropped, RecursiveInvocationsDropped, DeadLetterErrors, DestinationDeliveryFailures."""

    time: float
    function: str
    request_id: str
    metric: str
    age: float
    """Since it was accepted, in milliseconds of the service's clock."""


@value
class ImageChanged:
    """A lazily loaded image is "ready" (converted), "mounted" or "unmounted". `duration`: what that took, in milliseconds."""

    time: float
    image: str
    """ "sha256:…" of its manifest."""
    account: str
    """Whose function it is for."""
    state: str
    duration: float


Event = (
    LogLine | EnvironmentChanged | InvocationEnded | Throttled | StreamRead | DeliveryFailed | AsyncEvent | ImageChanged
)
KINDS: tuple[type[Event], ...] = (
    LogLine, EnvironmentChanged, InvocationEnded, Throttled, StreamRead, DeliveryFailed, AsyncEvent, ImageChanged,
)  # fmt: skip
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


class Announcer:
    """Appends events of other threads to a stream of a loop. Those from before its start wait for it."""

    def __init__(self, events: EventStream) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._early: list[Event] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """On the stream's loop."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            early, self._early = self._early, []
        for event in early:
            self._events.append(event)

    def tell(self, event: Event) -> None:
        """From any thread. What happens when the loop has ended is nobody's news."""
        with self._lock:
            if self._loop is None:
                self._early.append(event)
            else:
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._events.append, event)
