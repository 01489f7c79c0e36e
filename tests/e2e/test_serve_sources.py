"""Event source mappings through boto3: validation, states, and queues that are read for functions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serve_support import ACCOUNT, REGION, client, create, make_role, refusal, service, until, zipped

CODE = zipped(
    {
        "app.py": """
import json, boto3
def handler(event, context):
    print("GOT", json.dumps(event))
    if any(record.get("body") == "throw" for record in event["Records"]):
        raise ValueError("told to")
    failed = [r["messageId"] for r in event["Records"] if r.get("body", "").startswith("fail")]
    return {"batchItemFailures": [{"itemIdentifier": one} for one in failed]}
"""
    }
)
needs_environments = pytest.mark.skipif(os.geteuid() != 0, reason="environments with all walls need root")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service(neighbours={}) as url:
        make_role(url)
        create(client(url), "reader", Code={"ZipFile": CODE})
        yield url


@pytest.fixture
def queue(url: str, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Address and ARN of a queue of the test's own."""
    sqs = client(url, "sqs")
    name = request.node.name.partition("[")[0][-70:]
    address = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "3"})["QueueUrl"]
    yield address, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
    sqs.delete_queue(QueueUrl=address)


def settled(api: Any, uuid: str, state: str = "Enabled") -> dict[str, Any]:
    def ask() -> Any:
        found = api.get_event_source_mapping(UUID=uuid)
        return found if found["State"] == state else None

    found: dict[str, Any] = until(ask)
    return found


def mapped(api: Any, arn: str, function: str = "reader", **settings: Any) -> str:
    uuid = str(api.create_event_source_mapping(EventSourceArn=arn, FunctionName=function, **settings)["UUID"])
    settled(api, uuid)
    return uuid


def end(api: Any, uuid: str) -> None:
    api.delete_event_source_mapping(UUID=uuid)
    until(lambda: uuid not in {one["UUID"] for one in api.list_event_source_mappings()["EventSourceMappings"]})


def batches(url: str, source: str, name: str = "reader") -> list[list[dict[str, Any]]]:
    """The batches of a source that a function got, from its log."""
    logs = client(url, "logs")
    try:
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{name}", filterPattern="GOT"
        )
        events = [json.loads(event["message"].partition(" ")[2]) for page in pages for event in page["events"]]
    except logs.exceptions.ResourceNotFoundException:
        return []
    return [event["Records"] for event in events if event["Records"][0]["eventSourceARN"] == source]


def bodies(url: str, source: str) -> list[str]:
    return [record["body"] for batch in batches(url, source) for record in batch]


def left(url: str, address: str) -> int:
    wanted = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = client(url, "sqs").get_queue_attributes(QueueUrl=address, AttributeNames=wanted)["Attributes"]
    return sum(int(found[name]) for name in wanted)


def test_from_creation_to_deletion(api: Any, queue: tuple[str, str]) -> None:
    _, arn = queue
    made = api.create_event_source_mapping(EventSourceArn=arn, FunctionName="reader", Tags={"a": "b"})
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:reader"
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert (made["State"], made["StateTransitionReason"]) == ("Creating", "USER_INITIATED")
    assert (made["BatchSize"], made["MaximumBatchingWindowInSeconds"], made["FunctionResponseTypes"]) == (10, 0, [])
    assert (made["EventSourceArn"], made["FunctionArn"]) == (arn, function)
    uuid, own = made["UUID"], made["EventSourceMappingArn"]
    assert own == f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{uuid}"
    assert not {"StartingPosition", "ScalingConfig", "FilterCriteria", "DestinationConfig", "Tags"} & made.keys()
    settled(api, uuid)
    assert api.list_tags(Resource=own)["Tags"] == {"a": "b"}
    api.tag_resource(Resource=own, Tags={"c": "d"})
    assert api.list_tags(Resource=own)["Tags"] == {"a": "b", "c": "d"}
    for asked in (
        {"EventSourceArn": arn},
        {"FunctionName": "reader", "EventSourceArn": arn},
        {"FunctionName": function},
    ):
        assert uuid in [one["UUID"] for one in api.list_event_source_mappings(**asked)["EventSourceMappings"]]
    assert api.list_event_source_mappings(FunctionName="other")["EventSourceMappings"] == []
    status, code, message = refusal(api.create_event_source_mapping, EventSourceArn=arn, FunctionName="reader")
    assert (status, code) == (409, "ResourceConflictException")
    assert message == (
        f'An event source mapping with SQS arn (" {arn} ") and function (" reader ") already exists. '
        f"Please update or delete the existing mapping with UUID {uuid}"
    )
    changed = api.update_event_source_mapping(UUID=uuid, BatchSize=5, ScalingConfig={"MaximumConcurrency": 2})
    assert (changed["State"], changed["BatchSize"]) == ("Updating", 5)
    assert settled(api, uuid)["ScalingConfig"] == {"MaximumConcurrency": 2}
    assert api.update_event_source_mapping(UUID=uuid, Enabled=False)["State"] == "Disabling"
    settled(api, uuid, "Disabled")
    assert api.update_event_source_mapping(UUID=uuid, Enabled=True, ScalingConfig={})["State"] == "Enabling"
    assert "ScalingConfig" not in settled(api, uuid)
    assert api.delete_event_source_mapping(UUID=uuid)["State"] == "Deleting"
    until(lambda: not api.list_event_source_mappings(EventSourceArn=arn)["EventSourceMappings"])
    for call in (api.get_event_source_mapping, api.delete_event_source_mapping, api.update_event_source_mapping):
        assert refusal(call, UUID=uuid) == (
            404, "ResourceNotFoundException", "The resource you requested does not exist."
        )  # fmt: skip


STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/none"
NO_QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:none"


@pytest.mark.parametrize(
    ("settings", "status", "code", "message"),
    [
        ({}, 400, "InvalidParameterValueException", "Unrecognized event source."),
        ({"EventSourceArn": f"arn:aws:s3:{REGION}:{ACCOUNT}:b"}, 400, "InvalidParameterValueException",
         "Unrecognized event source."),
        ({"EventSourceArn": NO_QUEUE}, 400, "InvalidParameterValueException",
         "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue."),
        ({"EventSourceArn": NO_QUEUE, "FunctionName": "none"}, 400, "InvalidParameterValueException", "Function does not exist"),
        ({"EventSourceArn": NO_QUEUE, "BatchSize": 11}, 400, "InvalidParameterValueException",
         "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"),
        ({"EventSourceArn": NO_QUEUE, "BatchSize": 10_001}, 400, "ValidationException", "1 validation error detected"),
        ({"EventSourceArn": NO_QUEUE, "StartingPosition": "LATEST"}, 400, "InvalidParameterValueException",
         "Unsupported StartingPosition parameter for given event source mapping type."),
        ({"EventSourceArn": NO_QUEUE, "FilterCriteria": {"Filters": [{"Pattern": '{"a": 1}'}]}}, 400,
         "InvalidParameterValueException", "Invalid filter pattern definition."),
        ({"EventSourceArn": f"{NO_QUEUE}.fifo", "BatchSize": 11}, 400, "InvalidParameterValueException",
         "BatchSize 11 is greater"),
        ({"EventSourceArn": f"{NO_QUEUE}.fifo", "MaximumBatchingWindowInSeconds": 1}, 400,
         "InvalidParameterValueException", "Batching window is not supported for FIFO queues."),
        ({"EventSourceArn": STREAM}, 400, "InvalidParameterValueException",
         "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null."),
        ({"EventSourceArn": STREAM, "StartingPosition": "LATEST"}, 400, "InvalidParameterValueException",
         f"Stream not found: {STREAM}"),
        ({"EventSourceArn": f"{STREAM}/consumer/c:1", "StartingPosition": "LATEST"}, 501, "NotImplementedException",
         "CreateEventSourceMapping: an event source mapping for a Kinesis consumer"),
        ({"EventSourceArn": f"arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/c/1"}, 501, "NotImplementedException",
         "CreateEventSourceMapping: an event source mapping for Amazon MSK"),
        ({"EventSourceArn": f"arn:aws:mq:{REGION}:{ACCOUNT}:broker:b:1"}, 501, "NotImplementedException",
         "CreateEventSourceMapping: an event source mapping for Amazon MQ"),
        ({"SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["a:1"]}}}, 501, "NotImplementedException",
         "CreateEventSourceMapping: an event source mapping for self-managed Apache Kafka"),
        ({"EventSourceArn": NO_QUEUE, "ProvisionedPollerConfig": {"MinimumPollers": 2}}, 501, "NotImplementedException",
         "CreateEventSourceMapping: ProvisionedPollerConfig"),
    ],
)  # fmt: skip
def test_refusals(api: Any, settings: dict[str, Any], status: int, code: str, message: str) -> None:
    found = refusal(api.create_event_source_mapping, **({"FunctionName": "reader"} | settings))
    assert found[:2] == (status, code), found
    assert found[2].startswith(message), found


def test_a_queue_that_shows_messages_too_soon(api: Any, queue: tuple[str, str]) -> None:
    create(api, "slower", Code={"ZipFile": CODE}, Timeout=60)
    found = refusal(api.create_event_source_mapping, EventSourceArn=queue[1], FunctionName="slower")
    assert found[2] == "Queue visibility timeout: 3 seconds is less than Function timeout: 60 seconds"


def test_without_neighbours_there_are_no_sources() -> None:
    with service(walls=None) as url:
        create(client(url), "f")
        status, code, _ = refusal(client(url).create_event_source_mapping, EventSourceArn=NO_QUEUE, FunctionName="f")
        assert (status, code) == (501, "NotImplementedException")


@needs_environments
def test_messages_come_as_aws_sends_them_and_are_deleted(url: str, api: Any, queue: tuple[str, str]) -> None:
    address, arn = queue
    uuid = mapped(api, arn)
    sqs = client(url, "sqs")
    attributes = {"n": {"DataType": "Number", "StringValue": "7"}, "b": {"DataType": "Binary", "BinaryValue": b"\0\1"}}
    sent = sqs.send_message(QueueUrl=address, MessageBody="hello", MessageAttributes=attributes)
    [[record]] = until(lambda: batches(url, arn))
    assert record["messageId"] == sent["MessageId"] and record["md5OfBody"] == sent["MD5OfMessageBody"]
    assert (record["body"], record["eventSource"], record["awsRegion"]) == ("hello", "aws:sqs", REGION)
    assert record["attributes"]["ApproximateReceiveCount"] == "1" and record["attributes"]["SentTimestamp"].isdigit()
    empty = {"stringListValues": [], "binaryListValues": []}
    assert record["messageAttributes"] == {
        "n": {"stringValue": "7", "dataType": "Number", **empty},
        "b": {"binaryValue": "AAE=", "dataType": "Binary", **empty},
    }
    until(lambda: left(url, address) == 0)
    end(api, uuid)


@needs_environments
def test_batches_filters_and_failures(url: str, api: Any, queue: tuple[str, str]) -> None:
    address, arn = queue
    sqs = client(url, "sqs")
    for text in ("keep", "fail", "drop", "keep"):
        sqs.send_message(QueueUrl=address, MessageBody=text)
    criteria = {"Filters": [{"Pattern": '{"body": [{"anything-but": "drop"}]}'}]}
    uuid = mapped(
        api, arn, BatchSize=100, MaximumBatchingWindowInSeconds=1, FilterCriteria=criteria,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )  # fmt: skip
    until(lambda: bodies(url, arn).count("fail") >= 2)
    assert bodies(url, arn)[:3] == ["keep", "fail", "keep"], "one batch, in order, without what the filter drops"
    assert bodies(url, arn).count("keep") == 2, "only what failed comes again"
    assert left(url, address) == 1
    end(api, uuid)


@needs_environments
def test_what_always_fails_goes_to_the_dead_letter_queue(url: str, api: Any, queue: tuple[str, str]) -> None:
    address, arn = queue
    sqs = client(url, "sqs")
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead", "maxReceiveCount": 2})
    sqs.set_queue_attributes(QueueUrl=address, Attributes={"RedrivePolicy": redrive})
    uuid = mapped(api, arn)
    sqs.send_message(QueueUrl=address, MessageBody="throw")
    [message] = until(lambda: sqs.receive_message(QueueUrl=dead).get("Messages"))
    assert message["Body"] == "throw" and bodies(url, arn) == ["throw", "throw"]
    end(api, uuid)
    sqs.delete_queue(QueueUrl=dead)


@needs_environments
def test_a_loop_through_a_queue_is_stopped(url: str, api: Any, queue: tuple[str, str]) -> None:
    """By the trace header that the SDK sends along inside a function, and SQS keeps with the message."""
    address, arn = queue
    sqs = client(url, "sqs")
    dead = sqs.create_queue(QueueName="looped")["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:looped", "maxReceiveCount": 1})
    sqs.set_queue_attributes(QueueUrl=address, Attributes={"RedrivePolicy": redrive, "VisibilityTimeout": "5"})
    code = (
        "import json, boto3\nsqs = boto3.client('sqs')\ndef handler(event, context):\n"
        "    [record] = event['Records']\n    print('GOT', json.dumps(event))\n"
        f"    sqs.send_message(QueueUrl={address!r}, MessageBody=str(int(record['body']) + 1))\n"
    )
    create(api, "looper", Code={"ZipFile": zipped({"app.py": code})}, MemorySize=1769, Timeout=5)
    api.invoke(FunctionName="looper", Payload=b'{"Records": []}')  # so that a busy machine has loaded boto3 by then
    uuid = mapped(api, arn, "looper", BatchSize=1)
    sqs.send_message(QueueUrl=address, MessageBody="1")
    [message] = until(lambda: sqs.receive_message(QueueUrl=dead).get("Messages"), 120)
    assert message["Body"] == "17"
    rounds = until(lambda: got if len(got := batches(url, arn, "looper")) >= 16 else None)
    assert [batch[0]["body"] for batch in rounds] == [str(number) for number in range(1, 17)]
    headers = [batch[0]["attributes"].get("AWSTraceHeader", "") for batch in rounds]
    assert headers[0] == "" and all(headers[count].endswith(f":{count}") for count in range(1, 16))
    end(api, uuid)
    sqs.delete_queue(QueueUrl=dead)


@needs_environments
def test_a_disabled_mapping_reads_nothing_and_a_state_folder_keeps_it(tmp_path: Path) -> None:
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:kept"

    def send(url: str, body: str) -> str:
        # The queues themselves are a neighbour's, which keeps them no longer than the process's last service.
        address = str(client(url, "sqs").create_queue(QueueName="kept")["QueueUrl"])
        client(url, "sqs").send_message(QueueUrl=address, MessageBody=body)
        return address

    with service(tmp_path, neighbours={}) as url:
        make_role(url)
        api = client(url)
        create(api, "reader", Code={"ZipFile": CODE})
        client(url, "sqs").create_queue(QueueName="kept")
        uuid = api.create_event_source_mapping(EventSourceArn=arn, FunctionName="reader", Enabled=False)["UUID"]
        settled(api, uuid, "Disabled")
    with service(tmp_path, neighbours={}) as url:
        api = client(url)
        address = send(url, "waits")
        assert settled(api, uuid, "Disabled")["EventSourceArn"] == arn
        assert bodies(url, arn) == [] and left(url, address) == 1
        api.update_event_source_mapping(UUID=uuid, Enabled=True)
        until(lambda: bodies(url, arn) == ["waits"])
    with service(tmp_path, neighbours={}) as url:
        address = send(url, "later")
        until(lambda: bodies(url, arn) == ["waits", "later"])
        client(url, "sqs").delete_queue(QueueUrl=address)
