"""The lifecycle of one execution environment: init, invoke, freeze, reset, shutdown. One invoke at a time.

Drives a sandbox and a Runtime API conversation, measures, and writes the log. Decides nothing about which invoke
goes where. Runs in one event loop; what blocks goes to a thread.
"""

from __future__ import annotations

import asyncio
import select
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from lading.runtimeapi import calls, effects
from lading.runtimeapi.calls import Request
from lading.runtimeapi.conversation import Conversation
from lading.runtimeapi.extensions import Identity
from lading.runtimeapi.invocation import Invocation, ShutdownReason
from lading.sandbox.environment import process_environment
from lading.sandbox.host import Host
from lading.sandbox.live import Sandbox
from lading.service.events import EnvironmentChanged, EventStream, InvocationEnded
from lading.service.pool import faults, logs
from lading.service.pool.faults import Fault
from lading.service.pool.function import Answer, FunctionVersion, InvokeRequest, Outcome
from lading.service.pool.journal import Journal
from lading.service.pool.server import Connection, serve
from lading.service.pool.telemetry import Subscriber
from lading.service.pool.variables import extension_variables, function_variables

MEGABYTE = 1024 * 1024
_T = TypeVar("_T")
_TRAILER_TYPE = "lambda-runtime-function-error-type"


@dataclass(frozen=True)
class Init:
    """How an init phase went. `answer` is what a caller gets where it failed. Milliseconds."""

    duration: float
    fault: Fault | None = None
    answer: Answer | None = None


class Environment:
    """`start()`, then any number of `invoke()`, one after the other, then `close()`."""

    def __init__(self, function: FunctionVersion, host: Host, events: EventStream) -> None:
        self.id = uuid.uuid4().hex
        self.function = function
        self.state = "starting"
        self.invokes = 0
        self._host = host
        self._events = events
        self._journal = Journal(function, self.id, events)
        self._loop = asyncio.get_running_loop()
        self._box: Sandbox | None = None
        self._server: asyncio.Server | None = None
        self._talk = self._new_conversation(())
        self._connections: set[Connection] = set()
        self._turn: asyncio.Future[object] = self._loop.create_future()
        self._answer: Answer | None = None
        self._answered: Callable[[Answer], None] | None = None
        self._stream = bytearray()
        self._stream_size = 0
        self._request: InvokeRequest | None = None
        self._needs_init = True
        self._init: Init | None = None
        self._freeze_timer: asyncio.TimerHandle | None = None
        self._freezing: asyncio.Future[None] | None = None
        self._extensions = _external_extensions(function)
        self._subscribers: list[Subscriber] = []
        self._records: list[dict[str, Any]] = []
        self._dispatched = 0.0
        if self._extensions:
            self._journal.follow = self._on_record

    def __repr__(self) -> str:
        return f"<Environment {self.id[:8]} of {self.function.name}:{self.function.version}, {self.state}>"

    # What the pool calls

    async def start(self) -> None:
        """Make the walls and run the init phase. A failing init is no error here: the first invoke runs it again."""
        self._change("starting")
        variables = function_variables(self.function, self._journal.stream)
        spec = replace(self.function.spec, environment=variables)
        self._begin_conversation()
        self._journal.init_started("init")
        started = time.monotonic()
        box = await self._blocking(lambda: self._host.create(spec, start=not self._extensions))
        self._box = box
        self._journal.attach(box.stdout, box.stderr)
        for descriptor in (box.stdout, box.stderr):
            self._loop.add_reader(descriptor, self._on_output, descriptor)
        self._loop.add_reader(box.fileno(), self._on_events)
        self._server = await serve(box.runtime_api_socket, self)
        self._start_extensions()
        self._init = await self._finish_init("init", self.function.budgets.init, started)
        self._change("ready")

    async def invoke(self, request: InvokeRequest, answered: Callable[[Answer], None] | None = None) -> Outcome:
        """Run one invoke phase. `answered` is called as soon as there is an answer; the phase may go on after it."""
        accepted = time.monotonic()
        await self._thaw()
        self._change("busy")
        cold = self.invokes == 0
        self.invokes += 1
        self._request, self._answer, self._answered = request, None, answered
        self._stream.clear()
        self._stream_size = 0
        timeout = self.function.timeout
        started = time.monotonic()
        init, self._init = self._init, None
        failed = None
        if self._needs_init:
            init = None
            failed = await self._retry_init(started)
        self._journal.invoke_started(request.request_id)
        fault = failed.fault if failed else await self._run(request, started, timeout)
        duration = (time.monotonic() - started) * 1000
        if isinstance(fault, faults.TimedOut):
            duration = max(duration, timeout * 1000)
        if failed and failed.answer:
            self._respond(failed.answer)
        outcome = self._conclude(request, duration, init, fault)
        if fault:
            await self._reset(ShutdownReason.TIMEOUT if fault.status == "timeout" else ShutdownReason.FAILURE)
        self._change("ready")
        self._schedule_freeze()
        return replace(outcome, started_at=accepted, cold=cold)

    async def close(self, reason: ShutdownReason = ShutdownReason.SPINDOWN) -> None:
        """The SHUTDOWN phase, then nothing is left. Safe to call more than once."""
        if self.state == "stopped" or self._box is None:
            return
        await self._thaw()
        await self._shutdown(reason)
        box, self._box = self._box, None
        self._detach(box)
        await self._blocking(box.close)
        self._change("stopped")

    # Init

    def _new_conversation(self, external: tuple[str, ...]) -> Conversation:
        function = self.function
        identity = Identity(function.name, function.version, function.spec.handler, function.account_id)
        return Conversation(identity, external, lambda: str(uuid.uuid4()))

    def _begin_conversation(self) -> None:
        for connection in list(self._connections):
            connection.close()
        self._talk = self._new_conversation(self._extensions)
        self._turn = self._loop.create_future()

    def _start_extensions(self) -> None:
        """External ones first: the runtime starts when all of them have registered."""
        assert self._box is not None
        variables = extension_variables(process_environment(self._box.spec))
        for name in self._extensions:
            self._box.start_process(name, [f"/opt/extensions/{name}"], variables)

    async def _finish_init(self, phase: str, budget: float, started: float) -> Init:
        """Wait for the end of an init phase that has begun; after a failure the environment is reset."""
        result = await self._wait(budget - (time.monotonic() - started) if budget else 0)
        duration = (time.monotonic() - started) * 1000
        self._journal.flush()
        init = self._judge_init(result, duration)
        status = "success" if init.fault is None else "timeout" if init.fault.status == "timeout" else "error"
        error_type = init.fault.error_type if init.fault and status == "error" else ""
        self._journal.init_runtime_done(phase, status)
        self._journal.init_ended(duration, phase, status, error_type)
        self._records.clear()
        self._needs_init = init.fault is not None
        if init.fault is None:
            await self._blocking(self._limit_cpu)
        elif phase == "init":
            await self._reset(ShutdownReason.FAILURE)
        return init

    def _judge_init(self, result: object, duration: float) -> Init:
        if isinstance(result, effects.InitDone):
            return Init(duration)
        if isinstance(result, effects.InitFailed):
            fault = Fault(result.error_type, "the runtime reported an init error", reported=True)
            return Init(duration, fault, Answer(result.body, error_type=result.error_type))
        assert isinstance(result, Fault)
        return Init(duration, result)

    async def _retry_init(self, started: float) -> Init | None:
        """The suppressed init: within the invoke and its timeout. What failed, or None."""
        self._begin_conversation()
        self._journal.init_started("invoke")
        box = self._live_box()
        if self._extensions:
            self._start_extensions()
        else:
            box.start_runtime()
        init = await self._finish_init("invoke", self.function.timeout, started)
        return init if init.fault else None

    def _limit_cpu(self) -> None:
        if self._box is not None:
            self._box.limit_cpu()

    # Invoke

    async def _run(self, request: InvokeRequest, started: float, timeout: float) -> Fault | None:
        """Hand the event over and wait until runtime and extensions are through."""
        left = timeout - (time.monotonic() - started) if timeout else 0.0
        deadline = int((time.time() + (left or 900)) * 1000)
        self._turn = self._loop.create_future()
        invocation = Invocation(
            request_id=request.request_id,
            event=request.event,
            deadline=deadline,
            function_arn=request.invoked_arn or self.function.arn,
            trace_id=request.trace_id,
            client_context=request.client_context,
            cognito_identity=request.cognito_identity,
            tenant_id=request.tenant_id,
        )
        if self._talk.state.name == "EXITED":
            return self._exit_fault
        self._dispatched = time.monotonic()
        self._apply(self._talk.dispatch(invocation))
        result = await self._wait(left)
        return result if isinstance(result, Fault) else None

    def _conclude(self, request: InvokeRequest, duration: float, init: Init | None, fault: Fault | None) -> Outcome:
        """Answer the caller if nobody has, then write the last lines."""
        if self._answer is None:
            assert fault is not None, "a phase that ends well has an answer"
            self._respond(Answer(fault.body(request.request_id), error_type=fault.error_type))
        ended = time.monotonic()
        assert self._answer is not None
        self._journal.flush()
        status = fault.status if fault else "error" if self._answer.error_type else "success"
        report = logs.Report(
            request_id=request.request_id,
            duration=duration,
            memory_size=self.function.spec.memory,
            memory_used=-(-self._live_box().memory_peak // MEGABYTE),
            status=status,
            error_type=fault.error_type if fault else self._answer.error_type,
            init=init.duration if init else None,
        )
        tail = self._journal.invoke_ended(report, fault)
        self._events.append(
            InvocationEnded(
                time.time(), self.function.arn, self.id, request.request_id, status, duration,
                report.billed, report.init, report.memory_used,
            )
        )  # fmt: skip
        return Outcome(
            request_id=request.request_id,
            answer=self._answer,
            status=status,
            duration=duration,
            billed=report.billed,
            memory=report.memory_used,
            init=report.init,
            log=tail,
            environment=self.id,
            ended_at=ended,
        )

    def _respond(self, answer: Answer) -> None:
        if self._answer is not None:
            return
        self._answer = answer
        if self._answered is not None:
            self._answered(answer)

    async def _wait(self, seconds: float) -> object:
        """The end of this phase: an effect, or a fault. 0 seconds means no limit."""
        turn = self._turn
        timer = None
        if seconds or self.function.timeout:
            fault = faults.time_is_up(self.function.timeout)
            timer = self._loop.call_later(max(0.0, seconds), self._settle, fault)
        try:
            return await turn
        finally:
            if timer is not None:
                timer.cancel()

    def _settle(self, result: object) -> None:
        if not self._turn.done():
            self._turn.set_result(result)

    # Freeze, reset, shutdown

    def _schedule_freeze(self) -> None:
        if self._freeze_timer is None and not self._needs_init:
            self._freeze_timer = self._loop.call_later(self.function.budgets.linger, self._freeze)

    def _freeze(self) -> None:
        self._freeze_timer = None
        if self.state == "ready" and self._box is not None and self._host.capabilities.freezer:
            self._freezing = asyncio.ensure_future(self._stand_still(self._box))
            self._change("frozen")

    async def _stand_still(self, box: Sandbox) -> None:
        for subscriber in self._subscribers:
            await subscriber.drain()
        await self._blocking(box.freeze)

    async def _thaw(self) -> None:
        if self._freeze_timer is not None:
            self._freeze_timer.cancel()
            self._freeze_timer = None
        if self._freezing is not None:
            await self._freezing
            self._freezing = None
            await self._blocking(self._live_box().thaw)

    async def _reset(self, reason: ShutdownReason) -> None:
        """Everything inside ends; walls and /tmp stay; the next invoke begins with init."""
        self._change("resetting")
        await self._shutdown(reason)
        box = self._live_box()
        # reset() waits for its answer on the same channel that tells of ended processes
        self._loop.remove_reader(box.fileno())
        await self._blocking(box.reset)
        self._loop.add_reader(box.fileno(), self._on_events)
        self._journal.flush()
        self._needs_init = True

    async def _shutdown(self, reason: ShutdownReason) -> None:
        """The SHUTDOWN phase: with extensions, they are told and given their time. What is left then is killed."""
        registered = self._talk.extensions.by_name.values()
        if not registered:
            return
        for subscriber in self._subscribers:
            await subscriber.drain()
            subscriber.close()
        self._subscribers = []
        budgets = self.function.budgets
        external = [entry.name for entry in registered if entry.external]
        budget = budgets.shutdown_external if external else budgets.shutdown_internal
        started = time.monotonic()
        box = self._live_box()
        if self._talk.state.name != "EXITED":
            box.terminate("runtime")
            share = budgets.runtime_share if external else 1.0
            await self._until(lambda: self._talk.state.name == "EXITED", budget * share)
        left = budget - (time.monotonic() - started)
        self._apply(self._talk.shutdown(reason, int((time.time() + left) * 1000)))
        waiting = [entry for entry in registered if entry.external and "SHUTDOWN" in entry.events]
        await self._until(lambda: all(entry.state.name == "EXITED" for entry in waiting), left)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for a condition that ends of processes bring about, at most so long."""
        deadline = time.monotonic() + seconds
        while not condition() and (left := deadline - time.monotonic()) > 0:
            self._turn = self._loop.create_future()
            await asyncio.wait([self._turn], timeout=left)

    def _detach(self, box: Sandbox) -> None:
        self._journal.flush()
        for descriptor in (box.stdout, box.stderr, box.fileno()):
            self._loop.remove_reader(descriptor)
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close()

    # What comes from inside

    def request(self, connection: Connection, request: Request) -> None:
        self._connections.add(connection)
        self._apply(self._talk.request(connection, request))

    def stream_started(self, connection: Connection, request: Request) -> None:
        self._connections.add(connection)
        self._apply(self._talk.stream_started(connection, request))

    def stream_data(self, connection: Connection, data: bytes) -> None:
        if self._talk.state.name != "RESPONDING" or self._request is None:
            return
        self._stream_size += len(data)
        if self._stream_size > calls.MAXIMUM_STREAM:
            return
        if self._request.sink is not None:
            self._request.sink.chunk(data)
        elif len(self._stream) <= calls.MAXIMUM_PAYLOAD:
            self._stream += data

    def stream_ended(self, connection: Connection, trailers: Mapping[str, str], *, complete: bool) -> None:
        if self._talk.state.name != "RESPONDING":
            return
        error_type = trailers.get(_TRAILER_TYPE, "") if complete else "Runtime.TruncatedResponse"
        self._apply(self._talk.stream_ended(connection, error_type, size=self._stream_size))

    def disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._talk.disconnected(connection)

    def _apply(self, steps: list[effects.Effect]) -> None:
        for step in steps:
            if isinstance(step, effects.Reply):
                assert isinstance(step.token, Connection)
                step.token.reply(step.response)
            elif isinstance(step, effects.Responded):
                self._on_response(step)
            elif isinstance(step, effects.InvokeDone | effects.InitDone | effects.InitFailed):
                self._settle(step)
            else:
                self._apply_rare(step)

    def _apply_rare(self, step: effects.Effect) -> None:
        if isinstance(step, effects.ExtensionRegistered):
            self._journal.extension_registered(step.name, step.events)
            if step.external and self._talk.extensions.all_registered and self._box is not None:
                self._box.start_runtime()
        elif isinstance(step, effects.ExtensionFailed):
            self._settle(Fault(step.error_type, f"Extension {step.name} reported an error"))
        elif isinstance(step, effects.RuntimeDone):
            status = "error" if self._answer and self._answer.error_type else "success"
            self._journal.runtime_done(step.request_id, status, (time.monotonic() - self._dispatched) * 1000)
        elif isinstance(step, effects.Subscribed):
            self._subscribe(step)
        elif isinstance(step, effects.StreamStarted) and self._request and self._request.sink:
            self._request.sink.started(step.content_type)

    def _subscribe(self, step: effects.Subscribed) -> None:
        """From now on, and what was recorded of this init before."""
        self._journal.follow = self._on_record
        self._journal.subscribed(step.name, step.subscription.types)
        subscriber = Subscriber(step.subscription, self._live_box().pid)
        for record in self._records:
            subscriber.add(record)
        self._subscribers.append(subscriber)

    def _on_record(self, record: dict[str, Any]) -> None:
        if self._needs_init:
            self._records.append(record)
        for subscriber in self._subscribers:
            subscriber.add(record)

    def _on_response(self, step: effects.Responded) -> None:
        body = step.body
        if step.streamed and self._request is not None and self._request.sink is None:
            body = bytes(self._stream)
            if len(body) > calls.MAXIMUM_PAYLOAD:
                self._respond(Answer(calls.response_too_large(), error_type="Function.ResponseSizeTooLarge"))
                return
        self._respond(Answer(body, step.content_type or "application/json", step.error_type, step.streamed))

    def _on_output(self, descriptor: int) -> None:
        if not self._journal.read(descriptor):
            self._loop.remove_reader(descriptor)

    def _on_events(self) -> None:
        box = self._live_box()
        ended = box.read_events()
        for event in ended:
            self._apply(self._talk.exited(event.name))
            if event.name == "runtime":
                self._exit_fault = faults.process_ended(event)
            self._settle(faults.process_ended(event))
        if not ended and select.select([box.pidfd], [], [], 0)[0]:
            self._loop.remove_reader(box.fileno())
            self._settle(faults.ENVIRONMENT_GONE)

    _exit_fault: Fault = faults.ENVIRONMENT_GONE

    def _live_box(self) -> Sandbox:
        assert self._box is not None, f"{self!r} has no sandbox"
        return self._box

    async def _blocking(self, action: Callable[[], _T]) -> _T:
        return await self._loop.run_in_executor(None, action)

    def _change(self, state: str) -> None:
        self.state = state
        self._events.append(EnvironmentChanged(time.time(), self.function.arn, self.id, state))


def _external_extensions(function: FunctionVersion) -> tuple[str, ...]:
    """Executables of /opt/extensions, from every layer, in the order they are started (by name)."""
    import os

    names = set()
    for layer in function.spec.layers:
        folder = layer / "extensions"
        if folder.is_dir():
            names |= {path.name for path in folder.iterdir() if path.is_file() and os.access(path, os.X_OK)}
    return tuple(sorted(names))
