"""The Extensions API: registration, events, errors; and subscriptions to telemetry."""

from __future__ import annotations

import itertools
import json
import uuid
from typing import Any

import pytest

from lading.runtimeapi import calls
from lading.runtimeapi.conversation import Conversation
from lading.runtimeapi.effects import (
    Effect,
    ExtensionFailed,
    ExtensionRegistered,
    InitDone,
    InitFailed,
    InvokeDone,
    Reply,
    RuntimeDone,
    Subscribed,
)
from lading.runtimeapi.extensions import Identity
from lading.runtimeapi.invocation import Invocation, ShutdownReason
from lading.runtimeapi.states import ExtensionState
from lading.runtimeapi.subscription import Destination

EXTENSION = "/2020-01-01/extension/"
RUNTIME = "/2018-06-01/runtime/"
EVENT = Invocation("id-1", b"{}", 99, "arn", trace_id="Root=1")
NEXT = calls.Request("GET", RUNTIME + "invocation/next")
RESPONSE = calls.Request("POST", RUNTIME + "invocation/id-1/response", {}, b"1")


class Talk:
    """A conversation with short words for an extension's calls."""

    def __init__(self, *external: str) -> None:
        counter = itertools.count(1)
        identity = Identity("f", "$LATEST", "m.h", "123456789012")
        self.api = Conversation(identity, external, lambda: f"uuid-{next(counter)}")
        self.identifiers: dict[str, str] = {}

    def register(self, name: str, *events: str, **headers: str) -> calls.Response:
        given = {"lambda-extension-name": name, **headers}
        body = json.dumps({"events": events}).encode()
        effects = self.api.request("reg", calls.Request("POST", EXTENSION + "register", given, body))
        response = reply(effects)
        if response.status == 200:
            self.identifiers[name] = dict(response.headers)["Lambda-Extension-Identifier"]
        return response

    def call(self, name: str, path: str, *, body: bytes = b"", **headers: str) -> list[Effect]:
        method = "GET" if path.endswith("next") else "POST"
        given = {"lambda-extension-identifier": self.identifiers[name]} | {
            key.replace("_", "-"): value for key, value in headers.items()
        }
        return self.api.request(name, calls.Request(method, EXTENSION + path, given, body))

    def subscribe(self, name: str, body: Any, path: str = "/2022-07-01/telemetry") -> list[Effect]:
        given = {"lambda-extension-identifier": self.identifiers[name]}
        return self.api.request("sub", calls.Request("PUT", path, given, json.dumps(body).encode()))


def reply(effects: list[Effect]) -> calls.Response:
    [answer] = [effect.response for effect in effects if isinstance(effect, Reply)]
    return answer


def kind(response: calls.Response) -> tuple[int, str]:
    return response.status, json.loads(response.body)["errorType"]


def test_register_tells_about_the_function() -> None:
    response = Talk("ext").register("ext", "INVOKE", "SHUTDOWN")
    assert response.status == 200
    assert json.loads(response.body) == {"functionName": "f", "functionVersion": "$LATEST", "handler": "m.h"}
    assert dict(response.headers) == {"Lambda-Extension-Identifier": "uuid-1"}


def test_the_account_is_told_when_asked_for() -> None:
    response = Talk("ext").register("ext", **{"lambda-extension-accept-feature": "accountId"})
    assert json.loads(response.body)["accountId"] == "123456789012"


def test_init_waits_for_every_extension() -> None:
    talk = Talk("one", "two")
    assert not talk.api.extensions.all_registered
    talk.register("one", "INVOKE")
    talk.register("two")
    assert talk.api.extensions.all_registered
    assert talk.api.request("n", NEXT) == []
    assert talk.call("one", "event/next") == []
    assert talk.call("two", "event/next") == [InitDone()]


def ready(*, events: tuple[str, ...] = ("INVOKE", "SHUTDOWN")) -> Talk:
    talk = Talk("ext")
    talk.register("ext", *events)
    talk.call("ext", "event/next")
    talk.api.request("n", NEXT)
    return talk


def test_an_invoke_ends_when_runtime_and_extension_are_through() -> None:
    talk = ready()
    runtime, extension = talk.api.dispatch(EVENT)
    assert isinstance(runtime, Reply)
    assert isinstance(extension, Reply)
    assert extension.token == "ext"
    assert json.loads(extension.response.body) == {
        "eventType": "INVOKE",
        "deadlineMs": 99,
        "requestId": "id-1",
        "invokedFunctionArn": "arn",
        "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1"},
    }
    assert "Lambda-Extension-Event-Identifier" in dict(extension.response.headers)
    talk.api.request("r", RESPONSE)
    assert talk.api.request("n", NEXT) == [RuntimeDone("id-1")]
    assert talk.call("ext", "event/next") == [InvokeDone("id-1")]


def test_an_extension_without_invoke_is_not_waited_for() -> None:
    talk = ready(events=("SHUTDOWN",))
    assert len(talk.api.dispatch(EVENT)) == 1
    talk.api.request("r", RESPONSE)
    assert talk.api.request("n", NEXT) == [RuntimeDone("id-1"), InvokeDone("id-1")]


def test_shutdown_reaches_those_who_asked_for_it() -> None:
    [told] = ready().api.shutdown(ShutdownReason.SPINDOWN, 2000)
    assert isinstance(told, Reply)
    assert json.loads(told.response.body) == {
        "eventType": "SHUTDOWN",
        "shutdownReason": "spindown",
        "deadlineMs": 2000,
    }
    assert ready(events=("INVOKE",)).api.shutdown(ShutdownReason.FAILURE, 1) == []


def test_shutdown_while_an_extension_works_waits_for_its_next_call() -> None:
    talk = ready()
    talk.api.dispatch(EVENT)
    assert talk.api.shutdown(ShutdownReason.TIMEOUT, 1) == []
    told = reply(talk.call("ext", "event/next"))
    assert json.loads(told.body)["shutdownReason"] == "timeout"


def test_names_and_events_that_are_refused() -> None:
    talk = Talk("ext")
    assert kind(talk.register("", "INVOKE")) == (403, "Extension.InvalidExtensionName")
    assert kind(talk.register("ext", "OTHER")) == (403, "Extension.InvalidEventType")
    assert kind(talk.register("internal", "SHUTDOWN")) == (403, "Extension.InvalidEventType")
    assert talk.register("ext", "INVOKE").status == 200
    assert kind(talk.register("ext", "INVOKE")) == (403, "Extension.InvalidExtensionState")
    assert talk.register("internal", "INVOKE").status == 200
    assert kind(talk.register("internal", "INVOKE")) == (403, "Extension.InvalidExtensionState")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"events": 3}', b'{"events": [1]}', b'{"configurationKeys": ["a"]}'])
def test_a_registration_that_is_not_one(body: bytes) -> None:
    talk = Talk()
    given = {"lambda-extension-name": "x"}
    answer = reply(talk.api.request("t", calls.Request("POST", EXTENSION + "register", given, body)))
    assert kind(answer) == (403, "InvalidRequestFormat")


def test_the_eleventh_extension_is_refused() -> None:
    talk = Talk()
    for number in range(10):
        assert talk.register(f"e{number}").status == 200
    assert kind(talk.register("e10")) == (403, "Extension.TooManyExtensions")


def test_registration_closes_when_the_runtime_is_ready() -> None:
    talk = Talk()
    talk.api.request("n", NEXT)
    assert kind(talk.register("late")) == (403, "Extension.RegistrationClosed")


@pytest.mark.parametrize(
    "path", ["event/next", "init/error", "exit/error", "/2022-07-01/telemetry", "/2020-08-15/logs"]
)
def test_calls_without_or_with_a_wrong_identifier(path: str) -> None:
    method = {"event/next": "GET", "init/error": "POST", "exit/error": "POST"}.get(path, "PUT")
    fails = path.endswith("error")

    def said(headers: dict[str, str]) -> tuple[int, str, str]:
        full = path if path.startswith("/") else EXTENSION + path
        answer = reply(Talk().api.request("t", calls.Request(method, full, headers)))
        return *kind(answer), json.loads(answer.body)["errorMessage"]

    unknown = str(uuid.UUID(int=7))
    with_type = {"lambda-extension-function-error-type": "Extension.Odd"}
    assert said({}) == (403, "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
    wrong = {"lambda-extension-identifier": "x"}
    assert said(wrong) == (403, "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
    shown = "Lambda-Extension-Identifier" if fails else f"extension {unknown}"
    given = {"lambda-extension-identifier": unknown}
    assert said(given | with_type) == (403, "Extension.UnknownExtensionIdentifier", f"Unknown {shown}")
    if fails:
        assert said(given)[:2] == (403, "Extension.MissingHeader"), "it is looked at first"


def test_init_error_of_an_extension() -> None:
    talk = Talk("ext")
    talk.register("ext")
    missing = talk.call("ext", "init/error")
    assert kind(reply(missing)) == (403, "Extension.MissingHeader")
    effects = talk.call("ext", "init/error", lambda_extension_function_error_type="Extension.NoConfig")
    assert reply(effects).status == 202
    assert isinstance(effects[1], InitFailed)
    assert (effects[1].error_type, effects[1].who) == ("Extension.InitError", "ext")
    again = talk.call("ext", "event/next")
    assert kind(reply(again)) == (403, "Extension.InvalidExtensionState")


def test_exit_error_of_an_extension() -> None:
    effects = ready().call("ext", "exit/error", lambda_extension_function_error_type="Extension.Odd")
    assert effects[1:] == [ExtensionFailed("ext", "Extension.ExitError")]


def test_registration_is_reported() -> None:
    api = Talk("ext").api
    body = calls.Request("POST", EXTENSION + "register", {"lambda-extension-name": "ext"}, b'{"events":["INVOKE"]}')
    assert api.request("t", body)[1] == ExtensionRegistered("ext", True)
    assert api.extensions.by_name["ext"].events == ("INVOKE",)


E = ExtensionState
WAITS = 0
EXTENSION_TABLE: dict[ExtensionState, dict[str, tuple[int, ExtensionState]]] = {
    # status (WAITS: kept until there is an event), state afterwards; what isn't listed is 403 and no change
    E.REGISTERED: {
        "event/next": (WAITS, E.READY),
        "init/error": (202, E.INIT_ERROR),
        "exit/error": (202, E.EXIT_ERROR),
    },
    E.READY: {"exit/error": (202, E.EXIT_ERROR)},
    E.RUNNING: {"event/next": (WAITS, E.READY), "exit/error": (202, E.EXIT_ERROR)},
    E.INIT_ERROR: {"init/error": (202, E.INIT_ERROR)},
    E.EXIT_ERROR: {"exit/error": (202, E.EXIT_ERROR)},
    E.EXITED: {},
}
TARGETS = {"register": "Registered", "event/next": "Ready", "init/error": "InitError", "exit/error": "Exited"}
"""The states that refusals name."""


def reach(state: ExtensionState) -> Talk:
    """An extension brought into a state by legal steps only."""
    talk = Talk("ext")
    talk.register("ext", "INVOKE")
    if state in (E.INIT_ERROR, E.EXIT_ERROR):
        path = "init/error" if state is E.INIT_ERROR else "exit/error"
        talk.call("ext", path, lambda_extension_function_error_type="Extension.First")
    elif state is E.EXITED:
        talk.api.exited("ext")
    elif state is not E.REGISTERED:
        talk.call("ext", "event/next")
        talk.api.request("n", NEXT)
        if state is E.RUNNING:
            talk.api.dispatch(EVENT)
    assert talk.api.extensions.by_name["ext"].state is state
    return talk


@pytest.mark.parametrize("call", list(TARGETS))
@pytest.mark.parametrize("state", list(EXTENSION_TABLE))
def test_extension_call_in_state(state: ExtensionState, call: str) -> None:
    talk = reach(state)
    status, after = EXTENSION_TABLE[state].get(call, (403, state))
    if call == "register":
        answered = [talk.register("ext", "INVOKE")]
    else:
        effects = talk.call("ext", call, lambda_extension_function_error_type="Extension.Second")
        answered = [effect.response for effect in effects if isinstance(effect, Reply)]
    assert [answer.status for answer in answered] == ([status] if status != WAITS else [])
    entry = talk.api.extensions.by_name["ext"]
    assert entry.state is after
    if status == 403:
        who = "ext" if call == "register" else entry.identifier
        assert json.loads(answered[0].body) == {
            "errorType": "Extension.InvalidExtensionState",
            "errorMessage": f"State transition from {state} to {TARGETS[call]} failed for extension {who}. "
            "Error: State transition is not allowed",
        }
    if state in (E.INIT_ERROR, E.EXIT_ERROR):
        assert entry.error_type == "Extension.First"
    if status == 202:
        assert len(effects) == (1 if state in (E.INIT_ERROR, E.EXIT_ERROR) else 2), "the first error counts"


def test_a_program_that_cannot_be_started() -> None:
    extensions = Talk("ext").api.extensions
    extensions.launch_failed("ext", "PermissionDenied")
    entry = extensions.by_name["ext"]
    assert (str(entry.state), entry.error_type) == ("LaunchError", "PermissionDenied")


SUBSCRIPTION: dict[str, Any] = {
    "schemaVersion": "2022-12-13",
    "types": ["platform", "function"],
    "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 100},
    "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/logs"},
}


def test_a_telemetry_subscription() -> None:
    talk = Talk("ext")
    talk.register("ext")
    effects = talk.subscribe("ext", SUBSCRIPTION)
    assert reply(effects).status == 200
    assert isinstance(effects[1], Subscribed)
    subscription = effects[1].subscription
    assert subscription.destination == Destination("HTTP", 8080, "/logs")
    assert subscription.timeout == 0.1
    assert not subscription.logs


def test_the_older_logs_api() -> None:
    talk = Talk("ext")
    talk.register("ext")
    body = {"types": ["function"], "destination": {"protocol": "TCP", "port": 9999}}
    effects = talk.subscribe("ext", body, "/2020-08-15/logs")
    assert isinstance(effects[1], Subscribed)
    assert effects[1].subscription.destination == Destination("TCP", 9999)
    assert effects[1].subscription.schema == "2020-08-15", "it has a default, which the Telemetry API has not"
    assert effects[1].subscription.logs


def test_the_same_subscription_again_changes_nothing_and_one_by_the_other_api_is_refused() -> None:
    talk = Talk("ext")
    talk.register("ext")
    assert len(talk.subscribe("ext", SUBSCRIPTION)) == 2
    [again] = talk.subscribe("ext", SUBSCRIPTION)
    assert isinstance(again, Reply)
    assert (again.response.status, again.response.body) == (200, b'"OK"')
    body = {"types": ["function"], "destination": {"protocol": "TCP", "port": 9999}}
    assert kind(reply(talk.subscribe("ext", body, "/2020-08-15/logs"))) == (400, "Logs.ValidationError")


@pytest.mark.parametrize(
    "change",
    [
        {"types": []},
        {"types": ["odd"]},
        {"schemaVersion": "1999-01-01"},
        {"schemaVersion": None},
        {"schemaVersion": "2021-03-18"},
        {"buffering": {"maxItems": 1}},
        {"buffering": {"timeoutMs": 30_001}},
        {"buffering": []},
        {"destination": {"protocol": "UDP", "port": 1}},
        {"destination": {"protocol": "HTTP", "URI": "http://example.com:8080"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:9001"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:99999"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain/"}},
        {"destination": {"protocol": "HTTP", "URI": "https://sandbox.localdomain:8080"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/a b"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080", "method": "PUT"}},
        {"destination": {"protocol": "TCP", "port": True}},
        {"destination": {"protocol": "TCP", "port": 0}},
    ],
)
def test_subscriptions_that_are_refused(change: dict[str, Any]) -> None:
    talk = Talk("ext")
    talk.register("ext")
    effects = talk.subscribe("ext", SUBSCRIPTION | change)
    assert kind(reply(effects)) == (400, "ValidationError")
    assert len(effects) == 1


def test_subscribing_after_init() -> None:
    talk = ready()
    assert kind(reply(talk.subscribe("ext", SUBSCRIPTION))) == (403, "Telemetry.SubscriptionClosed")
