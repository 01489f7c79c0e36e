"""Provisioned concurrency through real boto3: environments that are there before the first call, and what is said of them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serve_support import client, create, refusal, service, settle, zipped

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="environments need root on Linux")

CODE = """
import os, time

STARTED = time.time()
KIND = os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]

def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return {"kind": KIND, "started": STARTED, "version": context.function_version}
"""


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    with service() as address:
        yield client(address)


def published(api: Any, name: str, code: str = CODE) -> None:
    create(api, name, Code={"ZipFile": zipped({"app.py": code})}, Timeout=10, Publish=True)
    settle(api, f"{name}:1")


def call(api: Any, name: str, qualifier: str = "1") -> dict[str, Any]:
    response = api.invoke(FunctionName=name, Qualifier=qualifier, Payload=b"{}")
    answer: dict[str, Any] = json.loads(response["Payload"].read())
    return answer


def state(api: Any, name: str, qualifier: str = "1") -> tuple[str, int, int, int]:
    found = api.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
    kinds = ("Requested", "Allocated", "Available")
    counts = (int(found[f"{kind}ProvisionedConcurrentExecutions"]) for kind in kinds)
    return found["Status"], *counts  # type: ignore[return-value]


def reached(api: Any, name: str, wanted: tuple[str, int, int, int], qualifier: str = "1") -> None:
    deadline = time.monotonic() + 30
    while state(api, name, qualifier) != wanted:
        assert time.monotonic() < deadline, state(api, name, qualifier)
        time.sleep(0.02)


def provision(api: Any, name: str, count: int, qualifier: str = "1") -> dict[str, Any]:
    answer: dict[str, Any] = api.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=count
    )
    return answer


def test_environments_are_there_before_the_first_call(api: Any) -> None:
    published(api, "ready")
    answer = provision(api, "ready", 2)
    assert (answer["Status"], answer["AllocatedProvisionedConcurrentExecutions"]) == ("IN_PROGRESS", 0)
    reached(api, "ready", ("READY", 2, 2, 2))
    listed = api.list_provisioned_concurrency_configs(FunctionName="ready")["ProvisionedConcurrencyConfigs"]
    assert [(one["Status"], one["AvailableProvisionedConcurrentExecutions"]) for one in listed] == [("READY", 2)]
    now = time.time()
    found = call(api, "ready")
    assert found["kind"] == "provisioned-concurrency" and found["started"] < now
    latest = api.invoke(FunctionName="ready", Payload=b"{}")
    assert json.loads(latest["Payload"].read())["kind"] == "on-demand"


def test_without_it_environments_start_on_demand(api: Any) -> None:
    published(api, "spilling")
    provision(api, "spilling", 1)
    reached(api, "spilling", ("READY", 1, 1, 1))
    api.delete_provisioned_concurrency_config(FunctionName="spilling", Qualifier="1")
    code = refusal(api.get_provisioned_concurrency_config, FunctionName="spilling", Qualifier="1")[1]
    assert code == "ProvisionedConcurrencyConfigNotFoundException"
    deadline = time.monotonic() + 20
    while call(api, "spilling")["kind"] != "on-demand":
        assert time.monotonic() < deadline


def test_an_alias_takes_its_environments_along(api: Any) -> None:
    published(api, "moving")
    api.update_function_configuration(FunctionName="moving", Description="second")
    settle(api, "moving")
    assert api.publish_version(FunctionName="moving")["Version"] == "2"
    api.create_alias(FunctionName="moving", Name="live", FunctionVersion="1")
    provision(api, "moving", 1, "live")
    reached(api, "moving", ("READY", 1, 1, 1), "live")
    first = call(api, "moving", "live")
    assert (first["kind"], first["version"]) == ("provisioned-concurrency", "1")
    api.update_alias(FunctionName="moving", Name="live", FunctionVersion="2")
    deadline = time.monotonic() + 30
    while (second := call(api, "moving", "live"))["kind"] != "provisioned-concurrency":
        assert time.monotonic() < deadline
    assert second["version"] == "2"
    reached(api, "moving", ("READY", 1, 1, 1), "live")
    assert call(api, "moving", "1")["kind"] == "on-demand"


def test_a_function_that_fails_to_start_fails_its_configuration(api: Any) -> None:
    published(api, "broken", "raise RuntimeError('at import')")
    provision(api, "broken", 2)
    reached(api, "broken", ("FAILED", 2, 0, 0))
    found = api.get_provisioned_concurrency_config(FunctionName="broken", Qualifier="1")
    assert found["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE"


def test_they_come_back_after_a_restart(tmp_path: Path) -> None:
    with service(tmp_path) as address:
        api = client(address)
        published(api, "kept")
        provision(api, "kept", 1)
        reached(api, "kept", ("READY", 1, 1, 1))
    with service(tmp_path) as address:
        api = client(address)
        reached(api, "kept", ("READY", 1, 1, 1))
        assert call(api, "kept")["kind"] == "provisioned-concurrency"
