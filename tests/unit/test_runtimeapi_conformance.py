"""Every call in every state: status, body and next state as AWS answers, and nothing happens where it is refused."""

from __future__ import annotations

import itertools
import json

import pytest

from lading.runtimeapi import calls
from lading.runtimeapi.conversation import Conversation
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
from lading.runtimeapi.extensions import Identity
from lading.runtimeapi.invocation import Invocation
from lading.runtimeapi.states import RuntimeState

RUNTIME = "/2018-06-01/runtime/"
EVENT = Invocation("id-1", b'{"a": 1}', 1_700_000_000_000, "arn:aws:lambda:us-east-1:1:function:f")
S = RuntimeState


def new(*, restorable: bool = True) -> Conversation:
    counter = itertools.count(1)
    identity = Identity("f", "$LATEST", "m.h", "123456789012")
    return Conversation(identity, (), lambda: f"uuid-{next(counter)}", restorable=restorable)


def request(method: str, path: str, body: bytes = b"", **headers: str) -> calls.Request:
    return calls.Request(method, path, {name.replace("_", "-"): value for name, value in headers.items()}, body)


NEXT = request("GET", RUNTIME + "invocation/next")
RESPONSE = request("POST", RUNTIME + "invocation/id-1/response", b'"ok"')
ERROR = request("POST", RUNTIME + "invocation/id-1/error", b"{}", lambda_runtime_function_error_type="Function.Broken")
INIT_ERROR = request("POST", RUNTIME + "init/error", b"{}", lambda_runtime_function_error_type="Runtime.Broken")
RESTORE_NEXT = request("GET", RUNTIME + "restore/next")
RESTORE_ERROR = request("POST", RUNTIME + "restore/error", b"{}")


def reach(state: RuntimeState) -> Conversation:
    """A conversation brought into a state by legal steps only."""
    talk = new()
    if state is S.STARTED:
        return talk
    if state is S.INIT_ERROR:
        talk.request("t", INIT_ERROR)
    elif state in (S.RESTORE_READY, S.RESTORING, S.RESTORE_ERROR):
        talk.request("t", RESTORE_NEXT)
        if state is not S.RESTORE_READY:
            talk.restore()
        if state is S.RESTORE_ERROR:
            talk.request("t", RESTORE_ERROR)
    elif state is S.EXITED:
        talk.exited("runtime")
    else:
        talk.request("t", NEXT)
        if state is not S.READY:
            talk.dispatch(EVENT)
        if state is S.RESPONDED:
            talk.request("t", RESPONSE)
        if state is S.RESPONDING:
            talk.stream_started(
                "t",
                request(
                    "POST", RUNTIME + "invocation/id-1/response", lambda_runtime_function_response_mode="streaming"
                ),
            )
    assert talk.state is state
    return talk


CALLS = {
    "next": NEXT,
    "response": RESPONSE,
    "error": ERROR,
    "init/error": INIT_ERROR,
    "restore/next": RESTORE_NEXT,
    "restore/error": RESTORE_ERROR,
}
WAITS = 0
TABLE: dict[RuntimeState, dict[str, tuple[int, RuntimeState]]] = {
    # status (WAITS: kept until there is an answer), state afterwards; what isn't listed is 403 and no change
    S.STARTED: {
        "next": (WAITS, S.READY),
        "init/error": (202, S.INIT_ERROR),
        "restore/next": (WAITS, S.RESTORE_READY),
        "response": (400, S.STARTED),
        "error": (400, S.STARTED),
    },
    S.INIT_ERROR: {"response": (400, S.INIT_ERROR), "error": (400, S.INIT_ERROR)},
    S.RESTORE_READY: {
        "restore/next": (WAITS, S.RESTORE_READY),
        "init/error": (202, S.INIT_ERROR),
        "response": (400, S.RESTORE_READY),
        "error": (400, S.RESTORE_READY),
    },
    S.RESTORING: {
        "next": (WAITS, S.READY),
        "restore/error": (202, S.RESTORE_ERROR),
        "init/error": (202, S.RESTORE_ERROR),
        "response": (400, S.RESTORING),
        "error": (400, S.RESTORING),
    },
    S.RESTORE_ERROR: {"response": (400, S.RESTORE_ERROR), "error": (400, S.RESTORE_ERROR)},
    S.READY: {"next": (WAITS, S.READY), "response": (400, S.READY), "error": (400, S.READY)},
    S.RUNNING: {"next": (200, S.RUNNING), "response": (202, S.RESPONDED), "error": (202, S.RESPONDED)},
    S.RESPONDING: {},
    S.RESPONDED: {"next": (WAITS, S.READY)},
    S.EXITED: {"response": (400, S.EXITED), "error": (400, S.EXITED)},
}
ROWS = [
    pytest.param(state, call, *TABLE[state].get(call, (403, state)), id=f"{state.name}-{call}")
    for state in TABLE
    for call in CALLS
]


def replies(effects: list[Effect]) -> list[calls.Response]:
    return [effect.response for effect in effects if isinstance(effect, Reply)]


@pytest.mark.parametrize(("state", "call", "status", "after"), ROWS)
def test_call_in_state(state: RuntimeState, call: str, status: int, after: RuntimeState) -> None:
    talk = reach(state)
    effects = talk.request("token", CALLS[call])
    answered = replies(effects)
    assert [answer.status for answer in answered] == ([status] if status != WAITS else [])
    assert talk.state is after
    if status in (400, 403):
        assert len(effects) == 1, "a refused call has no effect"
        body = json.loads(answered[0].body)
        assert body["errorType"] == ("InvalidStateTransition" if status == 403 else "InvalidRequestID")
    if status == 202:
        assert json.loads(answered[0].body) == {"status": "OK"}


def test_the_refusal_names_both_states() -> None:
    [answer] = replies(reach(S.RESPONDED).request("t", RESPONSE))
    assert json.loads(answer.body)["errorMessage"] == (
        "State transition from ResponseSent to InvocationResponse failed for runtime. "
        "Error: State transition is not allowed"
    )


def test_an_invoke_from_event_to_done() -> None:
    talk = new()
    assert talk.request("n1", NEXT) == [InitDone()]
    [handed] = talk.dispatch(EVENT)
    assert isinstance(handed, Reply)
    assert handed.token == "n1"
    assert handed.response.body == EVENT.event
    assert dict(handed.response.headers) == {
        "Lambda-Runtime-Aws-Request-Id": "id-1",
        "Lambda-Runtime-Deadline-Ms": "1700000000000",
        "Lambda-Runtime-Invoked-Function-Arn": EVENT.function_arn,
    }
    assert talk.request("r", RESPONSE) == [Reply("r", calls.ACCEPTED), Responded("id-1", b'"ok"', "application/json")]
    assert talk.request("n2", NEXT) == [RuntimeDone("id-1"), InvokeDone("id-1")]


def test_optional_headers_are_sent_when_there_is_a_value() -> None:
    talk = reach(S.READY)
    [handed] = talk.dispatch(
        Invocation(
            "i", b"{}", 1, "arn", trace_id="Root=1", client_context="{}", cognito_identity='{"a":1}', tenant_id="t"
        )
    )
    assert isinstance(handed, Reply)
    names = {name for name, _ in handed.response.headers}
    assert names >= {
        "Lambda-Runtime-Trace-Id",
        "Lambda-Runtime-Client-Context",
        "Lambda-Runtime-Cognito-Identity",
        "Lambda-Runtime-Aws-Tenant-Id",
    }


def test_an_error_keeps_its_type_and_body() -> None:
    effects = reach(S.RUNNING).request("t", ERROR)
    assert effects[1] == Responded("id-1", b"{}", "application/json", "Function.Broken")


def test_a_response_over_the_limit_is_refused_and_the_caller_told() -> None:
    talk = reach(S.RUNNING)
    path = RUNTIME + "invocation/id-1/response"
    reply, responded = talk.request("t", request("POST", path, b"x" * (calls.MAXIMUM_PAYLOAD + 1)))
    assert isinstance(reply, Reply)
    assert reply.response.status == 413
    assert isinstance(responded, Responded)
    assert json.loads(responded.body) == {
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
        "errorType": "Function.ResponseSizeTooLarge",
    }
    assert talk.state is S.RESPONDED


def test_a_response_of_exactly_the_limit_passes() -> None:
    path = RUNTIME + "invocation/id-1/response"
    effects = reach(S.RUNNING).request("t", request("POST", path, b"x" * calls.MAXIMUM_PAYLOAD))
    assert [answer.status for answer in replies(effects)] == [202]


def test_an_unknown_response_mode_is_an_error_for_the_caller() -> None:
    path = RUNTIME + "invocation/id-1/response"
    reply, responded = reach(S.RUNNING).request(
        "t", request("POST", path, b"1", lambda_runtime_function_response_mode="odd")
    )
    assert isinstance(reply, Reply)
    assert (reply.response.status, json.loads(reply.response.body)["errorType"]) == (400, "InvalidFunctionResponseMode")
    assert isinstance(responded, Responded)
    assert responded.error_type == "Runtime.InvalidResponseModeHeader"


def test_a_stream_with_an_error_in_its_trailers() -> None:
    talk = reach(S.RUNNING)
    head = request("POST", RUNTIME + "invocation/id-1/response", content_type="text/plain")
    assert talk.stream_started("t", head) == [StreamStarted("id-1", "text/plain")]
    reply, responded = talk.stream_ended("t", "Function.Late")
    assert isinstance(reply, Reply)
    assert reply.response.status == 202
    assert responded == Responded("id-1", b"", "", "Function.Late", streamed=True)
    assert talk.request("n", NEXT) == [RuntimeDone("id-1"), InvokeDone("id-1")]


def test_a_stream_over_the_limit() -> None:
    talk = reach(S.RESPONDING)
    reply, responded = talk.stream_ended("t", size=calls.MAXIMUM_STREAM + 1)
    assert isinstance(reply, Reply)
    assert reply.response.status == 413
    assert isinstance(responded, Responded)
    assert responded.error_type == "Function.ResponseSizeTooLarge"


def test_a_stream_for_another_request() -> None:
    [reply] = reach(S.RUNNING).stream_started("t", request("POST", RUNTIME + "invocation/other/response"))
    assert isinstance(reply, Reply)
    assert reply.response == calls.INVALID_REQUEST_ID


def test_a_client_that_lost_its_connection_gets_the_event_when_it_asks_again() -> None:
    talk = reach(S.READY)
    talk.disconnected("t")
    assert talk.dispatch(EVENT) == []
    [reply] = talk.request("again", NEXT)
    assert isinstance(reply, Reply)
    assert (reply.token, reply.response.body) == ("again", EVENT.event)


def test_init_error_carries_type_and_body() -> None:
    effects = new().request("t", INIT_ERROR)
    assert effects == [Reply("t", calls.ACCEPTED), InitFailed("Runtime.Broken", b"{}")]


def test_snapstart_waits_then_resumes() -> None:
    talk = new()
    assert talk.request("r", RESTORE_NEXT) == [Restorable()]
    [reply] = talk.restore()
    assert isinstance(reply, Reply)
    assert (reply.token, reply.response.status) == ("r", 200)
    assert talk.request("n", NEXT) == [InitDone()]


@pytest.mark.parametrize(("call", "counted"), [(RESTORE_ERROR, "Runtime.Unknown"), (INIT_ERROR, "Runtime.Broken")])
def test_a_failing_restore_hook(call: calls.Request, counted: str) -> None:
    effects = reach(S.RESTORING).request("t", call)
    assert effects[1] == RestoreFailed(counted, b"{}")


@pytest.mark.parametrize("call", [RESTORE_NEXT, RESTORE_ERROR])
def test_without_snapstart_there_is_nothing_to_restore(call: calls.Request) -> None:
    talk = new(restorable=False)
    assert talk.request("t", call) == [Reply("t", calls.NOT_FOUND)]
    assert talk.state is S.STARTED


@pytest.mark.parametrize(
    ("sent", "got", "content_type"),
    [
        (
            {"errorMessage": "no", "errorType": "E", "stackTrace": ["a"], "errorCause": {"x": 1}},
            {"errorMessage": "no", "errorType": "E", "stackTrace": ["a"]},
            "application/json",
        ),
        ({"errorType": "E"}, {"errorMessage": "", "errorType": "E"}, "application/json"),
        ([], "Invalid error body", "application/octet-stream"),
    ],
)
def test_the_cause_of_an_error_is_not_the_callers(sent: object, got: object, content_type: str) -> None:
    path = RUNTIME + "invocation/id-1/error"
    body = json.dumps(sent).encode()
    _, responded = reach(S.RUNNING).request("t", request("POST", path, body, content_type=calls.ERROR_WITH_CAUSE))
    assert isinstance(responded, Responded)
    assert (json.loads(responded.body), responded.content_type) == (got, content_type)


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        ("Function.Broken", "Function.Broken"),
        ("Runtime.ImportModuleError", "Runtime.ImportModuleError"),
        ("Function.lower", "Function.Unknown"),
        ("Function.With1Digit", "Function.With1Digit"),
        ("MyRuntime.Odd", "MyRuntime.Odd"),
        ("ValueError", "Runtime.Unknown"),
        ("", "Runtime.Unknown"),
        ("Runtime.", "Runtime.Unknown"),
    ],
)
def test_error_types_are_normalised(given: str, counted: str) -> None:
    assert calls.normalise_error_type(given) == counted


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/2018-06-01/ping", 405),
        ("GET", RUNTIME + "invocation", 404),
        ("POST", RUNTIME + "invocation/id-1/other", 404),
        ("POST", RUNTIME + "invocation/next", 405),
        ("GET", RUNTIME + "invocation/id-1/response", 405),
        ("GET", "/2022-07-01/telemetry", 405),
    ],
)
def test_paths_and_methods_that_do_not_exist(method: str, path: str, status: int) -> None:
    [reply] = new().request("t", request(method, path))
    assert isinstance(reply, Reply)
    assert reply.response.status == status


def test_ping_is_answered_in_any_state() -> None:
    [reply] = reach(S.RUNNING).request("t", request("GET", "/2018-06-01/ping"))
    assert isinstance(reply, Reply)
    assert (reply.response.status, reply.response.body) == (200, b"pong")


def test_it_describes_itself() -> None:
    assert repr(reach(S.RUNNING)) == "<Conversation runtime RUNNING, id-1, extensions none>"
