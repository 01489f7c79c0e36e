"""SnapStart in the pool: a version's init runs once and is kept as a template; its environments are restored from that.

One event loop. What a template holds counts: beyond a share of this machine's memory the longest unused one goes, and is
made again when its version is next wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from lading.errors import LadingError
from lading.runtimeapi import effects
from lading.runtimeapi.invocation import ShutdownReason
from lading.sandbox.forkers import ForkerGoneError
from lading.sandbox.host import Host
from lading.sandbox.live import Sandbox
from lading.sandbox.templates import Template
from lading.service.events import EventStream
from lading.service.pool.credentials import CredentialsEndpoint, by_request
from lading.service.pool.door import Door
from lading.service.pool.environment import Environment
from lading.service.pool.faults import Fault, TimedOut
from lading.service.pool.function import FunctionVersion
from lading.service.pool.server import serve
from lading.service.pool.variables import function_variables

_TOO_SLOW = Fault("Sandbox.Timedout", "the restore did not end in time", "timeout")
SHARE = 0.25
"""Of this machine's memory, what templates may hold together."""


class SnapshotError(LadingError):
    """A version's init failed, so that there is nothing to restore. `fault` says how."""

    def __init__(self, function: FunctionVersion, fault: Fault) -> None:
        super().__init__(
            f"no snapshot of {function.name} could be taken: {fault.error_type}: {fault.message}",
            hint="its log has what the init code said",
        )
        self.fault = fault


class RestoreError(LadingError):
    """An environment could not be restored: a hook failed, or took too long."""

    def __init__(self, function: FunctionVersion, fault: Fault, body: bytes = b"") -> None:
        super().__init__(
            f"{function.name} could not be restored: {fault.error_type}: {fault.message}",
            hint="its log has what the hooks after the restore said",
        )
        self.fault = fault
        self.body = body
        """What the runtime reported, as it sent it."""


@dataclass(frozen=True)
class Means:
    """What environments are made with."""

    host: Host
    events: EventStream
    door: Door | None = None


class _Begun(Environment):
    """What an environment that runs its init for a snapshot and one that is restored from it have in common."""

    _token = ""

    async def _enter(self, box: Sandbox) -> None:
        if self._door and self._token and box.credentials_socket is not None:
            endpoint = CredentialsEndpoint(self.function, self._door, self._token)
            self._servers.append(await serve(box.credentials_socket, endpoint))
        await super()._enter(box)


class Initialising(_Begun):
    """The one environment of a version that runs its init code: `take()` leaves a template of it."""

    async def take(self) -> Template:
        """Raises SnapshotError where the init fails, SandboxError where there can't be a template."""
        self._change("starting")
        await self._find_extensions()
        given = await self._door.variables(self.function) if self._door else {}
        variables = function_variables(self.function, self._journal.stream, given)
        if given:
            self._token = secrets.token_urlsafe(32)
            variables = by_request(variables, self.function.spec.environment, self._token)
        spec = replace(self.function.spec, environment=variables, template=True)
        self._begin_conversation()
        self._journal.init_started("init")
        started = time.monotonic()
        box = await self._blocking(lambda: self._host.create(spec, start=not self._extensions))
        kept = False
        try:
            await self._enter(box)
            budget = max(self.function.budgets.snapshot, self.function.timeout)
            self._judge(await self._wait(budget - (time.monotonic() - started)), started)
            # keep() waits for its answer on the channel that tells of ended processes
            self._loop.remove_reader(box.fileno())
            self._inside.apply(self._inside.talk.restore())
            template = await self._blocking(lambda: self._host.keep(box))
            kept, template.token = True, self._token
            return template
        finally:
            self._detach(box)
            if not kept:
                await self._blocking(box.close)
            self._change("stopped")

    def _judge(self, result: object, started: float) -> None:
        duration = (time.monotonic() - started) * 1000
        self._journal.flush()
        fault = _fault_of(result, effects.InitFailed)
        if isinstance(result, effects.InitDone):
            fault = Fault("Runtime.Unknown", "its client asks for events and not to be restored: it knows no SnapStart")
        if isinstance(fault, TimedOut):
            fault = Fault("Sandbox.Timedout", "the init did not end in time", "timeout")
        status = "success" if fault is None else "timeout" if fault.status == "timeout" else "error"
        self._end_init(duration, "init", status, fault.error_type if fault and status == "error" else "")
        if fault is not None:
            raise SnapshotError(self.function, fault)


class Restored(_Begun):
    """An environment that begins as a copy of its version's template. After a failure it is spent: the next one is restored."""

    def __init__(self, function: FunctionVersion, means: Means, templates: Templates) -> None:
        super().__init__(function, means.host, means.events, means.door)
        self._templates = templates
        self._duration: float | None = None
        self._loading = 0.0
        self._needs_init = False

    async def start(self) -> None:
        """Raises RestoreError, SnapshotError, SandboxError."""
        self._change("starting")
        self._hold_root()
        await self._find_extensions()
        template = await self._templates.get(self.function)
        self._begin_conversation()
        self._journal.restore_started()
        started = time.monotonic()
        try:
            box = await self._blocking(lambda: self._host.restore(template, start=not self._extensions))
        except ForkerGoneError:  # killed since it was last used: once more, with a new one
            self._templates.drop(self.function)
            template = await self._templates.get(self.function)
            box = await self._blocking(lambda: self._host.restore(template, start=not self._extensions))
        self._token = template.token
        self._inside.start_runtime = lambda: self._start_copy(box)
        await self._enter(box)
        try:
            await self._finish_restore(started)
        finally:  # not earlier: the next one's walls would take their time from this one
            self._loop.call_later(self.function.budgets.linger, self._host.stand_by, template)
        self._change("ready")

    def _start_copy(self, box: Sandbox) -> None:
        """Beside the loop: it takes some milliseconds."""
        work = self._loop.run_in_executor(None, box.start_runtime)
        work.add_done_callback(lambda done: self._inside.settle(done.exception()) if done.exception() else None)

    async def _finish_restore(self, started: float) -> None:
        budget = self.function.budgets.restore
        result = await self._wait(budget - (time.monotonic() - started), _TOO_SLOW)
        loading = time.monotonic()
        if isinstance(result, effects.Restorable):
            self._inside.new_turn()
            self._inside.apply(self._inside.talk.restore())
            result = await self._wait(budget - (time.monotonic() - started), _TOO_SLOW)
        if isinstance(result, BaseException):
            raise result
        ended = time.monotonic()
        self._journal.flush()
        fault = _fault_of(result, effects.RestoreFailed)
        status = "success" if fault is None else fault.status if fault.status == "timeout" else "error"
        self._duration, self._loading = (ended - started) * 1000, (ended - loading) * 1000
        self._journal.restore_ended(self._duration, status, fault.error_type if fault else "")
        self._journal.extensions_begun(self._inside.talk.extensions.by_name.values())
        self._end_telemetry()
        if fault is not None:
            body = result.body if isinstance(result, effects.RestoreFailed) else b""
            raise RestoreError(self.function, fault, body)
        self._limit_cpu()

    def _restore_figures(self) -> dict[str, float]:
        duration, self._duration = self._duration, None
        return {} if duration is None else {"restore": duration, "loading": self._loading}

    async def _reset(self, reason: ShutdownReason) -> None:
        """Nothing of a failed copy is used again."""
        self._change("resetting")
        self.spent = True
        await self._shutdown(reason)
        self._journal.flush()


def _fault_of(result: object, reported: type) -> Fault | None:
    """What a phase's end means: an effect or a fault, or no fault at all."""
    if isinstance(result, reported):
        assert isinstance(result, effects.InitFailed | effects.RestoreFailed)
        return Fault(result.error_type, "the runtime reported an error", reported=True)
    return result if isinstance(result, Fault) else None


class Templates:
    """Every version's template, made when it is first wanted."""

    def __init__(self, means: Means, limit: int | None = None) -> None:
        """limit: bytes that all templates may hold; None: a share of this machine's memory."""
        self._means = means
        self._limit = limit or int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * SHARE)
        self._made: OrderedDict[FunctionVersion, asyncio.Task[Template]] = OrderedDict()
        """The longest unused first."""
        self._closing: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<Templates {len(self._made)}, {self.memory >> 20} MB>"

    @property
    def memory(self) -> int:
        """Bytes that the templates hold."""
        return sum(template.memory for template in self._finished().values())

    async def get(self, function: FunctionVersion) -> Template:
        """The version's template; made now if there is none, once for all that wait for it."""
        task = self._made.get(function)
        if task is not None and task.done() and (task.cancelled() or task.exception() or not task.result().alive):
            self.drop(function)
            task = None
        if task is None:
            task = self._made[function] = asyncio.get_running_loop().create_task(self._make(function))
        self._made.move_to_end(function)
        try:
            return await asyncio.shield(task)
        except BaseException:
            if task.done() and self._made.get(function) is task:
                del self._made[function]
            raise

    def drop(self, function: FunctionVersion) -> None:
        """It is not wanted any more: it ends now, or as soon as it is made."""
        task = self._made.pop(function, None)
        if task is not None:
            task.add_done_callback(functools.partial(self._end, function))

    async def close(self) -> None:
        """When no environment is alive any more."""
        for function in list(self._made):
            task = self._made[function]
            with contextlib.suppress(Exception):
                await task
            self.drop(function)
            await asyncio.sleep(0)
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    async def _make(self, function: FunctionVersion) -> Template:
        means = self._means
        if function.root is not None:
            function.root.hold()  # as long as the template stands
        try:
            template = await Initialising(function, means.host, means.events, means.door).take()
        except BaseException:
            _let_go(function)
            raise
        means.host.stand_by(template)
        self._make_room(template.memory, function)
        return template

    def _make_room(self, needed: int, wanted: FunctionVersion) -> None:
        for function, template in self._finished().items():
            if self.memory + needed <= self._limit:
                return
            if function != wanted and template.alive:
                self.drop(function)

    def _finished(self) -> dict[FunctionVersion, Template]:
        done = {function: task for function, task in self._made.items() if task.done() and not task.cancelled()}
        return {function: task.result() for function, task in done.items() if not task.exception()}

    def _end(self, function: FunctionVersion, task: asyncio.Task[Template]) -> None:
        if task.cancelled() or task.exception():
            return
        ending = asyncio.get_running_loop().run_in_executor(None, task.result().close)
        self._closing.add(ending)
        ending.add_done_callback(self._closing.discard)
        ending.add_done_callback(lambda _: _let_go(function))


def _let_go(function: FunctionVersion) -> None:
    if function.root is not None:
        function.root.release()
