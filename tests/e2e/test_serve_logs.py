"""CloudWatch Logs through boto3: what functions write is there, by Lambda's names, also after a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serve_support import client, create, refusal, service, zipped

CODE = zipped({"app.py": "def handler(event, context):\n    print('hello', event)\n"})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service() as url:
        yield url


@pytest.fixture(scope="module")
def logs(url: str) -> Any:
    return client(url, "logs")


def test_a_functions_log_by_lambdas_names(url: str, logs: Any) -> None:
    api = client(url)
    create(api, "orders", Code={"ZipFile": CODE})
    api.invoke(FunctionName="orders", Payload=b'{"a": 1}', LogType="Tail")
    [group] = logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/orders")["logGroups"]
    assert group["logGroupName"] == "/aws/lambda/orders"
    [stream] = logs.describe_log_streams(logGroupName="/aws/lambda/orders")["logStreams"]
    assert f"{time.gmtime().tm_year}/" in stream["logStreamName"] and "/[$LATEST]" in stream["logStreamName"]
    events = logs.get_log_events(
        logGroupName="/aws/lambda/orders", logStreamName=stream["logStreamName"], startFromHead=True
    )["events"]
    firsts = [event["message"].split()[0] for event in events]
    assert firsts == ["INIT_START", "START", "hello", "END", "REPORT"]


def test_a_group_of_its_own(url: str, logs: Any) -> None:
    api = client(url)
    create(api, "named", Code={"ZipFile": CODE}, LoggingConfig={"LogGroup": "/my/group"})
    api.invoke(FunctionName="named", Payload=b"{}", LogType="Tail")
    found = logs.filter_log_events(logGroupName="/my/group", filterPattern="hello")["events"]
    assert [event["message"] for event in found] == ["hello {}\n"]


def test_put_get_and_page_in_both_directions(logs: Any) -> None:
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    events = [{"timestamp": 1_700_000_000_000 + number, "message": f"m{number}"} for number in range(10)]
    logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=events)
    where = {"logGroupName": "g", "logStreamName": "s", "limit": 4}
    page = logs.get_log_events(**where, startFromHead=True)
    seen = [event["message"] for event in page["events"]]
    while True:
        following = logs.get_log_events(**where, nextToken=page["nextForwardToken"])
        if following["nextForwardToken"] == page["nextForwardToken"]:
            break
        page = following
        seen += [event["message"] for event in page["events"]]
    assert seen == [f"m{number}" for number in range(10)]
    newest = logs.get_log_events(**where)
    assert [event["message"] for event in newest["events"]] == ["m6", "m7", "m8", "m9"]
    older = logs.get_log_events(**where, nextToken=newest["nextBackwardToken"])
    assert [event["message"] for event in older["events"]] == ["m2", "m3", "m4", "m5"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("ERROR", ["ERROR one", "ERROR two"]), ('"ERROR one"', ["ERROR one"]), ("ERROR -two", ["ERROR one"]),
     ("?two ?ok", ["ERROR two", "ok"]), ("", ["ERROR one", "ERROR two", "ok"])],
)  # fmt: skip
def test_filter_patterns(logs: Any, pattern: str, expected: list[str]) -> None:
    name = f"patterns-{abs(hash(pattern))}"
    logs.create_log_group(logGroupName=name)
    logs.create_log_stream(logGroupName=name, logStreamName="s")
    events = [
        {"timestamp": number + 1, "message": text} for number, text in enumerate(("ERROR one", "ERROR two", "ok"))
    ]
    logs.put_log_events(logGroupName=name, logStreamName="s", logEvents=events)
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=name, filterPattern=pattern, PaginationConfig={"PageSize": 1}
    )
    assert [event["message"] for page in pages for event in page["events"]] == expected


def test_errors(logs: Any) -> None:
    logs.create_log_group(logGroupName="twice")
    assert refusal(logs.create_log_group, logGroupName="twice")[:2] == (400, "ResourceAlreadyExistsException")
    for call in (logs.describe_log_streams, logs.delete_log_group, logs.filter_log_events):
        assert refusal(call, logGroupName="none")[:2] == (400, "ResourceNotFoundException")
    assert refusal(logs.filter_log_events, logGroupName="twice", filterPattern="{ $.a = 1 }")[0] == 501
    assert refusal(logs.put_retention_policy, logGroupName="twice", retentionInDays=2)[1] == "InvalidParameterException"
    assert refusal(logs.start_query, logGroupName="twice", startTime=0, endTime=1, queryString="x")[0] == 501


def test_retention_and_deletion(logs: Any) -> None:
    logs.create_log_group(logGroupName="kept")
    logs.put_retention_policy(logGroupName="kept", retentionInDays=7)
    assert logs.describe_log_groups(logGroupNamePrefix="kept")["logGroups"][0]["retentionInDays"] == 7
    logs.delete_log_group(logGroupName="kept")
    assert logs.describe_log_groups(logGroupNamePrefix="kept")["logGroups"] == []


def test_logs_survive_a_restart(tmp_path: Path) -> None:
    with service(tmp_path) as url:
        create(client(url), "orders", Code={"ZipFile": CODE})
        client(url).invoke(FunctionName="orders", Payload=b"{}")
    with service(tmp_path) as url:
        found = client(url, "logs").filter_log_events(logGroupName="/aws/lambda/orders", filterPattern="REPORT")
        assert len(found["events"]) == 1
