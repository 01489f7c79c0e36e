"""Buckets, topics, rules, schedules and logs invoke functions: AWS's forms, policies asked, failures told, loops ended."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import gzip
import hashlib
import itertools
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from serve_support import (
    ACCOUNT,
    REGION,
    ROLE,
    client,
    clock,
    create,
    make_role,
    refusal,
    served,
    service,
    until,
    zipped,
)

from lading.service.lineage import short_name
from lading.service.queue.store import DurableQueue

CODE = zipped(
    {
        "app.py": (
            "import boto3, json, os\n"
            "def handler(event, context):\n"
            "    boto3.client('sqs').send_message(QueueUrl=os.environ['TOLD'], MessageBody=json.dumps(event))\n"
        )
    }
)
Told = Callable[[], Any]


def function_arn(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service(neighbours={}) as url:
        yield url


@pytest.fixture(scope="module")
def told(url: str) -> Iterator[Told]:
    """A function `told` that sends every event on, and what reads the next one."""
    api, sqs = client(url), client(url, "sqs")
    queue = sqs.create_queue(QueueName="told")["QueueUrl"]
    create(
        api, "told", Role=make_role(url), Code={"ZipFile": CODE}, Timeout=30, Environment={"Variables": {"TOLD": queue}}
    )

    def receive() -> Any:
        message = until(lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=2).get("Messages"), 60)[0]
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return json.loads(message["Body"])

    yield receive


def permit(url: str, name: str, service: str, source: str, statement: str = "") -> None:
    client(url).add_permission(
        FunctionName=name,
        StatementId=statement or service + "-" + source.rpartition(":")[2].replace("/", "-"),
        Action="lambda:InvokeFunction",
        Principal=f"{service}.amazonaws.com",
        SourceArn=source,
        SourceAccount=ACCOUNT,
    )


def bucket(url: str, name: str) -> Any:
    s3 = client(url, "s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return s3


def notify(s3: Any, name: str, function: str, **more: Any) -> None:
    one = {"Id": "all", "LambdaFunctionArn": function, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"], **more}
    s3.put_bucket_notification_configuration(
        Bucket=name, NotificationConfiguration={"LambdaFunctionConfigurations": [one]}
    )


def test_an_upload_invokes_a_function_with_s3_s_record(url: str, told: Told) -> None:
    s3 = bucket(url, "uploads")
    permit(url, "told", "s3", "arn:aws:s3:::uploads")
    notify(s3, "uploads", function_arn("told"), Filter={"Key": {"FilterRules": [{"Name": "suffix", "Value": ".jpg"}]}})
    s3.put_object(Bucket="uploads", Key="red flowers/ä.txt", Body=b"no picture")
    s3.put_object(Bucket="uploads", Key="red flowers/ä.jpg", Body=b"picture")
    [record] = told()["Records"]
    assert (record["eventVersion"], record["eventSource"], record["awsRegion"]) == ("2.1", "aws:s3", REGION)
    assert record["eventName"] == "ObjectCreated:Put"
    assert record["s3"]["configurationId"] == "all"
    assert record["s3"]["bucket"] == {
        "name": "uploads", "ownerIdentity": {"principalId": ACCOUNT}, "arn": "arn:aws:s3:::uploads",
    }  # fmt: skip
    described = record["s3"]["object"]
    assert (described["key"], described["size"]) == ("red+flowers/%C3%A4.jpg", 7)
    assert described["eTag"] == hashlib.md5(b"picture").hexdigest()
    s3.delete_object(Bucket="uploads", Key="red flowers/ä.jpg")
    [removed] = told()["Records"]
    assert removed["eventName"] == "ObjectRemoved:Delete"
    assert set(removed["s3"]["object"]) == {"key", "sequencer"}
    assert removed["s3"]["object"]["sequencer"] > described["sequencer"]


def test_each_way_to_make_an_object_is_told_of_once(url: str, told: Told) -> None:
    s3 = bucket(url, "ways")
    permit(url, "told", "s3", "arn:aws:s3:::ways")
    notify(s3, "ways", function_arn("told"), Events=["s3:ObjectCreated:*", "s3:ObjectTagging:*"])
    where = {"Bucket": "ways", "Key": "parts"}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    part = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"1")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
    names = [told()["Records"][0]["eventName"]]
    s3.copy_object(Bucket="ways", Key="copy", CopySource="ways/parts")
    names.append(told()["Records"][0]["eventName"])
    s3.put_object(Bucket="ways", Key="tagged", Body=b"", Tagging="a=b")
    names.append(told()["Records"][0]["eventName"])
    s3.put_object_tagging(Bucket="ways", Key="tagged", Tagging={"TagSet": [{"Key": "a", "Value": "c"}]})
    names.append(told()["Records"][0]["eventName"])
    assert names == [
        "ObjectCreated:CompleteMultipartUpload",
        "ObjectCreated:Copy",
        "ObjectCreated:Put",
        "ObjectTagging:Put",
    ]


def test_versions_and_delete_markers_are_in_the_record(url: str, told: Told) -> None:
    s3 = bucket(url, "versioned")
    s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    permit(url, "told", "s3", "arn:aws:s3:::versioned")
    notify(s3, "versioned", function_arn("told"))
    version = s3.put_object(Bucket="versioned", Key="a", Body=b"1")["VersionId"]
    assert told()["Records"][0]["s3"]["object"]["versionId"] == version
    marker = s3.delete_object(Bucket="versioned", Key="a")["VersionId"]
    [record] = told()["Records"]
    assert record["eventName"] == "ObjectRemoved:DeleteMarkerCreated"
    assert record["s3"]["object"]["versionId"] == marker
    s3.delete_object(Bucket="versioned", Key="a", VersionId=version)
    [record] = told()["Records"]
    assert (record["eventName"], record["s3"]["object"]["versionId"]) == ("ObjectRemoved:Delete", version)


def test_a_bucket_may_not_name_a_function_that_does_not_let_it_in(url: str, told: Told) -> None:
    s3 = bucket(url, "unknown")
    permit(url, "told", "s3", "arn:aws:s3:::another")
    for name in ("told", "nobody"):
        status, code, message = refusal(notify, s3=s3, name="unknown", function=function_arn(name))
        assert (status, code) == (400, "InvalidArgument")
        assert message == "Unable to validate the following destination configurations"
    assert "LambdaFunctionConfigurations" not in s3.get_bucket_notification_configuration(Bucket="unknown")
    s3.put_bucket_notification_configuration(
        Bucket="unknown",
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [
                {"LambdaFunctionArn": function_arn("nobody"), "Events": ["s3:ObjectCreated:*"]}
            ]
        },
        SkipDestinationValidation=True,
    )
    s3.put_object(Bucket="unknown", Key="a", Body=b"")  # and nobody is invoked


def test_notifications_and_functions_are_changed_at_the_same_time(url: str, told: Told) -> None:
    """Each asks the other's state: a function's role is looked up in IAM, a bucket's function among the functions."""
    s3 = bucket(url, "changing")
    permit(url, "told", "s3", "arn:aws:s3:::changing")

    def change_function(number: int) -> None:
        refusal(client(url).update_function_configuration, FunctionName="told", Role=f"{ROLE}-{number}")

    def change_bucket(number: int) -> None:
        notify(s3, "changing", function_arn("told"), Id=str(number))

    with ThreadPoolExecutor(8) as pool:
        for done in [
            pool.submit(change, number) for number in range(12) for change in (change_function, change_bucket)
        ]:
            done.result(60)


def test_a_topic_s_message_reaches_a_function(url: str, told: Told) -> None:
    sns = client(url, "sns")
    topic = sns.create_topic(Name="news")["TopicArn"]
    permit(url, "told", "sns", topic)
    subscription = sns.subscribe(
        TopicArn=topic, Protocol="lambda", Endpoint=function_arn("told"), ReturnSubscriptionArn=True
    )
    sns.set_subscription_attributes(
        SubscriptionArn=subscription["SubscriptionArn"],
        AttributeName="FilterPolicy",
        AttributeValue='{"kind": ["good"]}',
    )
    bad = {"kind": {"DataType": "String", "StringValue": "bad"}}
    good = {"kind": {"DataType": "String", "StringValue": "good"}}
    sns.publish(TopicArn=topic, Message="no", MessageAttributes=bad)
    entries = [{"Id": "1", "Message": "yes", "Subject": "hear", "MessageAttributes": good}]
    identity = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)["Successful"][0]["MessageId"]
    [record] = told()["Records"]
    assert (record["EventSource"], record["EventVersion"]) == ("aws:sns", "1.0")
    assert record["EventSubscriptionArn"] == subscription["SubscriptionArn"]
    message = record["Sns"]
    assert (message["Type"], message["TopicArn"], message["MessageId"]) == ("Notification", topic, identity)
    assert (message["Message"], message["Subject"]) == ("yes", "hear")
    assert message["MessageAttributes"] == {"kind": {"Type": "String", "Value": "good"}}
    assert {"Timestamp", "Signature", "SignatureVersion", "SigningCertUrl", "UnsubscribeUrl"} < set(message)


def test_what_a_topic_may_not_invoke_goes_to_its_dead_letter_queue_and_is_counted(url: str, told: Told) -> None:
    sns, sqs = client(url, "sns"), client(url, "sqs")
    topic = sns.create_topic(Name="closed")["TopicArn"]
    queue = sqs.create_queue(QueueName="letters")["QueueUrl"]
    policy = json.dumps({"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:letters"})
    sns.subscribe(
        TopicArn=topic, Protocol="lambda", Endpoint=function_arn("told"), Attributes={"RedrivePolicy": policy}
    )
    sns.publish(TopicArn=topic, Message="unheard")
    [letter] = until(lambda: sqs.receive_message(QueueUrl=queue).get("Messages"))
    assert json.loads(letter["Body"])["Message"] == "unheard"
    assert f'NumberOfNotificationsFailed{{source="{topic}",reason="NO_PERMISSIONS"}} 1' in metrics(url)


def metrics(url: str) -> str:
    with urllib.request.urlopen(f"{url}/_lading/metrics", timeout=60) as answer:
        return str(answer.read().decode())


def rule(url: str, name: str, **target: Any) -> tuple[Any, str]:
    events = client(url, "events")
    pattern = json.dumps({"source": [name]})
    arn = events.put_rule(Name=name, EventPattern=pattern)["RuleArn"]
    events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": function_arn("told"), **target}])
    return events, arn


def put(events: Any, source: str, detail: Any) -> str:
    entry = {"Source": source, "DetailType": "Told", "Detail": json.dumps(detail), "Resources": ["arn:aws:x:::y"]}
    [answer] = events.put_events(Entries=[entry])["Entries"]
    return str(answer["EventId"])


def test_an_event_reaches_the_functions_of_matching_rules(url: str, told: Told) -> None:
    events, arn = rule(url, "plain")
    permit(url, "told", "events", arn)
    identity = put(events, "plain", {"a": 1})
    event = told()
    assert list(event) == ["version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"]
    assert event | {"time": ""} == {
        "version": "0", "id": identity, "detail-type": "Told", "source": "plain", "account": ACCOUNT, "time": "",
        "region": REGION, "resources": ["arn:aws:x:::y"], "detail": {"a": 1},
    }  # fmt: skip
    assert event["time"][10] + event["time"][-1] + str(len(event["time"])) == "TZ20"
    events.disable_rule(Name="plain")
    put(events, "plain", {"a": 2})
    events.enable_rule(Name="plain")
    put(events, "plain", {"a": 3})
    assert told()["detail"] == {"a": 3}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"Input": '{"fixed": true}'}, {"fixed": True}),
        ({"InputPath": "$.detail.items[1]"}, {"b": 2}),
        (
            {
                "InputTransformer": {
                    "InputPathsMap": {"name": "$.detail.name", "all": "$.detail.items"},
                    "InputTemplate": '{"text": "it is <name>", "name": <name>, "all": <all>, "rule": <aws.events.rule-name>}',
                }
            },
            {"text": 'it is a "name"', "name": 'a "name"', "all": [{"a": 1}, {"b": 2}], "rule": "shaped"},
        ),
    ],
    ids=["Input", "InputPath", "InputTransformer"],
)
def test_a_target_shapes_its_input(url: str, told: Told, target: dict[str, Any], expected: Any) -> None:
    events, arn = rule(url, "shaped", **target)
    if "shaped" not in client(url).get_policy(FunctionName="told")["Policy"]:
        permit(url, "told", "events", arn)
    put(events, "shaped", {"name": 'a "name"', "items": [{"a": 1}, {"b": 2}]})
    assert told() == expected


def test_an_object_s_event_reaches_a_rule(url: str, told: Told) -> None:
    s3 = bucket(url, "bridged")
    s3.put_bucket_notification_configuration(
        Bucket="bridged", NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    events = client(url, "events")
    pattern = {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": {"bucket": {"name": ["bridged"]}}}
    arn = events.put_rule(Name="objects", EventPattern=json.dumps(pattern))["RuleArn"]
    events.put_targets(Rule="objects", Targets=[{"Id": "1", "Arn": function_arn("told")}])
    permit(url, "told", "events", arn)
    s3.put_object(Bucket="bridged", Key="a b", Body=b"12")
    event = told()
    assert (event["source"], event["detail-type"], event["resources"]) == (
        "aws.s3",
        "Object Created",
        ["arn:aws:s3:::bridged"],
    )
    assert (event["detail"]["object"]["key"], event["detail"]["object"]["size"]) == ("a b", 2)
    assert event["detail"]["reason"] == "PutObject"


def test_an_event_without_permission_is_counted_and_goes_to_the_target_s_dead_letter_queue(
    url: str, told: Told
) -> None:
    sqs = client(url, "sqs")
    queue = sqs.create_queue(QueueName="unsent")["QueueUrl"]
    events, arn = rule(url, "closed", DeadLetterConfig={"Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:unsent"})
    put(events, "closed", {})
    [letter] = until(lambda: sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"]).get("Messages"))
    attributes = {name: one["StringValue"] for name, one in letter["MessageAttributes"].items()}
    assert attributes["ERROR_CODE"] == "NO_PERMISSIONS"
    assert (attributes["RULE_ARN"], attributes["TARGET_ARN"]) == (arn, function_arn("told"))
    assert f'FailedInvocations{{source="{arn}",reason="NO_PERMISSIONS"}} 1' in metrics(url)


def test_a_target_that_is_not_served_is_named(url: str, told: Told) -> None:
    events, _ = rule(url, "elsewhere", Arn=f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s")
    with pytest.raises(ClientError, match="stream/s, a target of the rule elsewhere") as caught:
        put(events, "elsewhere", {})
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    events.remove_targets(Rule="elsewhere", Ids=["1"])
    for target in (
        {"Arn": "arn:aws:sqs:here::nothing"},
        {"InputPath": "detail["},
        {"Arn": f"arn:aws:sns:{REGION}:{ACCOUNT}:none"},
    ):
        events.put_targets(Rule="elsewhere", Targets=[{"Id": "1", "Arn": function_arn("nobody"), **target}])
        put(events, "elsewhere", {})  # who publishes isn't told
    events.remove_targets(Rule="elsewhere", Ids=["1"])


def test_a_scheduled_rule_fires_by_the_service_s_clock(url: str, told: Told) -> None:
    events = client(url, "events")
    arn = events.put_rule(Name="often", ScheduleExpression="rate(5 minutes)")["RuleArn"]
    permit(url, "told", "events", arn)
    events.put_targets(Rule="often", Targets=[{"Id": "1", "Arn": function_arn("told")}])
    put(events, "anything", {})  # which is none of its business
    clock(url, 301)
    event = told()
    assert (event["detail-type"], event["source"], event["detail"]) == ("Scheduled Event", "aws.events", {})
    assert event["resources"] == [arn]
    clock(url, 600)
    later = [told()["time"], told()["time"]]
    times = sorted(map(dt.datetime.fromisoformat, (event["time"], *later)))
    assert [(two - one).total_seconds() for one, two in itertools.pairwise(times)] == [300, 300]
    events.disable_rule(Name="often")
    events.put_rule(Name="daily", ScheduleExpression="cron(0 3 * * ? *)")
    permit(url, "told", "events", arn.replace("often", "daily"))
    events.put_targets(Rule="daily", Targets=[{"Id": "1", "Arn": function_arn("told"), "Input": '{"which": "daily"}'}])
    clock(url, 86_400)
    assert told() == {"which": "daily"}
    events.remove_targets(Rule="daily", Ids=["1"])


def test_schedules_fire_at_once_at_a_time_and_by_a_rate(url: str, told: Told) -> None:
    scheduler = client(url, "scheduler")
    target = {"Arn": function_arn("told"), "RoleArn": ROLE}
    window = {"Mode": "OFF"}
    moment = dt.datetime.fromtimestamp(clock(url) + 7200, dt.UTC).replace(microsecond=0, tzinfo=None)
    scheduler.create_schedule(
        Name="once",
        ScheduleExpression=f"at({moment.isoformat()})",
        FlexibleTimeWindow=window,
        ActionAfterCompletion="DELETE",
        Target={**target, "Input": '{"at": "<aws.scheduler.scheduled-time>"}'},
    )
    arn = scheduler.create_schedule(
        Name="again", ScheduleExpression="rate(3 hours)", FlexibleTimeWindow=window, Target=target
    )["ScheduleArn"]
    event = told()  # a rate without a start begins at once
    assert (event["source"], event["resources"], event["detail"]) == ("aws.scheduler", [arn], "{}")
    scheduler.delete_schedule(Name="again")
    clock(url, 7201)
    assert told() == {"at": f"{moment.isoformat()}Z"}
    assert scheduler.list_schedules()["Schedules"] == []


@pytest.mark.parametrize("expression", ["rate(1 minutes)", "cron(0 25 * * ? *)", "at(2026-02-30T00:00:00)", "often"])
def test_expressions_that_never_come_are_refused(url: str, expression: str) -> None:
    target, window = {"Arn": function_arn("told"), "RoleArn": ROLE}, {"Mode": "OFF"}
    assert refusal(client(url, "events").put_rule, Name="never", ScheduleExpression=expression)[:2] == (
        400,
        "ValidationException",
    )
    call = client(url, "scheduler").create_schedule
    refused = refusal(call, Name="never", ScheduleExpression=expression, FlexibleTimeWindow=window, Target=target)
    assert refused == (400, "ValidationException", f"Invalid Schedule Expression {expression}.")


def test_matching_log_lines_reach_a_subscribed_function(url: str, told: Told) -> None:
    logs, group = client(url, "logs"), "of/others"
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="one")

    def subscribe(name: str = "errors", to: str = "told") -> None:
        logs.put_subscription_filter(
            logGroupName=group, filterName=name, filterPattern="ERROR", destinationArn=function_arn(to)
        )

    permission = "Make sure you have given CloudWatch Logs permission to execute your function."
    refused = f"Could not execute the lambda function. {permission}"
    for to in ("told", "nobody"):
        assert refusal(subscribe, to=to) == (400, "InvalidParameterException", refused)
    permit(url, "told", "logs", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:*", statement="logs")
    subscribe()
    [shown] = logs.describe_subscription_filters(logGroupName=group)["subscriptionFilters"]
    assert (shown["filterName"], shown["filterPattern"], shown["distribution"]) == ("errors", "ERROR", "ByLogStream")
    now = int(time.time() * 1000)
    events = [{"timestamp": now, "message": text} for text in ("fine", "ERROR one", "ERROR two")]
    logs.put_log_events(logGroupName=group, logStreamName="one", logEvents=events)
    data = json.loads(gzip.decompress(base64.b64decode(told()["awslogs"]["data"])))
    assert [(event["timestamp"], event["message"]) for event in data.pop("logEvents")] == [
        (now, "ERROR one"),
        (now, "ERROR two"),
    ]
    assert data == {
        "messageType": "DATA_MESSAGE", "owner": ACCOUNT, "logGroup": group, "logStream": "one",
        "subscriptionFilters": ["errors"],
    }  # fmt: skip
    subscribe("more")
    assert refusal(subscribe, name="too many")[1] == "LimitExceededException"
    logs.delete_subscription_filter(logGroupName=group, filterName="more")
    assert (
        refusal(logs.delete_subscription_filter, logGroupName=group, filterName="more")[1]
        == "ResourceNotFoundException"
    )
    logs.delete_log_group(logGroupName=group)


def caused(url: str, service: str, turns: int) -> Any:
    """A client whose requests come from the function `told`, after so many turns of it."""
    made = client(url, service)
    trace = f"Root=1-0-0;Lineage={short_name(function_arn('told'))}:{turns}"

    def add(request: Any, **_: Any) -> None:
        request.headers["X-Amzn-Trace-Id"] = trace

    made.meta.events.register("before-send", add)
    return made


def publish(url: str, turns: int) -> None:
    caused(url, "sns", turns).publish(TopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:turns", Message="turn")


def publish_batch(url: str, turns: int) -> None:
    entries = [{"Id": "1", "Message": "turn"}]
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:turns"
    caused(url, "sns", turns).publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)


def upload(url: str, turns: int) -> None:
    caused(url, "s3", turns).put_object(Bucket="turns", Key="turn", Body=b"")


@pytest.fixture(scope="module")
def turning(url: str, told: Told) -> str:
    """A topic and a bucket that invoke `told`; the queue that is told where it isn't invoked."""
    sns = client(url, "sns")
    topic = sns.create_topic(Name="turns")["TopicArn"]
    permit(url, "told", "sns", topic)
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function_arn("told"))
    s3 = bucket(url, "turns")
    permit(url, "told", "s3", "arn:aws:s3:::turns")
    notify(s3, "turns", function_arn("told"))
    stopped = str(client(url, "sqs").create_queue(QueueName="stopped")["QueueUrl"])
    client(url).put_function_event_invoke_config(
        FunctionName="told",
        DestinationConfig={"OnFailure": {"Destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:stopped"}},
    )
    return stopped


@pytest.mark.parametrize("send", [publish, publish_batch, upload])
def test_a_chain_through_a_topic_or_a_bucket_ends_after_sixteen_turns(
    url: str, told: Told, turning: str, send: Callable[[str, int], None]
) -> None:
    send(url, 15)
    assert "Records" in told()
    send(url, 16)
    sqs = client(url, "sqs")
    [message] = until(lambda: sqs.receive_message(QueueUrl=turning, WaitTimeSeconds=2).get("Messages"))
    sqs.delete_message(QueueUrl=turning, ReceiptHandle=message["ReceiptHandle"])
    assert json.loads(message["Body"])["requestContext"]["condition"] == "RecursiveInvocationException"


def test_messages_keep_the_trace_of_whoever_caused_them(url: str) -> None:
    sqs, sns = client(url, "sqs"), client(url, "sns")
    queue = sqs.create_queue(QueueName="traced")["QueueUrl"]
    topic = sns.create_topic(Name="traced")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:traced")
    own = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=own"}}
    sender = caused(url, "sqs", 3)
    sender.send_message(QueueUrl=queue, MessageBody="one")
    sender.send_message(QueueUrl=queue, MessageBody="own", MessageSystemAttributes=own)
    entries: list[dict[str, Any]] = [{"Id": "1", "MessageBody": "batch"}]
    entries.append({"Id": "2", "MessageBody": "own", "MessageSystemAttributes": own})
    sender.send_message_batch(QueueUrl=queue, Entries=entries)
    caused(url, "sns", 3).publish(TopicArn=topic, Message="topic")
    sqs.send_message(QueueUrl=queue, MessageBody="none")
    found: list[str] = []
    while len(found) < 6:
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, AttributeNames=["AWSTraceHeader"])
        found += [one.get("Attributes", {}).get("AWSTraceHeader", "") for one in answer["Messages"]]
    lineage = f"Root=1-0-0;Lineage={short_name(function_arn('told'))}:3"
    assert sorted(found) == sorted(["", "Root=own", "Root=own", lineage, lineage, lineage])


STACK = """
Transform: AWS::Serverless-2016-10-31
Parameters: {Queue: {Type: String}}
Resources:
  Objects: {Type: AWS::S3::Bucket, Properties: {BucketName: of-the-stack}}
  Messages: {Type: AWS::SNS::Topic, Properties: {TopicName: of-the-stack}}
  Function:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      Timeout: 30
      CodeUri: s3://of-code/f.zip
      Environment: {Variables: {TOLD: !Ref Queue}}
      Events:
        Object: {Type: S3, Properties: {Bucket: !Ref Objects, Events: 's3:ObjectCreated:*'}}
        Message: {Type: SNS, Properties: {Topic: !Ref Messages}}
        Event: {Type: EventBridgeRule, Properties: {Pattern: {source: [of-the-stack]}}}
        Rule: {Type: Schedule, Properties: {Schedule: rate(10 minutes)}}
        Schedule: {Type: ScheduleV2, Properties: {ScheduleExpression: cron(0/20 * * * ? *)}}
"""


def test_the_events_of_a_sam_template_invoke_its_function(url: str, told: Told) -> None:
    bucket(url, "of-code").put_object(Bucket="of-code", Key="f.zip", Body=CODE)
    stacks = client(url, "cloudformation", patience=120.0)
    queue = client(url, "sqs").get_queue_url(QueueName="told")["QueueUrl"]
    parameters = [{"ParameterKey": "Queue", "ParameterValue": queue}]
    capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    stacks.create_stack(StackName="events", TemplateBody=STACK, Parameters=parameters, Capabilities=capabilities)
    stacks.get_waiter("stack_create_complete").wait(StackName="events", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    client(url, "s3").put_object(Bucket="of-the-stack", Key="a", Body=b"")
    client(url, "sns").publish(TopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:of-the-stack", Message="hear")
    put(client(url, "events"), "of-the-stack", {})
    clock(url, 1201)

    def source(event: Any) -> str:
        record = event["Records"][0] if "Records" in event else {}
        return str(event.get("source") or record.get("eventSource") or record.get("EventSource"))

    missing = {"aws:s3", "aws:sns", "of-the-stack", "aws.events", "aws.scheduler"}
    while missing:
        missing.discard(source(told()))
    client(url, "s3").delete_object(Bucket="of-the-stack", Key="a")
    stacks.delete_stack(StackName="events")
    stacks.get_waiter("stack_delete_complete").wait(StackName="events", WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def test_what_a_client_was_told_of_survives_a_kill(tmp_path: Path) -> None:
    """The bucket is gone then, and what it had for the function is not."""
    code = zipped({"app.py": "import time\ndef handler(event, context):\n    time.sleep(20)\n"})
    with served("--state", str(tmp_path)) as (url, process):
        create(client(url), "late", Role=make_role(url), Code={"ZipFile": code}, Timeout=30)
        s3 = bucket(url, "short")
        permit(url, "late", "s3", "arn:aws:s3:::short")
        notify(s3, "short", function_arn("late"))
        s3.put_object(Bucket="short", Key="a", Body=b"")
        process.kill()
        process.wait(60)
    with contextlib.closing(DurableQueue(tmp_path / "queue.sqlite")) as queue:
        [lane] = queue.lanes()
        [event] = queue.due(lane, time.time() + 1, 10)
    assert event.name == "late" and json.loads(event.event)["Records"][0]["s3"]["object"]["key"] == "a"
