"""Carries out what the scheduler decides: starts, runs and stops environments, answers requests. One event loop.

The only door for `front`, `control` and `queue`: `Pool.invoke`, `reserve`, `provision`, `retire`, `close`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace

from lading.errors import LadingError
from lading.runtimeapi.invocation import ShutdownReason
from lading.sandbox.host import Host
from lading.sandbox.spec import SandboxSpec
from lading.service.events import EventStream
from lading.service.pool.assign import Scheduler
from lading.service.pool.decisions import (
    PATIENCE,
    Allocation,
    Decision,
    Promise,
    Reason,
    Run,
    Settings,
    Start,
    Stop,
    Throttle,
)
from lading.service.pool.door import Door
from lading.service.pool.environment import Environment
from lading.service.pool.function import SNAP_START, Answer, FunctionVersion, InvokeRequest, Outcome
from lading.service.pool.snapshots import Means, Restored, Templates

TICK = 1.0
"""Seconds between looks at idle environments and waiting requests."""
SLOWEST_RETRY = 60.0
"""Seconds at most between attempts to make a provisioned environment that can't be made."""
INIT_FAILED = "FUNCTION_ERROR_INIT_FAILURE"


class ThrottledError(LadingError):
    """No environment may take the request now. `reason` is AWS's."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"Rate Exceeded: {reason.value}", hint="raise the concurrency limit, or call again later")
        self.reason = reason


@dataclass(frozen=True)
class Provisioned:
    """How far a version's provisioned environments are. `reason`: why one of them could not be had, or failed its init."""

    allocation: Allocation
    reason: str = ""


@dataclass
class _Flight:
    """A request between its arrival and the end of its invoke phase."""

    function: FunctionVersion
    request: InvokeRequest
    answered: Callable[[Answer], None] | None
    outcome: asyncio.Future[Outcome]


class Pool:
    """All environments of this service. Use from one event loop; close at the end."""

    def __init__(
        self,
        host: Host,
        events: EventStream,
        settings: Settings | None = None,
        *,
        report: Callable[[FunctionVersion, Provisioned], None] | None = None,
        door: Door | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`report` is told of provisioned environments whenever one of them started, failed or ended. `door`: for a host
        whose environments are served other services. `now`: the seconds that idle times and rates go by."""
        self._host = host
        self._door = door
        self._events = events
        self._report = report
        self._now = now
        self._means = Means(host, events, door)
        self._templates = Templates(self._means)
        self._scheduler = Scheduler(settings)
        self._flights: dict[str, _Flight] = {}
        self._keys: dict[FunctionVersion, str] = {}
        self._versions: dict[str, FunctionVersion] = {}
        self._numbers = itertools.count(1)
        self._reasons: dict[str, str] = {}
        """Version → why its provisioned environments are not what they should be."""
        self._failures: dict[str, int] = {}
        """Version → provisioned environments in a row that could not be made: each is tried later than the one before."""
        self._environments: dict[int, Environment] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stops: set[asyncio.Task[None]] = set()
        """Those of the tasks that end an environment."""
        self._promises: deque[tuple[float, Promise]] = deque()
        """When each is overdue, in order."""
        self._ticker: asyncio.TimerHandle | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Pool {self._scheduler!r}>"

    async def invoke(
        self,
        function: FunctionVersion,
        request: InvokeRequest,
        answered: Callable[[Answer], None] | None = None,
        *,
        queue: bool = False,
    ) -> Outcome:
        """Run a request in some environment. `answered` is called as soon as the caller has an answer; the outcome
        comes when the phase is over. `queue`: wait for room in place of ThrottledError. Request ids are unique.

        Raises ThrottledError, and SandboxError where an environment could not be made.
        """
        outcome = self.begin(function, request, answered, queue=queue)
        try:
            return await outcome
        except asyncio.CancelledError:
            self._scheduler.cancel(request.request_id, self._learn(function))
            self._flights.pop(request.request_id, None)
            raise

    def begin(
        self,
        function: FunctionVersion,
        request: InvokeRequest,
        answered: Callable[[Answer], None] | None = None,
        *,
        queue: bool = False,
    ) -> asyncio.Future[Outcome]:
        """As `invoke`, and at once: what it will come to. It goes on whether somebody waits for it or not."""
        identity = request.request_id
        if identity in self._flights:
            raise ValueError(f"request {identity} is in flight already")
        self._tick_on()
        key = self._learn(function)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._flights[identity] = _Flight(function, request, answered, outcome)
        metered = not queue and not request.asynchronous
        self._carry_out(self._scheduler.submit(identity, key, self._now(), queue=queue, metered=metered))
        return outcome

    def reserve(self, function: FunctionVersion, reserved: int | None) -> None:
        """What all versions of a version's function may use together; None: what its account and region have left."""
        now, share = self._now(), _share(function)
        self._carry_out(self._scheduler.reserve(function.arn, reserved, now, account=share))

    def provision(self, function: FunctionVersion, wanted: int) -> None:
        """Environments that a version has at all times; what is missing starts now."""
        self._tick_on()
        key = self._learn(function)
        self._reasons.pop(key, None)
        self._carry_out(self._scheduler.provision(key, wanted, self._now()))
        self._tell(key)

    def specs(self) -> list[SandboxSpec]:
        """Of everything that runs or is to run."""
        functions = [*self._versions.values(), *(flight.function for flight in self._flights.values())]
        return [one.spec for one in (*functions, *(living.function for living in self._environments.values()))]

    async def take_snapshot(self, function: FunctionVersion) -> None:
        """A version's init, once, and the template from which its environments are restored.

        Raises SnapshotError where the init fails, SandboxError where there can't be a template.
        """
        await self._templates.get(function)

    def retire(self, function: FunctionVersion) -> None:
        """Its code or configuration changed: no environment of the old value serves again, and its template goes."""
        self._templates.drop(function)
        key = self._keys.get(function)
        if key is not None:
            self._carry_out(self._scheduler.retire(key))

    async def close(self, *, now: bool = False) -> None:
        """End every environment, after the invokes that are under way; with `now` in the middle of them."""
        self._closed = True
        self._promises.clear()  # those that can still be kept are, without the timer
        for task in self._tasks - self._stops if now else ():  # what stops an environment is under way already
            task.cancel()
        if self._ticker is not None:
            self._ticker.cancel()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(environment.close() for environment in self._environments.values()))
        self._environments.clear()
        await self._templates.close()

    # Carrying out

    def _learn(self, function: FunctionVersion) -> str:
        """The scheduler's name of a version. Values that differ in anything, variables too, never share environments."""
        key = self._keys.get(function)
        if key is None:
            key = self._keys[function] = f"{function.qualified_arn}#{next(self._numbers)}"
            self._versions[key] = function
            self._scheduler.enter(key, function.arn, _share(function))
        elif self._versions[key] is not function:
            self._versions[key] = function  # an equal one, but the root of the one before may be given back by now
        return key

    def _tell(self, key: str) -> None:
        if self._report is not None and not self._closed and key in self._versions:
            state = Provisioned(self._scheduler.allocation(key), self._reasons.get(key, ""))
            self._report(self._versions[key], state)

    def _carry_out(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Run):
                self._spawn(self._run(decision.environment, decision.request))
            elif isinstance(decision, Start):
                self._spawn(self._start(decision))
            elif isinstance(decision, Promise):
                self._expect(decision)
            elif isinstance(decision, Stop):
                self._spawn_stop(decision.environment)
            else:
                self._throttle(decision)

    def _expect(self, promise: Promise) -> None:
        """It will be kept in a moment, or is overdue. One timer for as many as there are."""
        loop = asyncio.get_running_loop()
        self._promises.append((loop.time() + PATIENCE, promise))
        if len(self._promises) == 1:
            loop.call_later(PATIENCE, self._look_at_promises)

    def _look_at_promises(self) -> None:
        loop = asyncio.get_running_loop()
        while self._promises and self._promises[0][0] <= loop.time():
            _, promise = self._promises.popleft()
            self._carry_out(self._scheduler.overdue(promise.environment, promise.request, self._now()))
        if self._promises:
            loop.call_at(self._promises[0][0], self._look_at_promises)

    def _throttle(self, decision: Throttle) -> None:
        flight = self._flights.pop(decision.request, None)  # None: its caller gave up meanwhile
        if flight is not None and not flight.outcome.done():
            flight.outcome.set_exception(ThrottledError(decision.reason))

    async def _start(self, decision: Start) -> None:
        function = self._versions[decision.version]
        if decision.request is None:
            function = replace(function, initialization_type="provisioned-concurrency")
        environment = self._environment(function)
        self._environments[decision.environment] = environment
        try:
            await environment.start()
        except BaseException as error:
            if decision.request is None:
                self._reasons[decision.version] = str(error)
            self._lose(decision.environment, decision.request, error)
            return
        if decision.request is not None:
            await self._run(decision.environment, decision.request)
            return
        self._failures.pop(decision.version, None)
        if environment.failed:
            self._reasons[decision.version] = INIT_FAILED
        self._carry_out(self._scheduler.started(decision.environment, self._now()))
        self._tell(decision.version)

    def _environment(self, function: FunctionVersion) -> Environment:
        if function.initialization_type == SNAP_START:
            return Restored(function, self._means, self._templates)
        return Environment(function, self._host, self._events, self._door)

    async def _run(self, number: int, request_id: str) -> None:
        flight = self._flights.get(request_id)
        if flight is None:  # its caller gave up meanwhile
            self._carry_out(self._scheduler.finished(number, self._now()))
            return
        environment = self._environments[number]

        def answer(value: Answer) -> None:
            if environment.ends_with_answer and not value.error_type:
                self._scheduler.answered(number)
            if flight.answered is not None:
                flight.answered(value)

        try:
            outcome = await environment.invoke(flight.request, answer)
        except BaseException as error:
            self._lose(number, request_id, error)
            return
        self._flights.pop(request_id, None)
        if not flight.outcome.done():
            flight.outcome.set_result(outcome)
        if environment.spent:
            self._spawn(self._stop(number))
            self._gone(number)
            return
        self._carry_out(self._scheduler.finished(number, self._now()))

    def _lose(self, number: int, request_id: str | None, error: BaseException) -> None:
        """An environment could not start or broke: its request gets the error, nothing of it is used again."""
        flight = self._flights.pop(request_id, None) if request_id else None
        if flight is not None and not flight.outcome.done():
            flight.outcome.set_exception(error)
        self._spawn_stop(number)
        if request_id is not None:
            self._gone(number)
        elif not self._closed:  # a provisioned one: the scheduler will replace it, but not in a tight loop
            key = self._scheduler.version_of(number)
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            asyncio.get_running_loop().call_later(retry_pause(failures), self._gone, number)
            self._tell(key)

    def _gone(self, number: int) -> None:
        if not self._closed:
            self._carry_out(self._scheduler.finished(number, self._now(), alive=False))

    async def _stop(self, number: int) -> None:
        environment = self._environments.pop(number, None)
        if environment is not None:
            await environment.close(ShutdownReason.SPINDOWN)

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _spawn_stop(self, number: int) -> None:
        task = self._spawn(self._stop(number))
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)

    def _tick_on(self) -> None:
        if self._ticker is None and not self._closed:
            self._ticker = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._ticker = None
        self._carry_out(self._scheduler.tick(self._now()))
        for key in self._scheduler.forget_empty():
            del self._keys[self._versions.pop(key)]
            self._reasons.pop(key, None)
            self._failures.pop(key, None)
        self._tick_on()


def retry_pause(failures: int) -> float:
    """Seconds until a provisioned environment is tried again after so many failures in a row."""
    return min(SLOWEST_RETRY, TICK * 2.0 ** min(failures - 1, 16))


def _share(function: FunctionVersion) -> str:
    """Concurrency is an account's in a region."""
    return f"{function.account_id}/{function.region}"
