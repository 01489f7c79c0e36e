"""Event source mappings of Kinesis and DynamoDB streams through boto3: what functions get, failures, and what is kept."""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serve_support import ACCOUNT, REGION, ROLE, client, clock, create, make_role, refusal, service, until, zipped
from test_serve_sources import end, mapped, settled

CODE = zipped(
    {
        "app.py": """
import base64, json
def handler(event, context):
    print("GOT", json.dumps(event))
    if "kinesis" not in event["Records"][0]:
        return
    texts = [base64.b64decode(record["kinesis"]["data"]).decode() for record in event["Records"]]
    if "throw" in texts:
        raise ValueError("told to")
    failed = [r["kinesis"]["sequenceNumber"] for r, text in zip(event["Records"], texts) if text == "fail"]
    return {"batchItemFailures": [{"itemIdentifier": one} for one in failed]}
"""
    }
)
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="environments with all walls need root")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service(neighbours={}) as url:
        make_role(url)
        create(client(url), "reader", Code={"ZipFile": CODE})
        yield url


@pytest.fixture
def stream(url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a stream of the test's own."""
    kinesis = client(url, "kinesis")
    name = request.node.name.partition("[")[0][-100:]
    kinesis.create_stream(StreamName=name, ShardCount=1)
    yield name
    kinesis.delete_stream(StreamName=name)


def arn_of(stream: str) -> str:
    return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{stream}"


def put(url: str, stream: str, *texts: str, key: str = "") -> None:
    kinesis = client(url, "kinesis")
    records = [{"Data": text.encode(), "PartitionKey": key or text} for text in texts]
    assert kinesis.put_records(StreamName=stream, Records=records)["FailedRecordCount"] == 0


def events(url: str, source: str, name: str = "reader") -> list[list[dict[str, Any]]]:
    """The batches of a source that a function got, from its log."""
    logs = client(url, "logs")
    try:
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{name}", filterPattern="GOT"
        )
        found = [json.loads(event["message"].partition(" ")[2]) for page in pages for event in page["events"]]
    except logs.exceptions.ResourceNotFoundException:
        return []
    return [event["Records"] for event in found if event["Records"][0]["eventSourceARN"] == source]


def batches(url: str, stream: str) -> list[list[str]]:
    """What was in the records of a Kinesis stream's batches."""
    return [
        [base64.b64decode(record["kinesis"]["data"]).decode() for record in batch]
        for batch in events(url, arn_of(stream))
    ]


def test_kinesis_records_come_as_aws_sends_them(url: str, api: Any, stream: str) -> None:
    put(url, stream, "before")
    uuid = mapped(api, arn_of(stream), StartingPosition="LATEST")
    assert api.get_event_source_mapping(UUID=uuid)["LastProcessingResult"] == "No records processed"
    put(url, stream, "hello")
    [[record]] = until(lambda: events(url, arn_of(stream)))
    arrived = record["kinesis"].pop("approximateArrivalTimestamp")
    assert abs(arrived - time.time()) < 120
    sequence = record["kinesis"].pop("sequenceNumber")
    assert record == {
        "kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": "hello", "data": "aGVsbG8="},
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": ROLE,
        "awsRegion": REGION,
        "eventSourceARN": arn_of(stream),
    }
    until(lambda: api.get_event_source_mapping(UUID=uuid)["LastProcessingResult"] == "OK")
    with urllib.request.urlopen(f"{url}/_lading/metrics") as response:
        metrics = response.read().decode()
    [age] = [line for line in metrics.splitlines() if line.startswith("IteratorAge{") and arn_of(stream) in line]
    assert 'FunctionName="reader"' in age and 'ShardId="shardId-000000000000"' in age
    assert 0 <= float(age.split()[-1]) < 120_000
    end(api, uuid)


def test_what_is_answered_and_refused(url: str, api: Any, stream: str) -> None:
    made = api.create_event_source_mapping(
        EventSourceArn=arn_of(stream), FunctionName="reader", StartingPosition="TRIM_HORIZON"
    )
    uuid = made["UUID"]
    assert (made["State"], made["StateTransitionReason"]) == ("Creating", "User action")
    assert (made["BatchSize"], made["ParallelizationFactor"], made["MaximumRetryAttempts"]) == (100, 1, -1)
    assert (made["StartingPosition"], made["DestinationConfig"]) == ("TRIM_HORIZON", {"OnFailure": {}})
    assert (made["MaximumRecordAgeInSeconds"], made["TumblingWindowInSeconds"]) == (-1, 0)
    settled(api, uuid)
    again = {"EventSourceArn": arn_of(stream), "FunctionName": "reader", "StartingPosition": "LATEST"}
    status, code, message = refusal(api.create_event_source_mapping, **again)
    assert (status, code) == (409, "ResourceConflictException") and uuid in message
    end(api, uuid)
    for wrong, code, text in (
        ({"EventSourceArn": arn_of("none")}, "InvalidParameterValueException", "Stream not found"),
        ({"StartingPosition": "AT_TIMESTAMP"}, "InvalidParameterValueException", "StartingPositionTimestamp"),
        ({"MaximumRecordAgeInSeconds": 59}, "InvalidParameterValueException", "MaximumRecordAgeInSeconds"),
        ({"ScalingConfig": {"MaximumConcurrency": 2}}, "InvalidParameterValueException", "Unsupported ScalingConfig"),
        (
            {"TumblingWindowInSeconds": 30, "ParallelizationFactor": 2},
            "InvalidParameterValueException",
            "a ParallelizationFactor of 1",
        ),
        (
            {"DestinationConfig": {"OnFailure": {"Destination": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:reader"}}},
            "InvalidParameterValueException",
            "The provided destination config",
        ),
    ):
        assert refusal(api.create_event_source_mapping, **(again | wrong))[1] == code, wrong
        assert text in refusal(api.create_event_source_mapping, **(again | wrong))[2]


def test_a_tumbling_window_hands_its_state_on_to_its_end(url: str, api: Any, stream: str) -> None:
    code = """
import json
def handler(event, context):
    state = event["state"]
    state["records"] = state.get("records", 0) + len(event["Records"])
    if event["isFinalInvokeForWindow"]:
        print("FINAL", json.dumps([state, event["window"], event["Records"]]))
    return {"state": state}
"""
    create(api, "windowed", Code={"ZipFile": zipped({"app.py": code})})
    put(url, stream, "one", "two", "three")
    uuid = mapped(
        api, arn_of(stream), "windowed", StartingPosition="TRIM_HORIZON", BatchSize=2, TumblingWindowInSeconds=900
    )
    logs = client(url, "logs")

    def ended() -> list[Any]:
        if not logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/windowed")["logGroups"]:
            return []
        found = logs.filter_log_events(logGroupName="/aws/lambda/windowed", filterPattern="FINAL")["events"]
        return [json.loads(event["message"].partition(" ")[2]) for event in found]

    until(lambda: api.get_event_source_mapping(UUID=uuid)["LastProcessingResult"] == "OK")
    clock(url, 1100)  # past the window and the two minutes in which late records may come
    # two of them where a window's border fell between the records
    until(lambda: sum(state["records"] for state, _, _ in ended()) == 3)
    finals = ended()
    assert all(records == [] and window["start"].endswith("00Z") for _, window, records in finals)
    end(api, uuid)


def test_filters_partial_failures_and_where_reading_goes_on(url: str, api: Any, stream: str) -> None:
    """One batch, without what the filter drops; then again from the first record that failed; then after an update."""
    put(url, stream, '{"n": 1}', '{"n": 2}', "text", '{"n": 3}')
    criteria = {"Filters": [{"Pattern": '{"data": {"n": [{"anything-but": [2]}]}}'}]}
    uuid = mapped(api, arn_of(stream), StartingPosition="TRIM_HORIZON", FilterCriteria=criteria)
    assert until(lambda: batches(url, stream)) == [['{"n": 1}', '{"n": 3}']]
    changed = {"FilterCriteria": {"Filters": []}, "FunctionResponseTypes": ["ReportBatchItemFailures"]}
    api.update_event_source_mapping(UUID=uuid, MaximumRetryAttempts=1, **changed)
    settled(api, uuid)
    put(url, stream, "one", "fail", "three")
    until(lambda: len(batches(url, stream)) == 3)
    put(url, stream, "four")
    until(lambda: len(batches(url, stream)) == 4)
    assert batches(url, stream)[1:] == [["one", "fail", "three"], ["fail", "three"], ["four"]]
    end(api, uuid)


def test_a_failing_batch_is_split_and_the_bad_record_goes_to_the_destination(url: str, api: Any, stream: str) -> None:
    queue = client(url, "sqs").create_queue(QueueName="given-up")["QueueUrl"]
    put(url, stream, "a", "b", "throw", "d")
    uuid = mapped(
        api, arn_of(stream), StartingPosition="TRIM_HORIZON", BisectBatchOnFunctionError=True, MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:given-up"}},
    )  # fmt: skip
    [message] = until(lambda: client(url, "sqs").receive_message(QueueUrl=queue).get("Messages"))
    until(lambda: ["d"] in batches(url, stream))
    assert batches(url, stream) == [["a", "b", "throw", "d"], ["a", "b"], ["throw", "d"], ["throw"], ["d"]]
    record = json.loads(message["Body"])
    assert record["requestContext"] | {"requestId": ""} == {
        "requestId": "",
        "functionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:reader",
        "condition": "RetryAttemptsExhausted",
        "approximateInvokeCount": 3,
    }
    assert record["responseContext"] == {
        "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"
    }  # fmt: skip
    info = record["KinesisBatchInfo"]
    assert (info["shardId"], info["batchSize"], info["streamArn"]) == ("shardId-000000000000", 1, arn_of(stream))
    assert info["startSequenceNumber"] == info["endSequenceNumber"] == "3"
    end(api, uuid)
    client(url, "sqs").delete_queue(QueueUrl=queue)


def test_what_is_too_old_goes_to_a_bucket(url: str, api: Any, stream: str) -> None:
    s3 = client(url, "s3")
    s3.create_bucket(Bucket="too-old", CreateBucketConfiguration={"LocationConstraint": REGION})
    uuid = mapped(
        api, arn_of(stream), StartingPosition="TRIM_HORIZON", MaximumRecordAgeInSeconds=60,
        DestinationConfig={"OnFailure": {"Destination": "arn:aws:s3:::too-old"}},
    )  # fmt: skip
    put(url, stream, "throw")
    until(lambda: batches(url, stream))
    until(lambda: "PROBLEM" in api.get_event_source_mapping(UUID=uuid)["LastProcessingResult"])
    clock(url, 100)
    [found] = until(lambda: s3.list_objects_v2(Bucket="too-old").get("Contents"))
    assert found["Key"].startswith(f"aws/lambda/{uuid}/shardId-000000000000/")
    record = json.load(s3.get_object(Bucket="too-old", Key=found["Key"])["Body"])
    assert record["requestContext"]["condition"] == "RecordAgeExceeded"
    assert json.loads(record["payload"])["Records"][0]["kinesis"]["partitionKey"] == "throw"
    put(url, stream, "young")
    until(lambda: batches(url, stream)[-1] == ["young"])  # the clock's step makes no new record old
    end(api, uuid)


def test_keys_stay_in_order_in_parallel(url: str, api: Any, stream: str) -> None:
    for at in range(4):
        put(url, stream, *(f"{key}{at}" for key in "abcdef"))
    for key in "abcdef":
        put(url, stream, *(f"{key}-{at}" for at in range(5)), key=key)
    uuid = mapped(api, arn_of(stream), StartingPosition="TRIM_HORIZON", ParallelizationFactor=4, BatchSize=3)
    until(lambda: sum(map(len, batches(url, stream))) == 54)
    texts = [text for batch in batches(url, stream) for text in batch]
    assert len(set(texts)) == 54 and all(len(batch) <= 3 for batch in batches(url, stream))
    for key in "abcdef":
        assert [text for text in texts if text.startswith(f"{key}-")] == [f"{key}-{at}" for at in range(5)]
    end(api, uuid)


def test_dynamodb_records_come_as_aws_sends_them(url: str, api: Any) -> None:
    dynamodb = client(url, "dynamodb")
    made = dynamodb.create_table(
        TableName="orders", BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )["TableDescription"]  # fmt: skip
    arn = made["LatestStreamArn"]
    wrong = refusal(
        api.create_event_source_mapping, EventSourceArn=arn, FunctionName="reader", StartingPosition="AT_TIMESTAMP"
    )
    assert "Unsupported starting position" in wrong[2]
    criteria = {"Filters": [{"Pattern": '{"eventName": ["INSERT", "REMOVE"]}'}]}
    uuid = mapped(api, arn, StartingPosition="TRIM_HORIZON", FilterCriteria=criteria)
    item = {"id": {"S": "1"}, "raw": {"B": b"\0\1"}, "n": {"N": "2"}}
    dynamodb.put_item(TableName="orders", Item=item)
    dynamodb.put_item(TableName="orders", Item=item | {"n": {"N": "3"}})
    dynamodb.delete_item(TableName="orders", Key={"id": {"S": "1"}})
    until(lambda: sum(map(len, events(url, arn))) == 2)
    first, last = [record for batch in events(url, arn) for record in batch]
    assert (first["eventName"], last["eventName"]) == ("INSERT", "REMOVE")
    assert (first["eventSource"], first["eventVersion"], first["awsRegion"]) == ("aws:dynamodb", "1.1", REGION)
    inner = first["dynamodb"]
    assert inner["Keys"] == {"id": {"S": "1"}} and "OldImage" not in inner
    assert inner["NewImage"] == {"id": {"S": "1"}, "raw": {"B": "AAE="}, "n": {"N": "2"}}
    assert isinstance(inner["ApproximateCreationDateTime"], int) and inner["StreamViewType"] == "NEW_AND_OLD_IMAGES"
    assert last["dynamodb"]["OldImage"]["n"] == {"N": "3"} and inner["SequenceNumber"].isdigit()
    end(api, uuid)
    dynamodb.delete_table(TableName="orders")


def test_reading_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    """The stream is at another service, which lives on."""
    with service(neighbours={}, walls=None) as elsewhere:
        kinesis = client(elsewhere, "kinesis")
        kinesis.create_stream(StreamName="kept", ShardCount=1)
        put(elsewhere, "kept", "before")
        neighbours = {"kinesis": elsewhere}
        with service(tmp_path, neighbours=neighbours) as url:
            make_role(url)
            create(client(url), "reader", Code={"ZipFile": CODE})
            uuid = mapped(client(url), arn_of("kept"), StartingPosition="LATEST")
            put(elsewhere, "kept", "one")
            assert until(lambda: batches(url, "kept")) == [["one"]]
            until(lambda: client(url).get_event_source_mapping(UUID=uuid)["LastProcessingResult"] == "OK")
        put(elsewhere, "kept", "two")
        with service(tmp_path, neighbours=neighbours) as url:
            until(lambda: batches(url, "kept") == [["one"], ["two"]])
            api = client(url)
            api.update_event_source_mapping(UUID=uuid, Enabled=False)
            settled(api, uuid, "Disabled")
            put(elsewhere, "kept", "three")
        with service(tmp_path, neighbours=neighbours) as url:
            api = client(url)
            assert settled(api, uuid, "Disabled")
            kinesis.delete_stream(StreamName="kept")
            kinesis.create_stream(StreamName="kept", ShardCount=1)
            put(elsewhere, "kept", "new")
            api.update_event_source_mapping(UUID=uuid, Enabled=True)
            settled(api, uuid)
            until(lambda: batches(url, "kept") == [["one"], ["two"], ["new"]])
        kinesis.delete_stream(StreamName="kept")


def test_a_service_that_runs_no_functions_says_so_and_its_mappings_don_t_hang(tmp_path: Path) -> None:
    with service(tmp_path, neighbours={}) as url:
        make_role(url)
        api = client(url)
        create(api, "reader", Code={"ZipFile": CODE})
        client(url, "kinesis").create_stream(StreamName="unread", ShardCount=1)
        uuid = mapped(api, arn_of("unread"), StartingPosition="LATEST")
    with service(tmp_path, neighbours={}, walls=None) as url:
        api = client(url)
        settled(api, uuid, "Disabled")
        api.update_event_source_mapping(UUID=uuid, BatchSize=7)
        assert settled(api, uuid, "Disabled")["BatchSize"] == 7
        status, code, message = refusal(
            api.create_event_source_mapping,
            EventSourceArn=arn_of("other"),
            FunctionName="reader",
            StartingPosition="LATEST",
        )
        assert (status, code) == (501, "NotImplementedException") and "runs none" in message
        end(api, uuid)
