"""The lifecycle of one execution environment: init, invoke, freeze, reset, shutdown. One invoke at a time.

Drives a sandbox and a Runtime API conversation, measures, and writes the log. Decides nothing about which invoke
goes where. Runs in one event loop; what blocks goes to a thread.
"""

from __future__ import annotations

import asyncio
import functools
import os
import select
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from lading.errors import SandboxError
from lading.runtimeapi.calls import MAXIMUM_EXTENSIONS
from lading.runtimeapi.invocation import Invocation, ShutdownReason
from lading.sandbox.environment import process_environment
from lading.sandbox.host import Host
from lading.sandbox.live import Sandbox
from lading.service.alarm import Alarm
from lading.service.events import EnvironmentChanged, EventStream, InvocationEnded
from lading.service.pool import faults, logs
from lading.service.pool.dialogue import Dialogue
from lading.service.pool.door import Door
from lading.service.pool.exchange import Exchange
from lading.service.pool.external import find_extensions
from lading.service.pool.faults import Fault
from lading.service.pool.function import Answer, FunctionVersion, InvokeRequest, Outcome
from lading.service.pool.init import Init, judge
from lading.service.pool.journal import Journal
from lading.service.pool.server import serve
from lading.service.pool.stillness import Stillness
from lading.service.pool.telemetry import Telemetry
from lading.service.pool.variables import extension_variables, function_variables

MEGABYTE = 1024 * 1024
_T = TypeVar("_T")


class Environment:
    """`start()`, then any number of `invoke()`, one after the other, then `close()`."""

    def __init__(self, function: FunctionVersion, host: Host, events: EventStream, door: Door | None = None) -> None:
        self.id = uuid.uuid4().hex
        self.function = function
        self.state = "starting"
        self.invokes = 0
        self.spent = False
        """Whether it can't serve again, and another one must."""
        self._host = host
        self._events = events
        self._door = door
        self._journal = Journal(function, self.id, events)
        self._loop = asyncio.get_running_loop()
        self._box: Sandbox | None = None
        self._servers: list[asyncio.Server] = []
        self._telemetry = Telemetry(structured=function.log_format == "JSON")
        self._inside = Dialogue(function, self._journal, self._telemetry)
        self._needs_init = True
        self._init: Init | None = None
        self._held = False
        self._limit = Alarm(self._loop)
        """Until an invoke or init must have ended."""
        self._still = Stillness(self._loop, function.budgets.linger, self._telemetry.drain)
        self._extensions: tuple[str, ...] = ()
        self._pipe: tuple[int, ...] = ()
        """What external extensions write to: apart from the function's output. Read end, write end."""

    def __repr__(self) -> str:
        return f"<Environment {self.id[:8]} of {self.function.name}:{self.function.version}, {self.state}>"

    @property
    def failed(self) -> bool:
        """Whether its init phase failed and no invoke has run since."""
        return self._init is not None and self._init.fault is not None

    @property
    def ends_with_answer(self) -> bool:
        """Whether only the runtime has to ask for its next event, once it has answered: extensions may take their time."""
        return not self._inside.talk.extensions.by_name

    # What the pool calls

    async def start(self) -> None:
        """Make the walls and run the init phase. A failing init is no error here: the first invoke runs it again."""
        self._change("starting")
        self._hold_root()
        await self._find_extensions()
        given = await self._door.variables(self.function) if self._door else {}
        variables = function_variables(self.function, self._journal.stream, given)
        spec = replace(self.function.spec, environment=variables)
        self._begin_conversation()
        self._journal.init_started("init")
        started = time.monotonic()
        await self._enter(await self._blocking(lambda: self._host.create(spec, start=not self._extensions)))
        self._init = await self._finish_init("init", self.function.budgets.init, started)
        self._change("ready")

    async def _find_extensions(self) -> None:
        """Beside the loop for an image: its root may be a store away, and that be down. Raises SandboxError."""
        function = self.function
        look = functools.partial(find_extensions, function)
        try:
            self._extensions = await self._blocking(look) if function.spec.image else look()
        except OSError as error:
            raise SandboxError(
                f"/opt/extensions of {function.name} can't be read: {error.strerror or error}",
                hint="invoke it again; if that doesn't help, look for what is wrong with the disk or store of its code",
            ) from error

    async def _enter(self, box: Sandbox) -> None:
        """From here on what comes from inside is heard, and extensions start."""
        self._box = box
        self._inside.enter(box)
        self._journal.attach(box.stdout, box.stderr)
        if self._extensions:
            self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            os.set_blocking(self._pipe[1], True)
            self._journal.attach_extensions(self._pipe[0])
        for descriptor in (box.stdout, box.stderr, *self._pipe[:1]):
            self._loop.add_reader(descriptor, self._on_output, descriptor)
        self._loop.add_reader(box.fileno(), self._on_events)
        self._servers.append(await serve(box.runtime_api_socket, self._inside))
        if self._door and box.services_socket is not None:
            self._servers.append(await self._loop.create_server(self._door.connect, sock=box.services_socket))
        self._start_extensions()

    async def invoke(self, request: InvokeRequest, answered: Callable[[Answer], None] | None = None) -> Outcome:
        """Run one invoke phase. `answered` is called as soon as there is an answer; the phase may go on after it."""
        accepted = time.monotonic()
        self._still.stir()
        if self._still.frozen:
            await self._still.thaw(self._live_box())
        self._change("busy")
        self._inside.exchange = exchange = Exchange(request, answered, accepted, first=self.invokes == 0)
        self.invokes += 1
        timeout = self.function.timeout
        started = time.monotonic()
        init, self._init = self._init, None
        failed = None
        if self._needs_init:
            init = None
            failed = await self._retry_init(started)
        self._journal.invoke_started(request.request_id, request.trace_id)
        fault = failed.fault if failed else await self._run(request, started, timeout)
        duration = (time.monotonic() - started) * 1000
        if isinstance(fault, faults.TimedOut):
            duration = max(duration, timeout * 1000)
        if fault and not failed:
            self._inside.tell_failed(fault)
        if failed and failed.answer:
            exchange.respond(failed.answer)
        outcome = self._conclude(exchange, duration, init, fault)
        if fault:
            await self._reset(ShutdownReason.TIMEOUT if fault.status == "timeout" else ShutdownReason.FAILURE)
        self._change("ready")
        if not self._needs_init:
            self._still.expect(self._freeze)
        return outcome

    async def close(self, reason: ShutdownReason = ShutdownReason.SPINDOWN) -> None:
        """The SHUTDOWN phase, then nothing is left. Safe to call more than once."""
        if self.state == "stopped" or self._box is None:
            self._leave_root()
            return
        self._still.stir()  # a freeze that is still to come would fall into the shutdown
        if self._inside.talk.extensions.by_name:
            await self._still.thaw(self._box)
            await self._shutdown(reason)
        await self._still.end()
        box, self._box = self._box, None
        self._loop.remove_reader(box.fileno())
        # not later: a runtime that sees its connection end spends more time on reporting that than its start took
        await self._blocking(box.kill)
        self._detach(box)
        await self._blocking(box.close)
        self._leave_root()
        self._change("stopped")

    def _hold_root(self) -> None:
        if self.function.root is not None:
            self.function.root.hold()
            self._held = True

    def _leave_root(self) -> None:
        if self._held and self.function.root is not None:
            self._held = False
            self.function.root.release()

    # Init

    def _begin_conversation(self) -> None:
        self._telemetry.begin_init()
        self._journal.follow = self._telemetry.add
        self._inside.begin(self._extensions)

    def _start_extensions(self) -> None:
        """External ones first: the runtime starts when all of them have registered."""
        assert self._box is not None
        variables = extension_variables(process_environment(self._box.spec))
        for name in self._extensions[:MAXIMUM_EXTENSIONS]:
            self._box.start_process(name, [f"/opt/extensions/{name}"], variables, self._pipe[1])
        for name in self._extensions[MAXIMUM_EXTENSIONS:]:
            self._inside.extension_refused(name, f"more than {MAXIMUM_EXTENSIONS} extensions", "TooManyExtensions")

    async def _finish_init(self, phase: str, budget: float, started: float) -> Init:
        """Wait for the end of an init phase that has begun; after a failure the environment is reset."""
        result = await self._wait(budget - (time.monotonic() - started) if budget else 0)
        duration = (time.monotonic() - started) * 1000
        self._journal.flush()
        init = judge(result, duration)
        status = "success" if init.fault is None else "timeout" if init.fault.status == "timeout" else "error"
        error_type = init.fault.error_type if init.fault and status == "error" else ""
        self._end_init(duration, phase, status, error_type)
        self._needs_init = init.fault is not None
        if init.fault is None:
            self._limit_cpu()
        elif phase == "init":
            await self._reset(ShutdownReason.FAILURE)
        return init

    def _end_init(self, duration: float, phase: str, status: str, error_type: str) -> None:
        """Its records. Who has not subscribed by now won't any more."""
        self._journal.init_runtime_done(phase, status, error_type)
        self._journal.extensions_begun(self._inside.talk.extensions.by_name.values())
        self._journal.init_ended(duration, phase, status, error_type)
        self._end_telemetry()

    def _end_telemetry(self) -> None:
        self._telemetry.end_init()
        if not self._telemetry.wanted:
            self._journal.follow = None

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
        """Two writes to the kernel: less than a thread would cost."""
        if self._box is not None:
            self._box.limit_cpu()

    # Invoke

    async def _run(self, request: InvokeRequest, started: float, timeout: float) -> Fault | None:
        """Hand the event over and wait until runtime and extensions are through."""
        left = timeout - (time.monotonic() - started) if timeout else 0.0
        deadline = int((time.time() + (left or 900)) * 1000)
        self._inside.new_turn()
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
        if self._inside.runtime_ended:
            return self._inside.exit_fault
        self._inside.dispatch(invocation)
        result = await self._wait(left)
        return result if isinstance(result, Fault) else None

    def _conclude(self, exchange: Exchange, duration: float, init: Init | None, fault: Fault | None) -> Outcome:
        """Answer the caller if nobody has, then write the last lines."""
        request = exchange.request
        if exchange.answer is None:
            assert fault is not None, "a phase that ends well has an answer"
            exchange.respond(Answer(fault.body(request.request_id), error_type=fault.error_type))
        ended = time.monotonic()
        answer = exchange.answer
        assert answer is not None
        self._journal.flush()
        status = fault.status if fault else "error" if answer.error_type else "success"
        report = logs.Report(
            request_id=request.request_id,
            duration=duration,
            memory_size=self.function.spec.memory,
            memory_used=-(-self._live_box().memory_peak // MEGABYTE),
            status=status,
            error_type=fault.error_type if fault else answer.error_type,
            init=init.duration if init else None,
            **self._restore_figures(),
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
            answer=answer,
            status=status,
            duration=duration,
            billed=report.billed,
            memory=report.memory_used,
            init=report.init,
            restore=report.restore,
            log=tail,
            environment=self.id,
            started_at=exchange.accepted,
            ended_at=ended,
            cold=exchange.first,
        )

    def _restore_figures(self) -> dict[str, float]:
        """Of the restore that came before this invoke, for its report."""
        return {}

    async def _wait(self, seconds: float, late: Fault | None = None) -> object:
        """The end of this phase: an effect, or a fault. 0 seconds means no limit, but with a fault for being `late`."""
        turn = self._inside.turn
        if seconds or self.function.timeout or late:
            fault = late or faults.time_is_up(self.function.timeout)
            self._limit.set(max(0.0, seconds), functools.partial(self._inside.settle, fault))
        try:
            return await turn
        finally:
            self._limit.clear()

    # Freeze, reset, shutdown

    def _freeze(self) -> None:
        if self.state == "ready" and self._box is not None and self._host.capabilities.freezer:
            self._still.freeze(self._box)
            self._change("frozen")

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
        registered = self._inside.talk.extensions.by_name.values()
        if not registered:
            return
        await self._telemetry.end()
        budgets = self.function.budgets
        external = [entry.name for entry in registered if entry.external]
        budget = budgets.shutdown_external if external else budgets.shutdown_internal
        started = time.monotonic()
        box = self._live_box()
        if not self._inside.runtime_ended:
            box.terminate("runtime")
            share = budgets.runtime_share if external else 1.0
            await self._until(lambda: self._inside.runtime_ended, budget * share)
        left = budget - (time.monotonic() - started)
        self._inside.apply(self._inside.talk.shutdown(reason, int((time.time() + left) * 1000)))
        waiting = [entry for entry in registered if entry.external and "SHUTDOWN" in entry.events]
        await self._until(lambda: all(entry.state.name == "EXITED" for entry in waiting), left)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for a condition that ends of processes bring about, at most so long."""
        deadline = time.monotonic() + seconds
        while not condition() and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait([self._inside.new_turn()], timeout=left)

    def _detach(self, box: Sandbox) -> None:
        self._still.close()
        self._limit.close()
        self._journal.flush()
        for descriptor in (box.stdout, box.stderr, box.fileno(), *self._pipe[:1]):
            self._loop.remove_reader(descriptor)
        for descriptor in self._pipe:
            os.close(descriptor)
        self._pipe = ()
        for server in self._servers:
            server.close()
        self._inside.disconnect()

    # What is readable

    def _on_output(self, descriptor: int) -> None:
        if not self._journal.read(descriptor):
            self._loop.remove_reader(descriptor)

    def _on_events(self) -> None:
        box = self._live_box()
        ended = box.read_events()
        for event in ended:
            self._inside.process_ended(event)
        if not ended and select.select([box.pidfd], [], [], 0)[0]:
            self._loop.remove_reader(box.fileno())
            self._inside.settle(faults.ENVIRONMENT_GONE)

    def _live_box(self) -> Sandbox:
        assert self._box is not None, f"{self!r} has no sandbox"
        return self._box

    async def _blocking(self, action: Callable[[], _T]) -> _T:
        return await self._loop.run_in_executor(None, action)

    def _change(self, state: str) -> None:
        self.state = state
        self._events.append(EnvironmentChanged(time.time(), self.function.arn, self.id, state))
