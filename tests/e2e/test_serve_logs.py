"""CloudWatch Logs through boto3: what functions write is there, by Lambda's names, also after a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from serve_support import ACCOUNT, REGION, client, create, refusal, service, zipped

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


def tail(logs: Any, fresh: dict[str, Any]) -> Iterator[str]:
    """The calls of version 2's `aws logs tail --follow`: pages, then again from the newest time, known events left out."""
    known: dict[int, set[str]] = {}
    call = dict(fresh)
    while True:
        page = logs.filter_log_events(**call)
        for event in page["events"]:
            seen = known.setdefault(event["timestamp"], set())
            if event["eventId"] not in seen:
                seen.add(event["eventId"])
                yield event["message"]
        if "nextToken" in page:
            call["nextToken"] = page["nextToken"]
        else:
            newest = max(known, default=fresh["startTime"])
            known = {newest: known.get(newest, set())}
            call = {**fresh, "startTime": newest}
            time.sleep(0.05)


def test_following_as_aws_logs_tail_does(logs: Any) -> None:
    logs.create_log_group(logGroupName="tailed")
    logs.create_log_stream(logGroupName="tailed", logStreamName="s")
    moment = int(time.time() * 1000)

    def put(*texts: str) -> None:
        events = [{"timestamp": moment, "message": text} for text in texts]
        logs.put_log_events(logGroupName="tailed", logStreamName="s", logEvents=events)

    put("a", "b", "c")
    fresh = {"logGroupName": "tailed", "interleaved": True, "startTime": moment - 1000, "limit": 2}
    lines = tail(logs, fresh)
    assert [next(lines) for _ in range(3)] == ["a", "b", "c"]
    put("d")
    assert next(lines) == "d"
    put("e", "f")
    assert [next(lines), next(lines)] == ["e", "f"]


def test_live_tail(url: str) -> None:
    logs = boto3.client(
        "logs", endpoint_url=url, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test",
        config=Config(inject_host_prefix=False, retries={"max_attempts": 0}),
    )  # fmt: skip
    api = client(url)
    create(api, "lively", Code={"ZipFile": CODE})
    api.invoke(FunctionName="lively", Payload=b'{"n": 0}', LogType="Tail")
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/lively"
    session = logs.start_live_tail(logGroupIdentifiers=[arn], logEventFilterPattern="hello")
    stream = session["responseStream"]
    try:
        messages = iter(stream)
        start = next(messages)["sessionStart"]
        assert start["logGroupIdentifiers"] == [arn] and start["logEventFilterPattern"] == "hello"
        api.invoke(FunctionName="lively", Payload=b'{"n": 1}')
        found: list[dict[str, Any]] = []
        while not found:
            update = next(messages)["sessionUpdate"]
            assert update["sessionMetadata"] == {"sampled": False}
            found += update["sessionResults"]
        assert [event["message"] for event in found] == ["hello {'n': 1}\n"], "what was before isn't shown"
        assert found[0]["logGroupIdentifier"] == arn and "[$LATEST]" in found[0]["logStreamName"]
    finally:
        stream.close()
    assert refusal(logs.start_live_tail, logGroupIdentifiers=["lively"])[1] == "InvalidParameterException"
    assert refusal(logs.start_live_tail, logGroupIdentifiers=[arn + "2"])[1] == "ResourceNotFoundException"
    chosen = {"logStreamNames": ["a"], "logStreamNamePrefixes": ["b"]}
    assert refusal(logs.start_live_tail, logGroupIdentifiers=[arn], **chosen)[1] == "InvalidParameterException"


def test_errors(logs: Any) -> None:
    logs.create_log_group(logGroupName="twice")
    assert refusal(logs.create_log_group, logGroupName="twice")[:2] == (400, "ResourceAlreadyExistsException")
    for call in (logs.describe_log_streams, logs.delete_log_group, logs.filter_log_events):
        assert refusal(call, logGroupName="none")[:2] == (400, "ResourceNotFoundException")
    for pattern, status in (("[a, b]", 501), ("{ $.a = %x% }", 501), ("{ $.a }", 400)):
        assert refusal(logs.filter_log_events, logGroupName="twice", filterPattern=pattern)[0] == status
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


def test_groups_have_tags(url: str) -> None:
    logs = client(url, "logs")
    logs.create_log_group(logGroupName="/tagged", tags={"team": "shop"})
    arn = logs.describe_log_groups(logGroupNamePrefix="/tagged")["logGroups"][0]["logGroupArn"]
    logs.tag_resource(resourceArn=arn, tags={"cost": "1", "team": "web"})
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "web", "cost": "1"}
    logs.untag_resource(resourceArn=arn, tagKeys=["cost"])
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "web"}
    logs.delete_log_group(logGroupName="/tagged")
    logs.create_log_group(logGroupName="/tagged")
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {}
