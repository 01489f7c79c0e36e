"""The Extensions API: registration, events, errors; and subscriptions to telemetry."""

from __future__ import annotations

import itertools
import json
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


@pytest.mark.parametrize("body", [b"", b"[]", b'{"events": 3}', b'{"events": [1]}'])
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


def test_calls_without_or_with_an_unknown_identifier() -> None:
    api = Talk().api
    missing = reply(api.request("t", calls.Request("GET", EXTENSION + "event/next")))
    assert kind(missing) == (403, "Extension.MissingExtensionIdentifier")
    unknown = calls.Request("GET", EXTENSION + "event/next", {"lambda-extension-identifier": "x"})
    assert kind(reply(api.request("t", unknown))) == (403, "Extension.UnknownExtensionIdentifier")


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
    assert api.request("t", body)[1] == ExtensionRegistered("ext", True, ("INVOKE",))


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
    assert (subscription.port, subscription.path, subscription.timeout) == (8080, "/logs", 0.1)


def test_the_older_logs_api() -> None:
    talk = Talk("ext")
    talk.register("ext")
    body = {"types": ["function"], "destination": {"protocol": "TCP", "port": 9999}}
    effects = talk.subscribe("ext", body, "/2020-08-15/logs")
    assert isinstance(effects[1], Subscribed)
    assert (effects[1].subscription.protocol, effects[1].subscription.port) == ("TCP", 9999)


@pytest.mark.parametrize(
    "change",
    [
        {"types": []},
        {"types": ["odd"]},
        {"schemaVersion": "1999-01-01"},
        {"buffering": {"maxItems": 1}},
        {"buffering": {"timeoutMs": 30_001}},
        {"buffering": []},
        {"destination": {"protocol": "UDP", "port": 1}},
        {"destination": {"protocol": "HTTP", "URI": "http://example.com:8080"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:9001"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:99999"}},
        {"destination": {"protocol": "TCP", "port": True}},
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
