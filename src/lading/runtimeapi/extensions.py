"""The Extensions API of one environment: who is registered for what, who waits, who failed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from lading.runtimeapi import calls
from lading.runtimeapi.calls import Call, Request, Response
from lading.runtimeapi.effects import Effect, ExtensionFailed, ExtensionRegistered, InitFailed, Reply, Subscribed
from lading.runtimeapi.invocation import Invocation
from lading.runtimeapi.states import EXTENSION, EXTENSION_TARGETS, ExtensionEvent, ExtensionState
from lading.runtimeapi.subscription import InvalidSubscriptionError, parse_subscription

NAME = "lambda-extension-name"
IDENTIFIER = "lambda-extension-identifier"
FEATURES = "lambda-extension-accept-feature"
ERROR_TYPE = "lambda-extension-function-error-type"
_IDENTIFIER_HEADER = "Lambda-Extension-Identifier"
EVENTS = ("INVOKE", "SHUTDOWN")
_BUSY = (ExtensionState.LAUNCHED, ExtensionState.REGISTERED, ExtensionState.RUNNING)
_CALLS = {
    Call.EVENT_NEXT: ExtensionEvent.NEXT,
    Call.EXTENSION_INIT_ERROR: ExtensionEvent.INIT_ERROR,
    Call.EXTENSION_EXIT_ERROR: ExtensionEvent.EXIT_ERROR,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """What an extension is told when it registers."""

    function_name: str
    function_version: str
    handler: str
    account_id: str = ""


@dataclass
class Extension:
    """One extension. External: its own process, started from /opt/extensions; internal: lives in the runtime's."""

    name: str
    external: bool
    state: ExtensionState = ExtensionState.LAUNCHED
    identifier: str = ""
    events: tuple[str, ...] = ()
    error_type: str = ""
    """What it said of its failure, the first time."""
    subscribed: Call | None = None
    """By which API, once it did."""
    waiting: Hashable | None = None
    pending: list[tuple[str, bytes]] = field(default_factory=list)
    """Events not fetched yet: (identifier, body)."""


class Extensions:
    """All extensions of one environment."""

    def __init__(self, identity: Identity, external: tuple[str, ...], new_id: Callable[[], str]) -> None:
        self._identity = identity
        self._new_id = new_id
        self._closed = False
        self.by_name = {name: Extension(name, external=True) for name in external}
        self._by_identifier: dict[str, Extension] = {}

    def __repr__(self) -> str:
        return "extensions " + (", ".join(f"{e.name} {e.state.name}" for e in self.by_name.values()) or "none")

    @property
    def idle(self) -> bool:
        """True when none has anything to do: also before the first is known."""
        return not any(entry.state in _BUSY for entry in self.by_name.values())

    @property
    def all_registered(self) -> bool:
        """True when every external one has registered: only then the runtime is started."""
        return not any(entry.state is ExtensionState.LAUNCHED for entry in self.by_name.values())

    def close_registration(self) -> None:
        """The runtime is ready: nobody registers any more."""
        self._closed = True

    def request(self, token: Hashable, call: Call, request: Request) -> list[Effect]:
        if call is Call.REGISTER:
            return self._register(token, request)
        found = self._find(request, call)
        if isinstance(found, Response):
            return [Reply(token, found)]
        if call in (Call.TELEMETRY, Call.LOGS):
            return self._subscribe(token, found, request, call)
        event = _CALLS[call]
        refused = _advance(found, event)
        if refused is not None:
            return [Reply(token, refused)]
        if event is ExtensionEvent.NEXT:
            found.waiting = token
            return _deliver(found)
        return self._failed(token, found, event, request)

    def invoke(self, invocation: Invocation) -> list[Effect]:
        """Hand an invoke to everybody who registered for it."""
        if not self.by_name:
            return []
        event: dict[str, Any] = {
            "eventType": "INVOKE",
            "deadlineMs": invocation.deadline,
            "requestId": invocation.request_id,
            "invokedFunctionArn": invocation.function_arn,
        }
        if invocation.trace_id:
            event["tracing"] = {"type": "X-Amzn-Trace-Id", "value": invocation.trace_id}
        return self._broadcast("INVOKE", event)

    def shutdown(self, reason: str, deadline: int) -> list[Effect]:
        return self._broadcast(
            "SHUTDOWN", {"eventType": "SHUTDOWN", "shutdownReason": str(reason), "deadlineMs": deadline}
        )

    def launch_failed(self, name: str, error_type: str) -> None:
        """An external one's program could not be started. error_type: AWS's word in the record of it."""
        entry = self.by_name[name]
        _advance(entry, ExtensionEvent.LAUNCH_ERROR)
        entry.error_type = error_type

    def exited(self, name: str) -> list[Effect]:
        entry = self.by_name.get(name)
        if entry is not None:
            _advance(entry, ExtensionEvent.EXIT)
            entry.waiting = None
        return []

    def disconnected(self, token: Hashable) -> None:
        for entry in self.by_name.values():
            if entry.waiting == token:
                entry.waiting = None

    def _register(self, token: Hashable, request: Request) -> list[Effect]:
        name = request.headers.get(NAME, "")
        if not name or len(name) > 128 or "/" in name:
            return [Reply(token, _forbidden("InvalidExtensionName", "Empty extension name"))]
        events = _parse_events(request.body)
        if isinstance(events, Response):
            return [Reply(token, events)]
        entry = self.by_name.get(name)
        refused = self._refuse_registration(name, entry, events)
        if refused is not None:
            return [Reply(token, refused)]
        if entry is None:
            entry = self.by_name[name] = Extension(name, external=False)
        refused = _advance(entry, ExtensionEvent.REGISTER)
        if refused is not None:
            return [Reply(token, refused)]
        entry.identifier, entry.events = self._new_id(), events
        self._by_identifier[entry.identifier] = entry
        registered = ExtensionRegistered(name, entry.external)
        return [Reply(token, self._registered(entry, request)), registered]

    def _refuse_registration(self, name: str, entry: Extension | None, events: tuple[str, ...]) -> Response | None:
        external = entry is not None and entry.external
        for event in events:
            if event not in EVENTS:
                return _forbidden("InvalidEventType", f"{event}: Invalid event")
            if event == "SHUTDOWN" and not external:
                return _forbidden(
                    "InvalidEventType", "SHUTDOWN: Shutdown event is not supported for internal extensions"
                )
        if external:
            return None
        if self._closed:
            return _forbidden("RegistrationClosed", "Extension registration closed already")
        if entry is not None:
            return _forbidden("InvalidExtensionState", "Extension with this name already registered")
        if len(self.by_name) >= calls.MAXIMUM_EXTENSIONS:
            return _forbidden("TooManyExtensions", f"Extension limit ({calls.MAXIMUM_EXTENSIONS}) reached")
        return None

    def _registered(self, entry: Extension, request: Request) -> Response:
        body = {
            "functionName": self._identity.function_name,
            "functionVersion": self._identity.function_version,
            "handler": self._identity.handler,
        }
        features = {part.strip() for part in request.headers.get(FEATURES, "").split(",")}
        if "accountId" in features and self._identity.account_id:
            body["accountId"] = self._identity.account_id
        return Response(200, json.dumps(body).encode(), (("Lambda-Extension-Identifier", entry.identifier),))

    def _find(self, request: Request, call: Call) -> Extension | Response:
        identifier = request.headers.get(IDENTIFIER, "")
        if not identifier:
            return _forbidden("MissingExtensionIdentifier", f"Missing {_IDENTIFIER_HEADER} header")
        entry = self._by_identifier.get(identifier)
        if entry is None and not _is_uuid(identifier):
            return _forbidden("InvalidExtensionIdentifier", f"Invalid {_IDENTIFIER_HEADER}")
        fails = call in (Call.EXTENSION_INIT_ERROR, Call.EXTENSION_EXIT_ERROR)
        if fails and not request.headers.get(ERROR_TYPE):
            return _forbidden("MissingHeader", "Lambda-Extension-Function-Error-Type not found")
        if entry is None:
            unknown = _IDENTIFIER_HEADER if fails else f"extension {identifier}"
            return _forbidden("UnknownExtensionIdentifier", f"Unknown {unknown}")
        return entry

    def _subscribe(self, token: Hashable, entry: Extension, request: Request, call: Call) -> list[Effect]:
        """Once for each extension; the same again changes nothing."""
        logs = call is Call.LOGS
        what, invalid = ("Logs", "Logs.ValidationError") if logs else ("Telemetry", "ValidationError")
        if self._closed:
            return [
                Reply(token, calls.refusal(403, f"{what}.SubscriptionClosed", f"{what} API subscription is closed"))
            ]
        try:
            subscription = parse_subscription(request.body, logs=logs)
            if entry.subscribed not in (None, call):
                raise InvalidSubscriptionError(f"{entry.name} has subscribed by the other API already")
        except InvalidSubscriptionError as error:
            return [Reply(token, calls.refusal(400, invalid, str(error)))]
        known, entry.subscribed = entry.subscribed, call
        effects: list[Effect] = [Reply(token, Response(200, b'"OK"'))]
        return effects if known else [*effects, Subscribed(entry.name, subscription)]

    def _failed(self, token: Hashable, entry: Extension, event: ExtensionEvent, request: Request) -> list[Effect]:
        reply = Reply(token, calls.ACCEPTED)
        if entry.error_type:
            return [reply]
        entry.error_type = error_type = request.headers[ERROR_TYPE]
        if event is ExtensionEvent.EXIT_ERROR:
            return [reply, ExtensionFailed(entry.name, "Extension.ExitError")]
        body = calls.failure("Extension.InitError", f"Extension {entry.name} failed: {error_type}")
        return [reply, InitFailed("Extension.InitError", body, entry.name)]

    def _broadcast(self, kind: str, event: dict[str, Any]) -> list[Effect]:
        effects: list[Effect] = []
        body = json.dumps(event).encode()
        for entry in self.by_name.values():
            if kind in entry.events and entry.state in (ExtensionState.READY, ExtensionState.RUNNING):
                entry.pending.append((self._new_id(), body))
                if entry.state is ExtensionState.READY:
                    _advance(entry, ExtensionEvent.DISPATCH)
                    effects += _hand_over(entry)
        return effects


def _advance(entry: Extension, event: ExtensionEvent) -> Response | None:
    target = EXTENSION.get((entry.state, event))
    if target is None:
        who = entry.name if event is ExtensionEvent.REGISTER else entry.identifier
        return calls.invalid_transition(entry.state, EXTENSION_TARGETS[event], f"extension {who}")
    entry.state = target
    return None


def _deliver(entry: Extension) -> list[Effect]:
    """It asked for the next event: one may be there already."""
    if not entry.pending:
        return []
    _advance(entry, ExtensionEvent.DISPATCH)
    return _hand_over(entry)


def _hand_over(entry: Extension) -> list[Effect]:
    if entry.waiting is None or not entry.pending:
        return []
    identifier, body = entry.pending.pop(0)
    token, entry.waiting = entry.waiting, None
    return [Reply(token, Response(200, body, (("Lambda-Extension-Event-Identifier", identifier),)))]


def _parse_events(body: bytes) -> tuple[str, ...] | Response:
    try:
        data = json.loads(body)
        if data.get("configurationKeys"):
            raise ValueError("configurationKeys are deprecated; use environment variables instead")
        events = data.get("events") or []
        if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
            raise ValueError("events must be a list of names")
    except (ValueError, AttributeError, RecursionError) as error:
        return calls.refusal(403, "InvalidRequestFormat", str(error))
    return tuple(dict.fromkeys(events))


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _forbidden(kind: str, message: str) -> Response:
    return calls.refusal(403, f"Extension.{kind}", message)
