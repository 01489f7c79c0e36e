"""SnapStart through real boto3: published versions whose init runs once, restored environments, refused combinations."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import WaiterError
from serve_support import client, create, make_role, refusal, service, settle, zipped

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="environments need root on Linux")

CODE = """
import os, random, time
from snapshot_restore_py import register_after_restore, register_before_snapshot

STARTED, NUMBER, SEEN = time.time(), random.random(), []
open("/tmp/kept", "w").write("from init")
with open("/tmp/inits", "a") as inits:
    inits.write("x")

@register_before_snapshot
def before():
    SEEN.append("before")

@register_after_restore
def after():
    SEEN.append("after")
    if os.environ.get("HOOK") == "fail":
        raise ValueError("the hook says no")

def handler(event, context):
    kept = open("/tmp/kept").read()
    open("/tmp/kept", "w").write("changed")
    if event.get("exit"):
        os._exit(1)
    time.sleep(event.get("sleep", 0))
    return {"started": STARTED, "number": NUMBER, "fresh": random.random(), "seen": SEEN, "kept": kept,
            "inits": open("/tmp/inits").read(), "pid": os.getpid(), "version": context.function_version,
            "kind": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "log": os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")}
"""
SNAP = {"ApplyOn": "PublishedVersions"}


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    with service() as address:
        yield client(address)


@pytest.fixture(scope="module")
def snapped(api: Any) -> str:
    """A function with SnapStart whose version 1 is active."""
    made = create(api, "snapped", Code={"ZipFile": zipped({"app.py": CODE})}, SnapStart=SNAP, Timeout=10)
    assert made["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    published = api.publish_version(FunctionName="snapped")
    assert published["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    assert (published["State"], published["StateReasonCode"]) == ("Pending", "Creating")
    settle(api, "snapped:1")
    return "snapped"


def call(api: Any, name: str, qualifier: str = "1", **event: object) -> dict[str, Any]:
    response = api.invoke(FunctionName=name, Qualifier=qualifier, Payload=json.dumps(event).encode())
    answer: dict[str, Any] = json.loads(response["Payload"].read())
    return answer


def lines_of(url_api: Any, name: str) -> list[str]:
    logs = client(url_api.meta.endpoint_url, "logs")
    events = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    return [event["message"] for event in events]


def test_a_published_version_is_restored(api: Any, snapped: str) -> None:
    found = api.get_function_configuration(FunctionName=f"{snapped}:1")
    assert (found["State"], found["LastUpdateStatus"]) == ("Active", "Successful")
    assert found["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    first = call(api, snapped)
    assert (first["kind"], first["log"], first["version"]) == ("snap-start", None, "1")
    assert (first["seen"], first["kept"], first["inits"]) == (["before", "after"], "from init", "x")
    assert api.publish_version(FunctionName=snapped)["Version"] == "1", "nothing changed since"
    latest = call(api, snapped, "$LATEST")
    assert (latest["kind"], latest["seen"], latest["started"] > first["started"]) == ("on-demand", [], True)


def test_environments_begin_alike_and_go_apart(api: Any, snapped: str) -> None:
    """Two at once: the second one is another environment, restored from the same snapshot."""
    api.update_function_configuration(FunctionName=snapped, Description="second")
    settle(api, snapped)
    assert api.publish_version(FunctionName=snapped)["Version"] == "2"
    settle(api, f"{snapped}:2")
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda _: call(api, snapped, "2", sleep=1), range(2))
    assert one["number"] == other["number"] and one["started"] == other["started"], (
        "the state of the init is there twice"
    )
    assert one["fresh"] != other["fresh"], "but random goes on by itself"
    assert one["kept"] == other["kept"] == "from init", "and what one writes into /tmp the other doesn't see"


def test_log_and_report_tell_of_the_restore(api: Any) -> None:
    create(api, "told", Code={"ZipFile": zipped({"app.py": CODE})}, SnapStart=SNAP, Publish=True)
    settle(api, "told:1")
    answer = api.invoke(FunctionName="told", Qualifier="1", Payload=b"{}", LogType="Tail")
    tail = base64.b64decode(answer["LogResult"]).decode()
    assert "Restore Duration: " in tail and "Billed Restore Duration: " in tail and "Init Duration" not in tail, tail
    deadline = time.monotonic() + 10
    while not any(line.startswith("RESTORE_REPORT Restore Duration: ") for line in lines_of(api, "told")):
        assert time.monotonic() < deadline
    lines = lines_of(api, "told")
    assert any(line.startswith("RESTORE_START Runtime Version: python:3.13") for line in lines)
    assert any(line.startswith("INIT_REPORT Init Duration: ") for line in lines)


def test_after_a_crash_another_one_is_restored(api: Any) -> None:
    create(api, "crashing", Code={"ZipFile": zipped({"app.py": CODE})}, SnapStart=SNAP, Publish=True)
    settle(api, "crashing:1")
    failed = api.invoke(FunctionName="crashing", Qualifier="1", Payload=b'{"exit": true}')
    assert json.loads(failed["Payload"].read())["errorType"] == "Runtime.ExitError"
    again = call(api, "crashing")
    assert (again["kind"], again["kept"], again["inits"]) == ("snap-start", "from init", "x")
    assert any("signal" in line or "Runtime exited" in line for line in lines_of(api, "crashing"))


def test_an_init_that_fails_fails_the_version(api: Any) -> None:
    create(api, "unborn", Code={"ZipFile": zipped({"app.py": "raise RuntimeError('at import')"})}, SnapStart=SNAP)
    api.publish_version(FunctionName="unborn")
    with pytest.raises(WaiterError):
        settle(api, "unborn:1")
    found = api.get_function_configuration(FunctionName="unborn:1")
    assert (found["State"], found["StateReasonCode"]) == ("Failed", "FunctionError")
    assert found["StateReason"] == "An error occurred during function initialization."
    assert found["LastUpdateStatus"] == "Failed"
    assert refusal(api.invoke, FunctionName="unborn", Qualifier="1")[1] == "ResourceConflictException"
    assert any("Runtime" in line for line in lines_of(api, "unborn") if line.startswith("INIT_REPORT"))


def test_a_failing_hook_is_a_snapstart_exception(api: Any) -> None:
    create(
        api,
        "hooked",
        Code={"ZipFile": zipped({"app.py": CODE})},
        SnapStart=SNAP,
        Environment={"Variables": {"HOOK": "fail"}},
    )
    api.publish_version(FunctionName="hooked")
    settle(api, "hooked:1")
    status, code, message = refusal(api.invoke, FunctionName="hooked", Qualifier="1", Payload=b"{}")
    assert (status, code) == (400, "SnapStartException")
    assert "afterRestore() runtime hook encountered an error" in message
    lines = lines_of(api, "hooked")
    assert any("the hook says no" in line for line in lines)
    assert any("Status: error\tError Type: Runtime.AfterRestoreError" in line for line in lines), lines


def test_deleting_the_version_ends_its_template(api: Any, snapped: str) -> None:
    api.update_function_configuration(FunctionName=snapped, Description="third")
    settle(api, snapped)
    version = api.publish_version(FunctionName=snapped)["Version"]
    settle(api, f"{snapped}:{version}")
    groups = templates()
    call(api, snapped, version)
    api.delete_function(FunctionName=snapped, Qualifier=version)
    deadline = time.monotonic() + 20
    while len(templates()) >= len(groups):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert refusal(api.invoke, FunctionName=snapped, Qualifier=version)[1] == "ResourceNotFoundException"


def templates() -> set[str]:
    """Traced processes: templates stand still in the hands of their keepers."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            text = path.read_text()
        except OSError:
            continue
        if "\nTracerPid:\t0\n" not in text:
            found.add(path.parent.name)
    return found


def test_it_comes_back_after_a_restart(tmp_path: Path) -> None:
    with service(tmp_path) as address:
        api = client(address)
        create(api, "kept", Code={"ZipFile": zipped({"app.py": CODE})}, SnapStart=SNAP, Publish=True)
        settle(api, "kept:1")
        first = call(api, "kept")
    with service(tmp_path) as address:
        second = call(client(address), "kept")
    assert second["kind"] == "snap-start" and second["started"] > first["started"], "a snapshot ends with its service"


SIGNING = """
import boto3, json, os, urllib.error, urllib.request

STS = boto3.client("sts")
FIRST = STS.get_caller_identity()["Arn"]

def handler(event, context):
    credentials = STS._request_signer._credentials
    old = credentials.get_frozen_credentials().access_key
    credentials._expiry_time = credentials._expiry_time.replace(year=2000)
    request = urllib.request.Request(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
    try:
        urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        refused = error.code
    now = STS.get_caller_identity()["Arn"]
    return [FIRST, now, old != credentials.get_frozen_credentials().access_key, "AWS_ACCESS_KEY_ID" in os.environ, refused]
"""


def test_credentials_are_asked_for_and_renewed(tmp_path: Path) -> None:
    """Those of a snapshot would expire: a client that init made gets new ones, as on AWS."""
    with service(neighbours={}) as address:
        make_role(address)
        api = client(address)
        create(api, "signing", Code={"ZipFile": zipped({"app.py": SIGNING})}, SnapStart=SNAP, Publish=True, Timeout=30)
        settle(api, "signing:1")
        mine = "arn:aws:sts::000000000000:assumed-role/worker/signing"
        assert call(api, "signing") == [mine, mine, True, False, 403]


def test_refused_combinations(api: Any, snapped: str) -> None:
    parameters: dict[str, Any] = {"Role": "arn:aws:iam::000000000000:role/worker", "Handler": "app.handler", "SnapStart": SNAP,
                                  "Code": {"ZipFile": zipped()}}  # fmt: skip
    assert refusal(api.create_function, FunctionName="s", Runtime="python3.11", **parameters)[1:] == (
        "InvalidParameterValueException", "python3.11 is not supported for SnapStart enabled functions."
    )  # fmt: skip
    large = refusal(
        api.create_function, FunctionName="s", Runtime="python3.13", EphemeralStorage={"Size": 1024}, **parameters
    )
    assert "512 MB" in large[2]
    answer = refusal(
        api.put_provisioned_concurrency_config, FunctionName=snapped, Qualifier="1", ProvisionedConcurrentExecutions=1
    )
    assert answer[:2] == (400, "InvalidParameterValueException") and "SnapStart" in answer[2]
