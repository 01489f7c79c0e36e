"""The services beside Lambda: all of them behind the one port, by any client; and one that is somewhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from serve_support import ACCOUNT, REGION, client, refusal, service

from lading.service.neighbours.moto import SERVICES

TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service(neighbours={}, walls=None) as address:
        yield address


@dataclass(frozen=True)
class Use:
    """Make something, and ask for it: what the answer is to have."""

    make: Callable[[Any], Any]
    ask: Callable[[Any], Any]
    has: str


OWN = f"own-{os.getpid()}"
"""The neighbours' state is this process's, whatever else it tests."""
USES = {
    "s3": Use(
        lambda s3: s3.create_bucket(Bucket=OWN, CreateBucketConfiguration={"LocationConstraint": REGION}),
        lambda s3: s3.list_buckets()["Buckets"],
        OWN,
    ),
    "iam": Use(
        lambda iam: iam.create_role(RoleName=OWN, AssumeRolePolicyDocument=TRUST),
        lambda iam: iam.get_role(RoleName=OWN)["Role"]["Arn"],
        f"arn:aws:iam::{ACCOUNT}:role/{OWN}",
    ),
    "sts": Use(lambda _: None, lambda sts: sts.get_caller_identity(), ACCOUNT),
    "sqs": Use(lambda sqs: sqs.create_queue(QueueName=OWN), lambda sqs: sqs.list_queues()["QueueUrls"], OWN),
    "sns": Use(lambda sns: sns.create_topic(Name=OWN), lambda sns: sns.list_topics()["Topics"], OWN),
    "dynamodb": Use(
        lambda dynamodb: dynamodb.create_table(
            TableName=OWN, KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}], BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        ),
        lambda dynamodb: dynamodb.list_tables()["TableNames"],
        OWN,
    ),
    "events": Use(lambda bus: bus.create_event_bus(Name=OWN), lambda bus: bus.list_event_buses()["EventBuses"], OWN),
    "ssm": Use(
        lambda ssm: ssm.put_parameter(Name=OWN, Value="it", Type="String"),
        lambda ssm: ssm.get_parameter(Name=OWN)["Parameter"]["Value"],
        "it",
    ),
    "secretsmanager": Use(
        lambda secrets: secrets.create_secret(Name=OWN, SecretString="it"),
        lambda secrets: secrets.get_secret_value(SecretId=OWN)["SecretString"],
        "it",
    ),
    "kms": Use(
        lambda kms: kms.create_alias(AliasName=f"alias/{OWN}", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"]),
        lambda kms: kms.decrypt(CiphertextBlob=kms.encrypt(KeyId=f"alias/{OWN}", Plaintext=b"it")["CiphertextBlob"]),
        "b'it'",
    ),
    "kinesis": Use(
        lambda kinesis: kinesis.create_stream(StreamName=OWN, ShardCount=1),
        lambda kinesis: kinesis.list_streams()["StreamNames"],
        OWN,
    ),
    "scheduler": Use(
        lambda scheduler: scheduler.create_schedule_group(Name=OWN),
        lambda scheduler: scheduler.list_schedule_groups()["ScheduleGroups"],
        OWN,
    ),
    "ec2": Use(lambda _: None, lambda ec2: [ec2.describe_subnets()["Subnets"], ec2.describe_security_groups()], "vpc-"),
}  # fmt: skip


@pytest.mark.parametrize("name", SERVICES)
def test_each_answers_behind_the_same_port(url: str, name: str) -> None:
    api, use = client(url, name, patience=120.0), USES[name]
    use.make(api)
    assert use.has in str(use.ask(api))


def test_one_that_is_somewhere_else(url: str) -> None:
    """The first service is the endpoint of the second one's buckets; a HEAD has its length, and nothing else is there."""
    name = f"{OWN}-there"
    with service(neighbours={"s3": url}, walls=None) as second:
        s3 = client(second, "s3")
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket=name, Key="k", Body=b"x" * 1000)
        assert client(url, "s3").head_object(Bucket=name, Key="k")["ContentLength"] == 1000
        assert s3.head_object(Bucket=name, Key="k")["ContentLength"] == 1000
        assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"x" * 1000
    with service(neighbours={"s3": "http://127.0.0.1:9"}, walls=None) as third:
        status, code, message = refusal(client(third, "s3").list_buckets)
        assert (status, code) == (503, "ServiceUnavailable") and message.startswith(
            "http://127.0.0.1:9 does not answer"
        )


def test_refusals_are_read_by_clients_of_every_protocol() -> None:
    """A signature that is wrong, told as XML in three forms and as JSON in two."""
    ask = {"s3": "list_buckets", "sts": "get_caller_identity", "ec2": "describe_vpcs", "sqs": "list_queues"}
    with service(neighbours={}, walls=None, keys={"known": "right"}) as url:
        for name, operation in (ask | {"lambda": "list_functions"}).items():
            api = client(url, name, aws_access_key_id="known", aws_secret_access_key="wrong")
            status, code, message = refusal(getattr(api, operation))
            expected = "SignatureDoesNotMatch" if name in ("s3", "sts", "ec2") else "InvalidSignatureException"
            assert (status, code) == (403, expected), (name, code)
            assert message.startswith("The request signature we calculated does not match"), (name, message)
