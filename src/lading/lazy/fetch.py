"""Brings chunks from the tiers behind the disk cache: each one once, however many wait; what a reader waits for comes first.

Every chunk is verified. A tier that has it damaged or not at all is followed by the next; then those who wait get an error,
at the latest after their patience. Nobody waits for ever.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lading.errors import DownloadError, LadingError
from lading.lazy.behind import WriteBehind
from lading.lazy.chunk import ChunkRecord, decode_chunk
from lading.lazy.disk_cache import DiskCache
from lading.lazy.fault import ChunkError, ObjectMissingError
from lading.lazy.metrics import Metrics

THREADS = 32
AHEAD_THREADS = 24
"""How many of them may work ahead of any reader (measured: 64 delay what is waited for)."""
RECENT_BYTES = 16 << 20
PATIENCE = 20.0
"""Seconds that a reader waits for a store that is down. Who comes later in the same outage waits for one attempt only."""
ATTEMPT_SECONDS = 10.0
"""Of one request to a tier."""
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)

Done = Callable[[bytes, LadingError | None], None]
"""(content, error): content counts where error is None."""


class ChunkUnavailableError(DownloadError):
    """No tier could give a chunk in time."""


class Tier(Protocol):
    """A place that has chunks as they are stored."""

    @property
    def name(self) -> str: ...

    def get(self, record: ChunkRecord, place: str, seconds: float) -> bytes:
        """Within that time. place: the key in the store of the folder that the chunk is in.

        Raises ObjectMissingError where it has none, LadingError or OSError where it can't be asked.
        """

    def offer(self, record: ChunkRecord, stored: bytes) -> None:
        """Something it lacked, found further away; keeps it or not, and returns at once."""


@dataclass(frozen=True)
class Origin:
    """Whose chunk it is: the folder of the store that it is in, and the image's number."""

    place: str
    reader: int


@dataclass
class Flight:
    """A chunk on its way."""

    record: ChunkRecord
    origin: Origin
    waiting: list[tuple[float, Done]] = field(default_factory=list)
    """Until when, and whom to tell."""
    urgent: bool = False
    taken: bool = False


class Fetcher:
    """Safe between threads. Threads start as they are needed and end with `close`."""

    def __init__(
        self,
        cache: DiskCache,
        tiers: Sequence[Tier],
        metrics: Metrics,
        patience: float = PATIENCE,
        *,
        step_back: int = 0,
    ) -> None:
        """step_back: added to the niceness of a thread while it works ahead of any reader."""
        self._cache = cache
        self._tiers = tiers
        self._metrics = metrics
        self._patience = patience
        self._niceness = os.getpriority(os.PRIO_PROCESS, 0)
        self._step_back = step_back
        self._condition = threading.Condition()
        self._flights: dict[bytes, Flight] = {}
        self._queue: list[tuple[int, int, Flight]] = []
        self._numbers = itertools.count()
        self._recent: OrderedDict[bytes, bytes] = OrderedDict()
        self._recent_bytes = 0
        self._behind = WriteBehind(cache, self._niceness + step_back)
        self._threads = 0
        self._idle = 0
        self._ahead = 0
        self._closed = False
        self._cores = threading.Semaphore(len(os.sched_getaffinity(0)))
        """For work ahead of readers: more threads at it at once only take the interpreter from those who answer."""
        self._ended = threading.Event()
        self._outages: dict[str, tuple[float, float]] = {}
        threading.Thread(target=self._watch, name="lazy-deadlines", daemon=True).start()

    def recent(self, name: bytes) -> bytes | None:
        """A chunk that has just come."""
        with self._condition:
            return self._in_memory(name)

    def fetch(self, record: ChunkRecord, origin: Origin, done: Done | None = None) -> None:
        """done: of somebody who waits; without it the chunk is brought into the cache when there is nothing more urgent."""
        if done is None and self._cache.has(record.name):
            return
        with self._condition:
            content = self._in_memory(record.name)
            if content is None and not self._closed:
                self._board(record, origin, done)
                return
        if done:
            done(content or b"", _unavailable(record, "the reader is closed") if content is None else None)

    def flush(self) -> None:
        """What came is in the disk cache, where that has room."""
        self._behind.flush()

    def close(self) -> None:
        """Those who wait get an error."""
        self._behind.close()
        with self._condition:
            self._closed = True
            self._ended.set()
            flights = list(self._flights.values())
            self._flights.clear()
            self._queue.clear()
            self._condition.notify_all()
        for flight in flights:
            for _, done in flight.waiting:
                done(b"", _unavailable(flight.record, "the reader is closed"))

    def _board(self, record: ChunkRecord, origin: Origin, done: Done | None) -> None:
        flight = self._flights.get(record.name)
        fresh = flight is None
        if flight is None:
            flight = self._flights[record.name] = Flight(record, origin)
        if done:
            flight.waiting.append((time.monotonic() + self._patience + ATTEMPT_SECONDS, done))
        more_urgent = done is not None and not flight.urgent and not flight.taken
        flight.urgent = flight.urgent or done is not None
        if fresh or more_urgent:
            heapq.heappush(self._queue, (0 if flight.urgent else 1, next(self._numbers), flight))
            if self._idle < len(self._queue) and self._threads < THREADS:
                self._threads += 1
                threading.Thread(target=self._work, name="lazy-fetch", daemon=True).start()
            self._condition.notify()

    def _take(self) -> Flight | None:
        """The next flight; None when there will be none any more."""
        with self._condition:
            while not self._closed:
                while self._queue and (self._queue[0][2].taken):
                    heapq.heappop(self._queue)
                if self._queue and (self._queue[0][0] == 0 or self._ahead < AHEAD_THREADS):
                    flight = heapq.heappop(self._queue)[2]
                    flight.taken = True
                    self._ahead += not flight.urgent
                    return flight
                self._idle += 1
                self._condition.wait()
                self._idle -= 1
            return None

    def _work(self) -> None:
        back = 0
        while (flight := self._take()) is not None:
            ahead = not flight.urgent
            if back != (back := self._step_back if ahead else 0):
                with contextlib.suppress(OSError):  # who may not go forth again stays back
                    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness + back)
            content, error = self._bring(flight)
            held = not error and self._behind.put(flight.record.name, content, flight.origin.reader)
            with self._condition:
                if not error:
                    self._keep_recent(flight.record.name, content)
                if self._flights.get(flight.record.name) is flight:
                    del self._flights[flight.record.name]
                waiting, flight.waiting = flight.waiting, []
                self._ahead -= ahead
                if ahead:
                    self._condition.notify()
            for _, done in waiting:
                done(content, error)
            if not error and not held:
                with self._turn(flight):
                    self._cache.put(flight.record.name, content, flight.origin.reader)

    def _turn(self, flight: Flight) -> contextlib.AbstractContextManager[object]:
        """Of a processor; at once for what somebody waits for."""
        return contextlib.nullcontext() if flight.urgent else self._cores

    def _bring(self, flight: Flight) -> tuple[bytes, LadingError | None]:
        record = flight.record
        lacking: list[Tier] = []
        why: list[str] = []
        for tier in self._tiers:
            try:
                content, stored = self._ask(tier, flight, last=tier is self._tiers[-1])
            except LadingError as error:
                why.append(f"{tier.name}: {error.message}")
                lacking.append(tier)
            except Exception as error:  # whatever it is: those who wait get an error, and this thread goes on
                why.append(f"{tier.name}: {type(error).__name__}: {error}")
            else:
                for nearer in lacking:
                    nearer.offer(record, stored)
                return content, None
        return b"", _unavailable(record, *why)

    def _ask(self, tier: Tier, flight: Flight, *, last: bool) -> tuple[bytes, bytes]:
        """(content, as stored) of a tier; the last one is asked again while there is hope. Raises its error."""
        record = flight.record
        deadline = time.monotonic() + self._patience
        corrupt = False
        for attempt in itertools.count():
            began = time.monotonic()
            try:
                stored = tier.get(record, flight.origin.place, ATTEMPT_SECONDS)
                with self._turn(flight):
                    content = decode_chunk(record, stored)
            except ObjectMissingError:
                self._metrics.count(tier.name, "misses")
                raise
            except ChunkError:
                self._metrics.count(tier.name, "corrupt")
                if corrupt or not last:
                    raise
                corrupt = True
            except (LadingError, OSError):
                self._metrics.count(tier.name, "failures")
                pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
                hope = min(deadline, self._outage_began(tier.name, began) + self._patience)
                if not last or self._closed or time.monotonic() + pause > hope:
                    raise
                time.sleep(pause)
            else:
                self._outages.pop(tier.name, None)
                self._metrics.hit(tier.name, len(stored), time.monotonic() - began)
                return content, stored
        raise AssertionError("unreachable")

    def _outage_began(self, name: str, now: float) -> float:
        """An outage ends with a success, or when nobody has asked for so long that it may be over."""
        first, last = self._outages.get(name, (now, now))
        if now - last > self._patience:
            first = now
        self._outages[name] = (first, now)
        return first

    def _in_memory(self, name: bytes) -> bytes | None:
        content = self._recent.get(name)
        return self._behind.get(name) if content is None else content

    def _keep_recent(self, name: bytes, content: bytes) -> None:
        if name in self._recent:
            return
        self._recent[name] = content
        self._recent_bytes += len(content)
        while self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= len(self._recent.popitem(last=False)[1])

    def _watch(self) -> None:
        """Those whose time is over get an error, whatever the tier is doing."""
        while not self._ended.wait(0.5):  # not on the condition: it would take a wake-up from a thread that works
            late: list[tuple[ChunkRecord, Done]] = []
            with self._condition:
                now = time.monotonic()
                for flight in self._flights.values():
                    late += [(flight.record, done) for until, done in flight.waiting if until < now]
                    flight.waiting = [(until, done) for until, done in flight.waiting if until >= now]
            for record, done in late:
                done(b"", _unavailable(record, "nothing came in time"))


def _unavailable(record: ChunkRecord, *why: str) -> ChunkUnavailableError:
    return ChunkUnavailableError(
        f"chunk {record.hex[:16]}… can't be fetched",
        details=why,
        hint="check that the store can be reached and is whole",
    )
