"""The queue at work: accepts events, tries them when they are due, and sends what their ends ask for. One event loop.

Accepted means committed. What blocks runs on one thread of its own, writes gathered into one transaction per turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from lading.service.clock import Clock
from lading.service.lineage import is_loop
from lading.service.queue import rules
from lading.service.queue.event import Config, Delivery, QueuedEvent, Result
from lading.service.queue.records import deliveries
from lading.service.queue.store import QueueStore

IN_WORK = 32
"""Events of one function tried at once: enough to fill this machine, few enough to keep in memory."""
SEND_TRIES = 8
"""For a message to a destination; then it is given up, with a line in the service's log."""
log = logging.getLogger("lading.service")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Plan:
    """A function at the moment of an attempt."""

    config: Config
    dead_letters: str = ""
    reserved: int | None = None
    recursion_allowed: bool = False


class Functions(Protocol):
    """What the queue asks of the rest of the service."""

    async def plan(self, event: QueuedEvent) -> Plan | None:
        """None when the function isn't there any more."""
        ...

    async def attempt(self, event: QueuedEvent) -> Result: ...


Send = Callable[[QueuedEvent, Delivery], Awaitable[None]]
Count = Callable[[str, QueuedEvent], None]
"""Takes the name of a metric of CloudWatch's, and the event that counts for it."""


class Queue:
    """`accept` from the loop that runs `start`; `close` when done."""

    def __init__(
        self,
        store: QueueStore,
        functions: Functions,
        send: Send,
        clock: Clock,
        count: Count = lambda metric, event: None,
    ) -> None:
        self._store = store
        self._functions = functions
        self._send = send
        self._clock = clock
        self._tell = count
        self._thread = ThreadPoolExecutor(1, "queue")
        self._working: dict[str, set[str]] = {}
        """Lane → ids of its events in work."""
        self._lanes: set[str] = set()
        """Lanes that may have something due."""
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._main: asyncio.Task[None] | None = None
        self._changes: list[tuple[list[QueuedEvent], list[str], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._closing = False

    async def start(self) -> None:
        """Take up what an earlier process left."""
        self._lanes = set(await self._ask(self._store.lanes))
        self._main = asyncio.create_task(self._run())

    async def accept(self, event: QueuedEvent) -> None:
        """Returns when the event is committed."""
        await self._change([event], [])
        self._tell("AsyncEventsReceived", event)
        self._look(event.lane)

    async def count(self) -> int:
        """Events that are kept, those in work included."""
        return await self._ask(self._store.count)

    async def close(self) -> None:
        """What is being tried finishes; the rest waits for the next start."""
        self._closing = True
        if self._main is not None:
            self._main.cancel()
            await asyncio.gather(self._main, return_exceptions=True)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writing is not None:
            await self._writing
        self._thread.shutdown()
        self._store.close()

    # Looking

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            soonest = await self._look_at_lanes()
            await self._clock.wait_for(self._wake, soonest)

    async def _look_at_lanes(self) -> float:
        """Start what is due and has room; returns when to look again."""
        soonest = self._clock.now() + 3600.0
        for lane in list(self._lanes):
            working = self._working.setdefault(lane, set())
            room = IN_WORK - len(working)
            if room <= 0:
                continue
            busy = frozenset(working)
            now = self._clock.now()
            for event in await self._ask(lambda: self._store.due(lane, now, room, without=busy)):  # noqa: B023
                working.add(event.id)
                self._spawn(event)
            following = await self._ask(lambda: self._store.next_due(lane, frozenset(working)))  # noqa: B023
            if following is None:
                if not working:
                    self._lanes.discard(lane)
            elif len(working) < IN_WORK:
                soonest = min(soonest, following)
        return soonest

    def _look(self, lane: str) -> None:
        self._lanes.add(lane)
        self._wake.set()

    def _spawn(self, event: QueuedEvent) -> None:
        task = asyncio.create_task(self._work(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Working

    async def _work(self, event: QueuedEvent) -> None:
        try:
            if not event.deliveries:
                ended = await self._try(event)
                if ended is None:
                    return
                event = ended
            await self._deliver(event)
        except Exception:
            log.exception("the queued event %s could not be worked on; it is tried again later", event.id)
            due = self._clock.now() + rules.backoff(event.refusals)
            await self._change([replace(event, refusals=event.refusals + 1, due=due)], [])
        finally:
            self._working[event.lane].discard(event.id)
            if not self._closing:
                self._look(event.lane)

    async def _try(self, event: QueuedEvent) -> QueuedEvent | None:
        """One attempt; the event with what it is to send, committed, or None when there is nothing (more) to do now."""
        plan = await self._functions.plan(event)
        if plan is None:
            await self._change([], [event.id])
            return None
        decision: rules.Decision | None = rules.before(event, plan.config, plan.reserved, self._clock.now())
        if decision is None and is_loop(event.lineage, event.scope.function_arn(event.name)):
            decision = None if plan.recursion_allowed else rules.Ended(rules.LOOP, None, event.attempts)
        if decision is None:
            self._tell("AsyncEventAge", event)
            result = await self._functions.attempt(event)
            decision = rules.after(event, result, plan.config, self._clock.now())
        if isinstance(decision, rules.Retry):
            await self._change([decision.event], [])
            return None
        if decision.condition != rules.SUCCESS:
            looped = decision.condition == rules.LOOP
            self._tell("RecursiveInvocationsDropped" if looped else "AsyncEventsDropped", event)
        sending = deliveries(event, decision, plan.config, plan.dead_letters, self._clock.now())
        if not sending:
            await self._change([], [event.id])
            return None
        ended = replace(event, deliveries=sending, refusals=0, due=self._clock.now())
        await self._change([ended], [])
        return ended

    async def _deliver(self, event: QueuedEvent) -> None:
        """Send the first of what is left; each is committed as sent before the next."""
        while event.deliveries:
            first, *rest = event.deliveries
            try:
                await self._send(event, first)
            except Exception as error:
                self._tell("DestinationDeliveryFailures" if first.kind == "record" else "DeadLetterErrors", event)
                if event.refusals + 1 < SEND_TRIES:
                    due = self._clock.now() + rules.backoff(event.refusals)
                    await self._change([replace(event, refusals=event.refusals + 1, due=due)], [])
                    return
                log.error("the %s of %s for %s is given up: %s", first.kind, event.id, first.arn, error)
            event = replace(event, deliveries=tuple(rest), refusals=0)
            await self._change([event] if rest else [], [] if rest else [event.id])

    # Storing

    async def _change(self, put: list[QueuedEvent], removed: list[str]) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changes.append((put, removed, done))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await done

    async def _write(self) -> None:
        while self._changes:
            batch, self._changes = self._changes, []
            put = [event for events, _, _ in batch for event in events]
            removed = [identity for _, ids, _ in batch for identity in ids]
            try:
                await self._ask(lambda: self._store.change(put, removed))  # noqa: B023
            except Exception as error:
                for _, _, done in batch:
                    done.set_exception(error)
            else:
                for _, _, done in batch:
                    if not done.done():
                        done.set_result(None)

    async def _ask(self, question: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, question)
