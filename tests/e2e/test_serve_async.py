"""Asynchronous invokes through boto3: accepted, retried, recorded at every kind of destination, and kept over a kill."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from serve_support import REGION, client, clock, create, make_role, refusal, service, until, zipped

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
CODE = zipped(
    {
        "app.py": "def handler(event, context):\n    if event.get('fail'): raise ValueError('told to')\n    return event\n"
    }
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service(neighbours={}) as url:
        yield url


@pytest.fixture(scope="module")
def role(url: str) -> str:
    return make_role(url)


def queue(url: str, name: str) -> tuple[str, str]:
    sqs = client(url, "sqs")
    address = sqs.create_queue(QueueName=name)["QueueUrl"]
    return address, f"arn:aws:sqs:{REGION}:000000000000:{name}"


def receive(url: str, address: str) -> dict[str, Any]:
    sqs = client(url, "sqs")

    def ask() -> Any:
        return sqs.receive_message(QueueUrl=address, MessageAttributeNames=["All"]).get("Messages")

    found: dict[str, Any] = until(ask, 60)[0]
    return found


def test_an_event_is_accepted_and_its_success_recorded(url: str, role: str) -> None:
    api = client(url)
    create(api, "good", Role=role, Code={"ZipFile": CODE})
    address, arn = queue(url, "good-records")
    api.put_function_event_invoke_config(FunctionName="good", DestinationConfig={"OnSuccess": {"Destination": arn}})
    answer = api.invoke(FunctionName="good", InvocationType="Event", Payload=b'{"a": 1}')
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    record = json.loads(receive(url, address)["Body"])
    assert record["requestContext"]["condition"] == "Success"
    assert record["requestContext"]["requestId"] == answer["ResponseMetadata"]["RequestId"]
    assert (record["requestPayload"], record["responsePayload"]) == ({"a": 1}, {"a": 1})


def test_a_failing_event_reaches_destination_and_dead_letter_queue(url: str, role: str) -> None:
    api = client(url)
    records, records_arn = queue(url, "bad-records")
    letters, letters_arn = queue(url, "bad-letters")
    create(api, "bad", Role=role, Code={"ZipFile": CODE}, DeadLetterConfig={"TargetArn": letters_arn})
    api.put_function_event_invoke_config(
        FunctionName="bad", MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": records_arn}}
    )
    api.invoke(FunctionName="bad", InvocationType="Event", Payload=b'{"fail": 1}')
    record = json.loads(receive(url, records)["Body"])
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["responseContext"]["functionError"] == "Unhandled"
    letter = receive(url, letters)
    assert json.loads(letter["Body"]) == {"fail": 1}
    assert letter["MessageAttributes"]["ErrorMessage"]["StringValue"] == "told to"


def test_retries_and_ages_go_by_the_clock(url: str, role: str) -> None:
    """A minute, then two; an event that is older than it may be isn't tried again."""
    api, logs = client(url), client(url, "logs")
    queues = {}
    for name, config in (("patient", {}), ("hasty", {"MaximumEventAgeInSeconds": 90})):
        create(api, name, Role=role, Code={"ZipFile": CODE})
        queues[name], arn = queue(url, f"{name}-records")
        destinations = {"OnFailure": {"Destination": arn}}
        api.put_function_event_invoke_config(FunctionName=name, DestinationConfig=destinations, **config)
        api.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"fail": 1}')

    def tries(name: str) -> int:
        try:
            found = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", filterPattern="REPORT")["events"]
        except logs.exceptions.ResourceNotFoundException:  # before its first line
            return 0
        return len(found)

    for number in (1, 2):
        until(lambda: tries("patient") == tries("hasty") == number, 60)  # noqa: B023
        clock(url, 60.5)
    record = json.loads(receive(url, queues["hasty"])["Body"])
    assert record["requestContext"]["condition"] == "EventAgeExceeded"
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert tries("patient") == 2
    clock(url, 60.5)
    record = json.loads(receive(url, queues["patient"])["Body"])
    assert (record["requestContext"]["condition"], record["requestContext"]["approximateInvokeCount"]) == (
        "RetriesExhausted",
        3,
    )
    assert (tries("patient"), tries("hasty")) == (3, 2)
    with urllib.request.urlopen(f"{url}/_lading/metrics", timeout=60) as answer:
        metrics = answer.read().decode()
    for name in ("patient", "hasty"):
        for metric in ("AsyncEventsReceived", "AsyncEventsDropped"):
            assert f'{metric}{{FunctionName="{name}",region="{REGION}",account="000000000000"}} 1\n' in metrics


def test_a_record_in_a_bucket_and_one_for_a_function(url: str, role: str) -> None:
    api, s3 = client(url), client(url, "s3")
    s3.create_bucket(Bucket="records", CreateBucketConfiguration={"LocationConstraint": REGION})
    create(api, "told", Role=role, Code={"ZipFile": CODE})
    create(api, "both", Role=role, Code={"ZipFile": CODE})
    address, arn = queue(url, "told-records")
    api.put_function_event_invoke_config(FunctionName="told", DestinationConfig={"OnSuccess": {"Destination": arn}})
    told = f"arn:aws:lambda:{REGION}:000000000000:function:told"
    config = {"OnSuccess": {"Destination": told}, "OnFailure": {"Destination": "arn:aws:s3:::records"}}
    api.put_function_event_invoke_config(FunctionName="both", MaximumRetryAttempts=0, DestinationConfig=config)
    api.invoke(FunctionName="both", InvocationType="Event", Payload=b"{}")
    record = json.loads(receive(url, address)["Body"])
    assert record["requestPayload"]["requestContext"]["functionArn"].endswith(":function:both:$LATEST")
    api.invoke(FunctionName="both", InvocationType="Event", Payload=b'{"fail": 1}')
    found = until(lambda: s3.list_objects_v2(Bucket="records").get("Contents"))
    assert found[0]["Key"].startswith("aws/lambda/async/both/")


def test_reserved_concurrency_of_zero_goes_straight_to_the_failure_destination(url: str, role: str) -> None:
    api = client(url)
    create(api, "closed", Role=role, Code={"ZipFile": CODE})
    address, arn = queue(url, "closed-records")
    api.put_function_event_invoke_config(FunctionName="closed", DestinationConfig={"OnFailure": {"Destination": arn}})
    api.put_function_concurrency(FunctionName="closed", ReservedConcurrentExecutions=0)
    api.invoke(FunctionName="closed", InvocationType="Event", Payload=b"{}")
    record = json.loads(receive(url, address)["Body"])
    assert record["requestContext"] | {"requestId": ""} == {
        "requestId": "",
        "functionArn": f"arn:aws:lambda:{REGION}:000000000000:function:closed:$LATEST",
        "condition": "ZeroReservedConcurrency",
        "approximateInvokeCount": 0,
    }


def test_invoke_async(url: str, role: str) -> None:
    api = client(url)
    create(api, "old", Role=role, Code={"ZipFile": CODE})
    assert api.invoke_async(FunctionName="old", InvokeArgs=b"{}")["Status"] == 202


def test_an_event_over_the_limit_is_refused(url: str, role: str) -> None:
    api = client(url)
    create(api, "big", Role=role, Code={"ZipFile": CODE})
    body = json.dumps("x" * 1_048_576).encode()
    status, code, _ = refusal(api.invoke, FunctionName="big", InvocationType="Event", Payload=body)
    assert (status, code) == (413, "RequestTooLargeException")


def test_code_from_a_bucket_and_its_errors(url: str, role: str) -> None:
    api, s3 = client(url), client(url, "s3")
    s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="code", Key="f.zip", Body=CODE)
    create(api, "stored", Role=role, Code={"S3Bucket": "code", "S3Key": "f.zip"})
    assert json.load(api.invoke(FunctionName="stored", Payload=b'{"b": 2}')["Payload"]) == {"b": 2}
    status, code, message = refusal(api.update_function_code, FunctionName="stored", S3Bucket="code", S3Key="g.zip")
    assert (status, code) == (400, "InvalidParameterValueException")
    assert "S3 Error Code: NoSuchKey" in message


def test_roles_that_lambda_cannot_assume_are_refused(url: str, role: str) -> None:
    api, iam = client(url), client(url, "iam")
    trust = {**TRUST, "Statement": [{**TRUST["Statement"][0], "Principal": {"Service": "ec2.amazonaws.com"}}]}  # type: ignore[index]
    other = iam.create_role(RoleName="other", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    for arn in (other, "arn:aws:iam::000000000000:role/nobody"):
        status, code, message = refusal(
            api.create_function, FunctionName="x", Runtime="python3.13", Role=arn, Handler="app.handler",
            Code={"ZipFile": CODE},
        )  # fmt: skip
        assert (status, code) == (400, "InvalidParameterValueException")
        assert message == "The role defined for the function cannot be assumed by Lambda."


def test_accounts_are_apart(url: str) -> None:
    client(url, "sqs", aws_access_key_id="111122223333").create_queue(QueueName="theirs")
    assert "QueueUrls" not in client(url, "sqs").list_queues(QueueNamePrefix="theirs")


def test_a_record_through_a_topic_and_one_through_a_bus(url: str, role: str) -> None:
    """Both end in a queue, where they can be read: a topic's subscriber's, and a rule's target's."""
    api, sns, events = client(url), client(url, "sns"), client(url, "events")
    topic = sns.create_topic(Name="outcomes")["TopicArn"]
    heard, heard_arn = queue(url, "heard")
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=heard_arn, Attributes={"RawMessageDelivery": "true"})
    bus = events.create_event_bus(Name="outcomes")["EventBusArn"]
    ruled, ruled_arn = queue(url, "ruled")
    events.put_rule(Name="all", EventBusName="outcomes", EventPattern=json.dumps({"source": ["lambda"]}))
    events.put_targets(Rule="all", EventBusName="outcomes", Targets=[{"Id": "q", "Arn": ruled_arn}])
    create(api, "spread", Role=role, Code={"ZipFile": CODE})
    config = {"OnSuccess": {"Destination": topic}, "OnFailure": {"Destination": bus}}
    api.put_function_event_invoke_config(FunctionName="spread", MaximumRetryAttempts=0, DestinationConfig=config)
    api.invoke(FunctionName="spread", InvocationType="Event", Payload=b'{"a": 1}')
    record = json.loads(receive(url, heard)["Body"])
    assert (record["requestContext"]["condition"], record["responsePayload"]) == ("Success", {"a": 1})
    api.invoke(FunctionName="spread", InvocationType="Event", Payload=b'{"fail": 1}')
    event = json.loads(receive(url, ruled)["Body"])
    assert (event["source"], event["detail-type"]) == ("lambda", "Lambda Function Invocation Result - Failure")
    arn = f"arn:aws:lambda:{REGION}:000000000000:function:spread:$LATEST"
    assert event["resources"] == [arn, bus] and event["detail"]["requestContext"]["condition"] == "RetriesExhausted"
    assert event["detail"]["responsePayload"]["errorMessage"] == "told to"


LOOP = zipped(
    {
        "app.py": """
import boto3
api = boto3.client("lambda")
def handler(event, context):
    print("TURN", event["turn"])
    if event["turn"] < 20:
        api.invoke(FunctionName="loop", InvocationType="Event", Payload='{"turn": %d}' % (event["turn"] + 1))
"""
    }
)


def test_a_function_that_calls_itself_is_stopped_unless_it_may(url: str, role: str) -> None:
    api, logs = client(url), client(url, "logs")
    letters, letters_arn = queue(url, "loop-letters")
    create(api, "loop", Role=role, Code={"ZipFile": LOOP}, Timeout=60, DeadLetterConfig={"TargetArn": letters_arn})

    def turns() -> list[int]:
        try:
            found = logs.filter_log_events(logGroupName="/aws/lambda/loop", filterPattern="TURN")["events"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        return [int(event["message"].split()[1]) for event in found]

    api.invoke(FunctionName="loop", InvocationType="Event", Payload=b'{"turn": 1}')
    letter = receive(url, letters)
    assert json.loads(letter["Body"]) == {"turn": 17}
    assert letter["MessageAttributes"]["ErrorMessage"]["StringValue"] == "RecursiveInvocationException"
    assert turns() == list(range(1, 17))
    api.put_function_recursion_config(FunctionName="loop", RecursiveLoop="Allow")
    api.invoke(FunctionName="loop", InvocationType="Event", Payload=b'{"turn": 1}')
    until(lambda: turns()[16:] == list(range(1, 21)), 60)
