"""What comes from inside an environment: API calls, streamed responses, ends of processes; and what follows from them.

Carries out the conversation's effects and says when a phase is over. Starts no phase, knows no budgets.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import time
import uuid
from collections.abc import Callable, Mapping

from lading.runtimeapi import effects
from lading.runtimeapi.calls import Request
from lading.runtimeapi.conversation import Conversation
from lading.runtimeapi.extensions import Identity
from lading.runtimeapi.invocation import Invocation
from lading.sandbox.live import Sandbox
from lading.sandbox.spec import ProcessEnded
from lading.service.pool import faults
from lading.service.pool.custom_runtime import judge_entry
from lading.service.pool.exchange import Exchange
from lading.service.pool.faults import Fault
from lading.service.pool.function import SNAP_START, FunctionVersion
from lading.service.pool.image_function import judge_image, launch_error
from lading.service.pool.journal import Journal
from lading.service.pool.server import Connection
from lading.service.pool.telemetry import Telemetry

_TRAILER_TYPE = "lambda-runtime-function-error-type"
_TRAILER_BODY = "lambda-runtime-function-error-body"
_ENDS = (effects.InvokeDone, effects.InitDone, effects.InitFailed, effects.Restorable, effects.RestoreFailed)
"""What a phase may wait for."""


def _error_body(trailers: Mapping[str, str]) -> bytes:
    """What a stream that was given up says of why; empty where it isn't base64."""
    try:
        return base64.b64decode(trailers.get(_TRAILER_BODY, ""), validate=True)
    except ValueError:
        return b""


class Dialogue:
    """An environment's API: the server's endpoint. `begin()` at every start of the runtime process."""

    def __init__(self, function: FunctionVersion, journal: Journal, telemetry: Telemetry) -> None:
        self.exchange: Exchange | None = None
        self.exit_fault: Fault = faults.ENVIRONMENT_GONE
        """Why the runtime process ended, where it did."""
        self._function = function
        self._journal = journal
        self._telemetry = telemetry
        self._connections: set[Connection] = set()
        self._box: Sandbox | None = None
        self.start_runtime: Callable[[], None] | None = None
        """In place of the sandbox's own, where that takes long."""
        self.begin(())

    # The environment's side

    def begin(self, extensions: tuple[str, ...]) -> None:
        """A new conversation, for processes that are started now. `extensions`: names of the external ones."""
        self.disconnect()
        function = self._function
        identity = Identity(function.name, function.version, function.spec.handler, function.account_id)
        restorable = function.initialization_type == SNAP_START
        self.talk = Conversation(identity, extensions, lambda: str(uuid.uuid4()), restorable=restorable)
        self.new_turn()

    def enter(self, box: Sandbox) -> None:
        self._box = box

    def new_turn(self) -> asyncio.Future[object]:
        """Settled by whatever ends the phase next: an effect, or a fault."""
        self.turn: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        return self.turn

    def settle(self, result: object) -> None:
        if not self.turn.done():
            self.turn.set_result(result)

    @property
    def runtime_ended(self) -> bool:
        return self.talk.state.name == "EXITED"

    def dispatch(self, invocation: Invocation) -> None:
        assert self.exchange is not None, "an event belongs to a request"
        self.exchange.dispatched = time.monotonic()
        self.apply(self.talk.dispatch(invocation))

    def process_ended(self, event: ProcessEnded) -> None:
        if event.refused and event.name != "runtime":
            self.extension_refused(event.name, event.refused)
            return
        self.apply(self.talk.exited(event.name))
        fault = faults.process_ended(event)
        if event.name == "runtime":
            self.exit_fault = fault = self._judge(event) or fault
        self.settle(fault)

    def extension_refused(self, name: str, reason: str, error_type: str = "") -> None:
        """An external extension's program can't be started."""
        kind = error_type or ("PermissionDenied" if reason == "permission denied" else "UnknownError")
        self.talk.extensions.launch_failed(name, kind)
        self.settle(faults.extension_refused(name, reason))

    def _judge(self, event: ProcessEnded) -> Fault | None:
        spec = self._function.spec
        refused = judge_image(spec, event)
        if refused:
            self._journal.launch_failed(launch_error(spec, refused))
        return refused or judge_entry(spec, event)

    def disconnect(self) -> None:
        for connection in list(self._connections):
            connection.close()

    # The server's side

    def request(self, connection: Connection, request: Request) -> None:
        self._connections.add(connection)
        self.apply(self.talk.request(connection, request))

    def stream_started(self, connection: Connection, request: Request) -> None:
        self._connections.add(connection)
        self.apply(self.talk.stream_started(connection, request))

    def stream_data(self, connection: Connection, data: bytes) -> None:
        if self.talk.state.name != "RESPONDING" or self.exchange is None:
            return
        self.exchange.add(data)
        if not self.exchange.held:
            self._flow(connection, self.exchange)

    def _flow(self, connection: Connection, exchange: Exchange) -> None:
        """Read on, or not before the exchange says so."""
        exchange.held = exchange.hold(functools.partial(self._flow, connection, exchange))
        if exchange.held:
            connection.pause()
        else:
            connection.resume()

    def stream_ended(self, connection: Connection, trailers: Mapping[str, str], *, complete: bool) -> None:
        if self.talk.state.name != "RESPONDING" or self.exchange is None:
            return
        connection.resume()
        error_type = trailers.get(_TRAILER_TYPE, "") if complete else "Runtime.TruncatedResponse"
        body = _error_body(trailers) if complete else b""
        self.apply(self.talk.stream_ended(connection, error_type, size=self.exchange.streamed, error_body=body))

    def disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self.talk.disconnected(connection)

    # What follows

    def apply(self, steps: list[effects.Effect]) -> None:
        for step in steps:
            if isinstance(step, effects.Reply):
                assert isinstance(step.token, Connection)
                step.token.reply(step.response)
            elif isinstance(step, effects.Responded):
                assert self.exchange is not None, "a response belongs to a request"
                self.exchange.complete(step)
            elif isinstance(step, _ENDS):
                self.settle(step)
            else:
                self._apply_rare(step)

    def _apply_rare(self, step: effects.Effect) -> None:
        if isinstance(step, effects.ExtensionRegistered):
            if step.external and self.talk.extensions.all_registered and self._box is not None:
                (self.start_runtime or self._box.start_runtime)()
        elif isinstance(step, effects.ExtensionFailed):
            self.settle(Fault(step.error_type, f"Extension {step.name} reported an error"))
        elif isinstance(step, effects.RuntimeDone):
            self._tell_done()
        elif isinstance(step, effects.Subscribed):
            self._subscribe(step)
        elif isinstance(step, effects.StreamStarted) and self.exchange and self.exchange.request.sink:
            self.exchange.request.sink.started(step.content_type)

    def _tell_done(self) -> None:
        exchange = self.exchange
        if exchange is not None and self._journal.structured:
            error_type = exchange.answer.error_type if exchange.answer else ""
            self._journal.runtime_done(exchange.done_record("error" if error_type else "success", error_type))

    def tell_failed(self, fault: Fault) -> None:
        """The invoke ends without the runtime's own word."""
        exchange = self.exchange
        if exchange is not None and exchange.dispatched and not exchange.told and self._journal.structured:
            self._journal.runtime_done(exchange.done_record(fault.status, fault.error_type))

    def _subscribe(self, step: effects.Subscribed) -> None:
        """From now on, and what was recorded of this init before."""
        assert self._box is not None, "a subscriber lives inside"
        self._journal.subscribed(step.name, step.subscription.types, logs=step.subscription.logs)
        self._telemetry.subscribe(step.subscription, self._box.connect)
