"""The APIs of one execution environment: takes calls, invokes and ends of processes; returns effects.

One per start of the runtime process: after a reset there is a new one. No sockets, no clock, no processes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from lading.runtimeapi import calls
from lading.runtimeapi.calls import Call, Request, Response
from lading.runtimeapi.effects import (
    Effect,
    InitDone,
    InitFailed,
    InvokeDone,
    Reply,
    Responded,
    Restorable,
    RestoreFailed,
    RuntimeDone,
    StreamStarted,
)
from lading.runtimeapi.extensions import Extensions, Identity
from lading.runtimeapi.invocation import Invocation, ShutdownReason, event_response
from lading.runtimeapi.states import RUNTIME, RUNTIME_TARGETS, RuntimeEvent, RuntimeState

ERROR_TYPE = "lambda-runtime-function-error-type"
RESPONSE_MODE = "lambda-runtime-function-response-mode"
STREAMING = "streaming"


_EVENTS = {
    Call.NEXT: RuntimeEvent.NEXT,
    Call.RESPONSE: RuntimeEvent.RESPONSE,
    Call.ERROR: RuntimeEvent.ERROR,
    Call.INIT_ERROR: RuntimeEvent.INIT_ERROR,
    Call.RESTORE_NEXT: RuntimeEvent.RESTORE_NEXT,
    Call.RESTORE_ERROR: RuntimeEvent.RESTORE_ERROR,
}
_IDLE = (RuntimeState.READY, RuntimeState.EXITED)


class Conversation:
    """The state of one environment's runtime and extensions, and the calls that wait for an answer."""

    def __init__(
        self, identity: Identity, external: tuple[str, ...], new_id: Callable[[], str], *, restorable: bool = False
    ) -> None:
        """restorable: of a version with SnapStart, before its snapshot or after it."""
        self._restorable = restorable
        self.state = RuntimeState.STARTED
        self.extensions = Extensions(identity, external, new_id)
        self.current: Invocation | None = None
        self._waiting: Hashable | None = None
        self._restoring: Hashable | None = None
        self._init_over = False
        self._invoke_over = True

    def __repr__(self) -> str:
        current = f", {self.current.request_id}" if self.current else ""
        return f"<Conversation runtime {self.state.name}{current}, {self.extensions!r}>"

    # Events in

    def request(self, token: Hashable, request: Request) -> list[Effect]:
        """A complete call of the runtime or an extension. It is answered now, or kept until there is an answer."""
        found = calls.route(request.method, request.path)
        if isinstance(found, Response):
            return [Reply(token, found)]
        call, request_id = found
        if call in calls.RESTORE and not self._restorable:
            return [Reply(token, calls.NOT_FOUND)]
        event = _EVENTS.get(call)
        if event is None:
            return [*self.extensions.request(token, call, request), *self._progress()]
        if request_id and (self.current is None or request_id != self.current.request_id):
            return [Reply(token, calls.INVALID_REQUEST_ID)]
        if call is Call.RESPONSE and request.headers.get(RESPONSE_MODE, "") not in ("", STREAMING, "buffered"):
            return self._bad_response_mode(token)
        refused = self._advance(event)
        if refused is not None:
            return [Reply(token, refused)]
        return self._accept(token, call, request)

    def stream_started(self, token: Hashable, request: Request) -> list[Effect]:
        """The head of a streamed response; its body goes to the caller piece by piece, past this object."""
        found = calls.route(request.method, request.path)
        if isinstance(found, Response):
            return [Reply(token, found)]
        if self.current is None or found[1] != self.current.request_id:
            return [Reply(token, calls.INVALID_REQUEST_ID)]
        refused = self._advance(RuntimeEvent.RESPONSE)
        if refused is not None:
            return [Reply(token, refused)]
        content_type = request.headers.get("content-type", "application/octet-stream")
        return [StreamStarted(self.current.request_id, content_type)]

    def stream_ended(
        self, token: Hashable, error_type: str = "", *, size: int = 0, error_body: bytes = b""
    ) -> list[Effect]:
        """The end of a streamed response. `error_type` and `error_body` come from its trailers, or say why it broke off."""
        assert self.current is not None, "a stream belongs to an invocation"
        self._advance(RuntimeEvent.RECEIVED)
        reply = calls.ACCEPTED
        if size > calls.MAXIMUM_STREAM:
            error_type, reply = "Function.ResponseSizeTooLarge", calls.TOO_LARGE
        elif error_type:
            error_type = calls.normalise_error_type(error_type)
        body = error_body if error_type else b""
        done = Responded(self.current.request_id, body, "", error_type, streamed=True)
        return [Reply(token, reply), done]

    def dispatch(self, invocation: Invocation) -> list[Effect]:
        """An invoke arrived. Only legal once init is over and no other invoke is under way."""
        assert self._init_over and self._invoke_over, f"not ready for an invoke: {self!r}"
        self.current = invocation
        self._invoke_over = False
        self._advance(RuntimeEvent.DISPATCH)
        return [*self._hand_over(), *self.extensions.invoke(invocation)]

    def restore(self) -> list[Effect]:
        """The snapshot is resumed: the runtime runs its hooks next."""
        assert self.state is RuntimeState.RESTORE_READY, f"nothing to resume: {self!r}"
        self._advance(RuntimeEvent.RESTORE)
        token, self._restoring = self._restoring, None
        return [Reply(token, Response(200))] if token is not None else []

    def shutdown(self, reason: ShutdownReason, deadline: int) -> list[Effect]:
        """Tell the extensions that asked for it. `deadline` in milliseconds since the epoch."""
        return self.extensions.shutdown(reason, deadline)

    def exited(self, name: str) -> list[Effect]:
        """The runtime's process ("runtime") or an extension's ended."""
        if name == "runtime":
            self._advance(RuntimeEvent.EXIT)
            self._waiting = None
            return []
        return self.extensions.exited(name)

    def disconnected(self, token: Hashable) -> None:
        """Whoever waited on this token is gone."""
        if self._waiting == token:
            self._waiting = None
        if self._restoring == token:
            self._restoring = None
        self.extensions.disconnected(token)

    # What follows

    def _advance(self, event: RuntimeEvent) -> Response | None:
        target = RUNTIME.get((self.state, event))
        if target is None:
            return calls.invalid_transition(self.state, RUNTIME_TARGETS[event])
        self.state = target
        return None

    def _accept(self, token: Hashable, call: Call, request: Request) -> list[Effect]:
        if call is Call.NEXT:
            return self._next(token)
        if call in (Call.RESPONSE, Call.ERROR):
            return self._respond(token, call, request)
        if call is Call.RESTORE_NEXT:
            self._restoring = token
            self.extensions.close_registration()
            return [Restorable()]
        error_type = calls.normalise_error_type(request.headers.get(ERROR_TYPE, ""))
        kind = RestoreFailed if self.state is RuntimeState.RESTORE_ERROR else InitFailed
        return [Reply(token, calls.ACCEPTED), kind(error_type, request.body)]

    def _next(self, token: Hashable) -> list[Effect]:
        self._waiting = token
        self.extensions.close_registration()
        if self.state is RuntimeState.RUNNING:
            return self._hand_over()
        if self._init_over and not self._invoke_over and self.current is not None:
            return [RuntimeDone(self.current.request_id), *self._progress()]
        return self._progress()

    def _respond(self, token: Hashable, call: Call, request: Request) -> list[Effect]:
        assert self.current is not None, "the request id was compared with it"
        self._advance(RuntimeEvent.RECEIVED)
        request_id = self.current.request_id
        content_type = request.headers.get("content-type", "application/json")
        if len(request.body) > calls.MAXIMUM_PAYLOAD:
            body = calls.response_too_large()
            return [
                Reply(token, calls.TOO_LARGE),
                Responded(request_id, body, "application/json", "Function.ResponseSizeTooLarge"),
            ]
        body, error_type = request.body, ""
        if call is Call.ERROR:
            error_type = calls.normalise_error_type(request.headers.get(ERROR_TYPE, ""))
            if content_type == calls.ERROR_WITH_CAUSE:
                body, content_type = calls.without_cause(body)
        return [Reply(token, calls.ACCEPTED), Responded(request_id, body, content_type, error_type)]

    def _bad_response_mode(self, token: Hashable) -> list[Effect]:
        """The caller gets an error at once, as from a response that can't be read."""
        refused = self._advance(RuntimeEvent.RESPONSE)
        if refused is not None:
            return [Reply(token, refused)]
        self._advance(RuntimeEvent.RECEIVED)
        assert self.current is not None
        error_type = "Runtime.InvalidResponseModeHeader"
        body = calls.failure(error_type, "Invalid function response mode", self.current.request_id)
        failed = Responded(self.current.request_id, body, "application/json", error_type)
        return [Reply(token, calls.INVALID_RESPONSE_MODE), failed]

    def _hand_over(self) -> list[Effect]:
        """Answer the runtime's waiting call with the event; one whose connection broke gets it when it asks again."""
        if self._waiting is None or self.current is None:
            return []
        token, self._waiting = self._waiting, None
        return [Reply(token, event_response(self.current))]

    def _progress(self) -> list[Effect]:
        """Is init over, or this invoke? Both end when the runtime and all extensions ask for the next event."""
        if self.state not in _IDLE or not self.extensions.idle:
            return []
        if not self._init_over:
            self._init_over = True
            return [InitDone()]
        if not self._invoke_over and self.current is not None:
            self._invoke_over = True
            return [InvokeDone(self.current.request_id)]
        return []
