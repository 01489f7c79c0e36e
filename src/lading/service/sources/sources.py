"""Keeps a poller for each enabled event source mapping, and the mappings' states as they truly are. One event loop; the state is
read and written beside it."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from lading.service.clock import Clock
from lading.service.contract.errors import ApiError
from lading.service.control.control import Control, Origin
from lading.service.control.event_sources import KIND, POSITION, patterns
from lading.service.control.invocation import Invoker, InvokeRequest, check_invocable
from lading.service.control.names import LATEST, Scope, read_reference
from lading.service.events import EventStream, StreamRead
from lading.service.identity import new_trace, request_id
from lading.service.lineage import extend_trace, is_loop, read_lineage
from lading.service.neighbours.neighbours import Neighbours
from lading.service.queue.event import Result
from lading.service.sources.discards import Discards
from lading.service.sources.lane import Around
from lading.service.sources.mapping import SourceMapping
from lading.service.sources.pattern import Filters
from lading.service.sources.positions import StatePositions
from lading.service.sources.queue_client import NeighbourQueue
from lading.service.sources.sqs import QueuePoller
from lading.service.sources.stream_client import NeighbourStream
from lading.service.sources.stream_records import Discarded
from lading.service.sources.streams import StreamPoller
from lading.service.state import Key

THREADS = 256
"""For calls that wait: a queue's poller waits in one all the time."""
_VOLATILE = ("State", "StateTransitionReason", "LastModified", "LastProcessingResult", "tags")
log = logging.getLogger("lading.service")


class Poller(Protocol):
    """Reads one source. `begin` comes first: what comes into the source from then on is read. `run` returns some time after
    `stop`, when what is at work is finished."""

    async def begin(self) -> None: ...

    async def run(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class _Running:
    poller: Poller
    task: asyncio.Task[None]
    made_of: dict[str, Any]


@dataclass(frozen=True)
class Service:
    """What sources need of the service."""

    control: Control
    invoker: Invoker | None
    """None: functions are kept and not run, and nothing is read for them."""
    neighbours: Neighbours
    clock: Clock
    events: EventStream


class Sources:
    """`start` on the invoker's loop, `close` before the invoker."""

    def __init__(self, service: Service, discards: Discards) -> None:
        self._service = service
        self._control = control = service.control
        self._invoker = service.invoker
        self._discards = discards
        self._threads = ThreadPoolExecutor(THREADS, "sources")
        self._running: dict[Key, _Running] = {}
        self._locks: dict[Key, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        control.watch_sources(self._changed)

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for key in await asyncio.to_thread(self._control.state.keys_of, KIND):
            self._adjust_soon(key)

    async def close(self) -> None:
        self._loop = None
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for running in self._running.values():
            running.poller.stop()
        await asyncio.gather(*(running.task for running in self._running.values()), return_exceptions=True)
        self._threads.shutdown()

    def _changed(self, key: Key) -> None:
        """From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._adjust_soon, key)

    def _adjust_soon(self, key: Key) -> None:
        if self._loop is not None:
            task = self._loop.create_task(self._adjust(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _adjust(self, key: Key) -> None:
        """Bring a mapping's poller to what its record says, then its state to what was done."""
        async with self._locks.setdefault(key, asyncio.Lock()):
            document = await asyncio.to_thread(self._control.state.get, key)
            wanted = (
                _made_of(document) if document and document["_enabled"] and document["State"] != "Deleting" else None
            )
            running = self._running.get(key)
            if running is not None and running.made_of != wanted:
                del self._running[key]
                running.poller.stop()
                await asyncio.gather(running.task, return_exceptions=True)
                running = None
            if wanted is not None and running is None and self._invoker is not None:
                await self._begin(key, wanted)
            if document is None:
                del self._locks[key]
            else:
                runs = self._invoker is not None
                await self._control.run_beside(lambda: _settle(self._control, key, document, runs=runs))

    async def _begin(self, key: Key, document: dict[str, Any]) -> None:
        mapping = make_mapping(key, document)
        poller: Poller
        if mapping.kind == "sqs":
            name = mapping.source.rpartition(":")[2]
            queue = NeighbourQueue(self._service.neighbours, mapping.source_scope, name, self._threads)
            poller = QueuePoller(mapping, queue, self._invoke, self._loops)
        else:
            stream = NeighbourStream(self._service.neighbours, mapping, self._threads)
            positions = StatePositions(self._control.state, key, self._threads)
            poller = StreamPoller(mapping, stream, self._around(key, mapping), positions)
        await poller.begin()
        task = asyncio.create_task(poller.run())
        task.add_done_callback(_report)
        self._running[key] = _Running(poller, task, document)

    def _around(self, key: Key, mapping: SourceMapping) -> Around:
        arn = mapping.scope.function_arn(mapping.function.name)
        told = ""

        async def role() -> str:
            try:
                choice = await self._control.choose(Origin(mapping.scope, ""), mapping.function)
            except ApiError:
                return ""  # the function is gone
            return str(choice.pick().configuration["Role"])

        async def discard(shard: str, discarded: Discarded) -> None:
            await self._discards.tell(mapping, shard, discarded)

        def note(shard: str, records: int, age: float) -> None:
            self._service.events.append(StreamRead(time.time(), arn, mapping.source, shard, records, age))

        async def tell(result: str) -> None:
            nonlocal told
            if result != told:
                told = result
                await self._control.run_beside(lambda: _note_result(self._control, key, result))

        return Around(self._service.clock, self._invoke, role, discard, note, tell)

    async def _loops(self, mapping: SourceMapping, trace: str) -> bool:
        """Whether a message came out of too long a chain of the mapping's function."""
        name = mapping.function.name
        if not is_loop(read_lineage(trace), mapping.scope.function_arn(name)):
            return False
        return not await self._control.may_recur(mapping.scope, name)

    async def _invoke(self, mapping: SourceMapping, event: bytes, trace: str) -> Result:
        scope, version = mapping.scope, LATEST
        try:
            target = (await self._control.choose(Origin(scope, ""), mapping.function)).pick()
            version = target.version
            check_invocable(target)
            request = InvokeRequest(
                target=target,
                request_id=request_id(),
                event=event,
                invoked_arn=scope.function_arn(mapping.function.name, mapping.function.qualifier),
                trace_id=extend_trace(trace or new_trace(), target.arn),
                asynchronous=True,
            )
            assert self._invoker is not None
            answer = await self._invoker.invoke(request)
        except ApiError:
            return Result(version=version, refused=True)
        return Result(answer.payload, answer.function_error, version)


def make_mapping(key: Key, document: dict[str, Any]) -> SourceMapping:
    """The value of a mapping's record."""
    scope = Scope(key.account, key.region)
    function = read_reference(scope, document["FunctionArn"])
    return SourceMapping(scope, key.name, document["EventSourceArn"], function, Filters(patterns(document)), document)


def _made_of(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in _VOLATILE}


def _note_result(control: Control, key: Key, result: str) -> None:
    with control.state.transaction():
        document = control.state.get(key)
        if document is not None:
            control.state.put(key, document | {"LastProcessingResult": result}, position=document["_position"])


def _settle(control: Control, key: Key, seen: dict[str, Any], *, runs: bool) -> None:
    """The state that follows from what was done; nothing when the mapping changed meanwhile: another turn comes for that."""
    with control.state.transaction():
        document = control.state.get(key)
        if document is None or _made_of(document) != _made_of(seen) or document["State"] != seen["State"]:
            return
        if document["State"] == "Deleting":
            control.state.delete(key)
            control.state.delete_children(Key(key.account, key.region, POSITION, key.name))
            return
        state = "Enabled" if document["_enabled"] and runs else "Disabled"
        if document["State"] != state:
            control.state.put(key, document | {"State": state}, position=document["_position"])


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("an event source is no longer read", exc_info=error)
