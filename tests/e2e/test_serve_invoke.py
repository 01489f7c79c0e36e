"""Invoking through a served endpoint with real boto3: real environments behind real HTTP."""

from __future__ import annotations

import base64
import json
import os
import platform
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from serve_support import ACCOUNT, REGION, client, create, refusal, settle, zipped

from lading.service.lineage import short_name

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="environments need root on Linux")

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"
CODE = """
import os, sys, time

STARTED = os.urandom(8).hex()

def handler(event, context):
    print("event", event)
    if event.get("fail"):
        raise ValueError("as asked")
    time.sleep(event.get("sleep", 0))
    client = context.client_context
    return {
        "event": event, "version": context.function_version, "arn": context.invoked_function_arn,
        "request": context.aws_request_id, "variable": os.environ.get("NAME"), "started": STARTED,
        "custom": client.custom if client else None,
    }
"""


@pytest.fixture(scope="module")
def api(url: str) -> Any:
    made = client(url)
    try:
        create(
            made,
            "echo",
            Code={"ZipFile": zipped({"app.py": CODE})},
            Environment={"Variables": {"NAME": "one"}},
            Timeout=10,
        )
        made.invoke(FunctionName="echo", Payload=b"{}")["Payload"].read()
    except Exception as error:
        if "no execution environment could be made" in str(error):
            pytest.skip(f"no environments here: {error}")
        raise
    return made


def call(api: Any, name: str = "echo", event: Any = None, **parameters: Any) -> tuple[dict[str, Any], Any]:
    """The response and the decoded payload."""
    response = api.invoke(FunctionName=name, Payload=json.dumps(event or {}).encode(), **parameters)
    return response, json.loads(response["Payload"].read() or b"null")


def test_request_and_response(api: Any) -> None:
    context = base64.b64encode(b'{"custom": {"k": "v"}}').decode()
    response, payload = call(api, event={"a": 1}, ClientContext=context)
    assert (response["StatusCode"], response["ExecutedVersion"]) == (200, "$LATEST")
    assert not {"FunctionError", "LogResult"} & set(response)
    assert payload["event"] == {"a": 1} and payload["arn"] == f"{ARN}:echo" and payload["custom"] == {"k": "v"}
    assert payload["request"] == response["ResponseMetadata"]["RequestId"]


def test_the_tail_of_the_log(api: Any) -> None:
    response, payload = call(api, event={"b": 2}, LogType="Tail")
    lines = base64.b64decode(response["LogResult"]).decode().splitlines()
    assert f"START RequestId: {payload['request']} Version: $LATEST" in lines
    assert "event {'b': 2}" in lines
    assert lines[-1].startswith("REPORT RequestId: ")


def test_a_function_s_own_error(api: Any) -> None:
    response, payload = call(api, event={"fail": True})
    assert (response["StatusCode"], response["FunctionError"]) == (200, "Unhandled")
    assert (payload["errorType"], payload["errorMessage"]) == ("ValueError", "as asked")


def test_a_timeout(api: Any) -> None:
    create(api, "slow", Code={"ZipFile": zipped({"app.py": CODE})}, Timeout=1)
    response, payload = call(api, "slow", {"sleep": 5})
    assert response["FunctionError"] == "Unhandled"
    assert payload["errorType"] == "Sandbox.Timedout"
    assert payload["errorMessage"].endswith("Error: Task timed out after 1.00 seconds")


def test_what_can_t_be_invoked(api: Any) -> None:
    assert refusal(api.invoke, FunctionName="none")[::2] == (404, f"Function not found: {ARN}:none:$LATEST")
    assert refusal(api.invoke, FunctionName="echo", Qualifier="no")[::2] == (404, f"Function not found: {ARN}:echo:no")
    status, code, message = refusal(api.invoke, FunctionName="echo", Payload=b"{no json")
    assert (status, code) == (400, "InvalidRequestContentException")
    assert message.startswith("Could not parse request body into json: ")
    assert refusal(api.invoke, FunctionName="echo", ClientContext="not base64!")[1] == "InvalidRequestContentException"
    status, code, message = refusal(api.invoke, FunctionName="echo", Payload=b'"' + b"x" * 6_291_456 + b'"')
    assert (status, code) == (413, "RequestTooLargeException")
    assert message == "Request must be smaller than 6291456 bytes for the InvokeFunction operation"


def test_a_dry_run_runs_nothing(api: Any) -> None:
    assert api.invoke(FunctionName="echo", InvocationType="DryRun")["StatusCode"] == 204
    assert refusal(api.invoke, FunctionName="none", InvocationType="DryRun")[0] == 404


def test_an_update_is_what_the_next_invoke_runs(api: Any) -> None:
    create(
        api,
        "updated",
        Code={"ZipFile": zipped({"app.py": CODE})},
        Environment={"Variables": {"NAME": "one"}},
        Timeout=10,
    )
    assert call(api, "updated")[1]["variable"] == "one"
    api.update_function_configuration(FunctionName="updated", Environment={"Variables": {"NAME": "two"}})
    settle(api, "updated")
    assert call(api, "updated")[1]["variable"] == "two"
    api.update_function_code(FunctionName="updated", ZipFile=zipped({"app.py": "handler = lambda e, c: 'new code'"}))
    settle(api, "updated")
    assert call(api, "updated")[1] == "new code"
    api.delete_function(FunctionName="updated")
    assert refusal(api.invoke, FunctionName="updated")[0] == 404


def test_versions_and_weighted_aliases(api: Any) -> None:
    create(api, "weighted", Code={"ZipFile": zipped({"app.py": CODE})}, Timeout=10, Publish=True)
    settle(api, "weighted:1")
    api.update_function_configuration(FunctionName="weighted", Description="2")
    settle(api, "weighted")
    api.publish_version(FunctionName="weighted")
    routing = {"AdditionalVersionWeights": {"2": 0.5}}
    api.create_alias(FunctionName="weighted", Name="live", FunctionVersion="1", RoutingConfig=routing)
    seen = Counter(call(api, "weighted", Qualifier="live")[0]["ExecutedVersion"] for _ in range(60))
    assert set(seen) == {"1", "2"} and min(seen.values()) >= 10
    assert call(api, "weighted", Qualifier="live")[1]["arn"] == f"{ARN}:weighted:live"
    assert call(api, "weighted:2")[1]["version"] == "2"


def test_simultaneous_requests_make_environments_and_the_next_reuses_one(url: str, api: Any) -> None:
    create(api, "many", Code={"ZipFile": zipped({"app.py": CODE})}, Timeout=20)

    def one(_: int) -> str:
        return str(call(client(url), "many", {"sleep": 2})[1]["started"])

    with ThreadPoolExecutor(10) as threads:
        started = list(threads.map(one, range(10)))
    assert len(set(started)) == 10
    assert call(api, "many")[1]["started"] in started


def test_reserved_concurrency_throttles(url: str, api: Any) -> None:
    create(api, "narrow", Code={"ZipFile": zipped({"app.py": CODE})}, Timeout=20)
    api.put_function_concurrency(FunctionName="narrow", ReservedConcurrentExecutions=0)
    with pytest.raises(api.exceptions.TooManyRequestsException) as caught:
        api.invoke(FunctionName="narrow")
    response = caught.value.response
    assert response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert response["Error"]["Message"] == "Rate Exceeded."
    assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"]
    api.delete_function_concurrency(FunctionName="narrow")
    assert call(api, "narrow")[0]["StatusCode"] == 200


def test_a_chain_that_is_too_long_is_stopped_unless_it_may_go_on(api: Any) -> None:
    """As a function's own SDK would call: with the trace header that it was called with."""
    code = "import os\ndef handler(event, context):\n    return os.environ['_X_AMZN_TRACE_ID']\n"
    create(api, "chained", Code={"ZipFile": zipped({"app.py": code})})
    name = short_name(f"{ARN}:chained")

    def call(count: int) -> tuple[str, str]:
        header = f"Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=other:99|{name}:{count}"
        tracing = client(api.meta.endpoint_url)
        tracing.meta.events.register(
            "before-send", lambda request, **_: request.headers.update({"X-Amzn-Trace-Id": header})
        )
        answer = tracing.invoke(FunctionName="chained")
        return json.load(answer["Payload"]), answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-trace-id"]

    inside, told = call(15)
    assert inside == told == f"Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=other:99|{name}:16"
    status, code, message = refusal(call, count=16)
    assert (status, code) == (400, "RecursiveInvocationException") and "recursive loop" in message
    api.put_function_recursion_config(FunctionName="chained", RecursiveLoop="Allow")
    assert call(16)[0].endswith(f"{name}:17")


def test_layers_are_on_the_path(api: Any) -> None:
    layer = api.publish_layer_version(LayerName="lib", Content={"ZipFile": zipped({"python/shared.py": "VALUE = 42"})})
    code = zipped({"app.py": "import shared\nhandler = lambda e, c: shared.VALUE"})
    create(api, "with-layer", Code={"ZipFile": code}, Layers=[layer["LayerVersionArn"]], Timeout=10)
    assert call(api, "with-layer")[1] == 42


def test_response_stream(api: Any) -> None:
    response = api.invoke_with_response_stream(FunctionName="echo", Payload=b'{"s": 1}', LogType="Tail")
    assert (response["StatusCode"], response["ExecutedVersion"]) == (200, "$LATEST")
    events = list(response["EventStream"])
    whole = b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1])
    assert json.loads(whole)["event"] == {"s": 1}
    assert "REPORT RequestId: " in base64.b64decode(events[-1]["InvokeComplete"]["LogResult"]).decode()
    failed = list(api.invoke_with_response_stream(FunctionName="echo", Payload=b'{"fail": true}')["EventStream"])
    assert failed[-1]["InvokeComplete"]["ErrorCode"] == "Unhandled"
    assert json.loads(failed[-1]["InvokeComplete"]["ErrorDetails"])["errorType"] == "ValueError"


def test_a_reservation_holds_over_all_versions(api: Any) -> None:
    def hold() -> None:
        """Take the one place, when it isn't taken."""
        while True:
            try:
                call(api, "held:1", {"sleep": 3})
                return
            except api.exceptions.TooManyRequestsException:
                time.sleep(0.01)

    create(api, "held", Code={"ZipFile": zipped({"app.py": CODE})}, Timeout=20, Publish=True)
    settle(api, "held:1")
    call(api, "held:1"), call(api, "held")
    api.put_function_concurrency(FunctionName="held", ReservedConcurrentExecutions=1)
    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(hold)
        deadline = time.monotonic() + 10
        refused = None
        while refused is None and time.monotonic() < deadline:
            try:
                call(api, "held")
            except api.exceptions.TooManyRequestsException as error:
                refused = error.response
            time.sleep(0.05)
        busy.result()
    assert refused is not None
    assert refused["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert (refused["Error"]["Message"], refused["retryAfterSeconds"]) == ("Rate Exceeded.", "1")
    assert refused["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    api.delete_function_concurrency(FunctionName="held")
    assert call(api, "held")[0]["StatusCode"] == 200


def test_variables_that_change_are_never_mixed_up(api: Any) -> None:
    """Of two revisions that differ in a variable only, an invoke gets the one it was chosen for."""
    create(api, "flips", Code={"ZipFile": zipped({"app.py": CODE})}, Timeout=10)
    for value in ("one", "two", "one", "three"):
        api.update_function_configuration(FunctionName="flips", Environment={"Variables": {"NAME": value}})
        settle(api, "flips")
        with ThreadPoolExecutor(4) as threads:
            found = {answer["variable"] for _, answer in threads.map(lambda _: call(api, "flips"), range(4))}
        assert found == {value}


@pytest.mark.parametrize(
    ("handler", "error", "message"),
    [
        ("nope.handler", "Runtime.ImportModuleError", "Unable to import module 'nope': No module named 'nope'"),
        ("app.nothing", "Runtime.HandlerNotFound", "Handler 'nothing' missing on module 'app'"),
        ("app", "Runtime.MalformedHandlerName", "Bad handler 'app': not enough values to unpack (expected 2, got 1)"),
    ],
)
def test_a_wrong_handler(api: Any, handler: str, error: str, message: str) -> None:
    name = f"wrong-{error.rpartition('.')[2]}"
    create(api, name, Handler=handler)
    response, payload = call(api, name)
    assert (response["StatusCode"], response["FunctionError"]) == (200, "Unhandled")
    assert (payload["errorType"], payload["errorMessage"]) == (error, message)


def test_a_function_for_another_processor_is_not_run(api: Any) -> None:
    other = "x86_64" if platform.machine() in ("aarch64", "arm64") else "arm64"
    create(api, "foreign", Architectures=[other], Publish=True)
    status, code, message = refusal(api.invoke, FunctionName="foreign")
    assert (status, code) == (501, "NotImplementedException")
    assert message.startswith(f"running {other} functions on a machine of ")
    settle(api, "foreign:1")
    api.put_provisioned_concurrency_config(FunctionName="foreign", Qualifier="1", ProvisionedConcurrentExecutions=1)
    deadline = time.monotonic() + 20
    while (found := api.get_provisioned_concurrency_config(FunctionName="foreign", Qualifier="1"))[
        "Status"
    ] != "FAILED":
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    assert message in found["StatusReason"]
