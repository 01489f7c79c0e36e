"""Functions reach the services beside them: the SDK inside finds S3, SQS, Lambda and STS with nothing configured."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serve_support import ROLE, client, create, make_role, service, zipped

from lading.sandbox.spec import ColdStart, Isolation, Network
from lading.service.engine import Walls

CODE = """
import hashlib, json, os, socket, urllib.request
import boto3

def work(event):
    s3, sqs = boto3.client("s3"), boto3.client("sqs")
    s3.put_object(Bucket=event["bucket"], Key="k", Body=b"from inside")
    body = s3.get_object(Bucket=event["bucket"], Key="k")["Body"].read().decode()
    sqs.send_message(QueueUrl=event["queue"], MessageBody=body)
    other = boto3.client("lambda").invoke(FunctionName="other", Payload=b'"hello"')
    me = boto3.client("sts").get_caller_identity()
    return {"body": body, "other": json.load(other["Payload"]), "me": me["Arn"], "account": me["Account"]}

def ports(event):
    found = []
    for host in event["hosts"]:
        for port in event["ports"]:
            with socket.socket() as one:
                one.settimeout(2)
                if one.connect_ex((host, port)) == 0:
                    found.append([host, port])
    return found

def route(event):
    request = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"] + event["path"], method=event.get("method", "GET"))
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code

def registry(event):
    ecr = boto3.client("ecr")
    (login,) = ecr.get_authorization_token()["authorizationData"]
    base = login["proxyEndpoint"] + "/v2/inside/blobs/uploads/?digest=sha256:" + hashlib.sha256(b"from inside").hexdigest()
    found = []
    for headers in ({}, {"Authorization": "Basic " + login["authorizationToken"]}):
        request = urllib.request.Request(base, b"from inside", headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                found.append(answer.status)
        except urllib.error.HTTPError as error:
            found.append(error.code)
    return found

def variables(event):
    return {name: os.environ.get(name) for name in event["names"]}

def handler(event, context):
    return {"work": work, "ports": ports, "route": route, "registry": registry, "variables": variables}[event["do"]](event)
"""
WALLS = {
    "a way out": Walls(),
    "no network": Walls(network=Network.NONE),
    "fresh interpreters": Walls(cold_start=ColdStart.EXEC, network=Network.NONE),
    "user namespace": Walls(Isolation.USER, network=Network.NONE),
}


@pytest.fixture(scope="module", params=list(WALLS))
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if os.geteuid() != 0 and request.param != "user namespace":
        pytest.skip("environments with all walls need root")
    with service(neighbours={}, walls=WALLS[request.param]) as url:
        make_role(url)
        api = client(url)
        create(api, "other")
        create(api, "caller", Code={"ZipFile": zipped({"app.py": CODE})}, Timeout=60, MemorySize=1024)
        yield url


def call(url: str, do: str, **event: Any) -> Any:
    answer = client(url).invoke(FunctionName="caller", Payload=json.dumps({"do": do, **event}))
    found = json.load(answer["Payload"])
    assert "FunctionError" not in answer, found
    return found


def test_the_sdk_works_as_it_is(url: str) -> None:
    s3, sqs = client(url, "s3"), client(url, "sqs")
    location = {"LocationConstraint": "eu-west-1"}
    s3.create_bucket(Bucket="inside", CreateBucketConfiguration=location)
    queue = sqs.create_queue(QueueName="inside")["QueueUrl"]
    try:
        found = call(url, "work", bucket="inside", queue=queue)
        assert found["body"] == "from inside" and found["other"] == "hello"
        assert found["account"] == "000000000000"
        assert found["me"] == "arn:aws:sts::000000000000:assumed-role/worker/caller"
        assert s3.get_object(Bucket="inside", Key="k")["Body"].read() == b"from inside"
        assert sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"] == "from inside"
    finally:
        s3.delete_object(Bucket="inside", Key="k")
        s3.delete_bucket(Bucket="inside")
        sqs.delete_queue(QueueUrl=queue)


def test_nothing_else_of_this_machine_is_reached(url: str) -> None:
    mine = int(url.rpartition(":")[2])
    found = call(url, "ports", hosts=["169.254.100.1", "127.0.0.1"], ports=[mine, 22, 4566, 9001])
    assert sorted(found) == [["169.254.100.1", 4566], ["169.254.100.1", 9001]]


def test_functions_cannot_operate_the_service(url: str) -> None:
    assert call(url, "route", path="/_lading/health") == 200
    assert call(url, "route", path="/_lading/events") == 404
    assert call(url, "route", path="/_lading/clock?step=9", method="POST") in (404, 405)


def test_the_registry_is_there_for_who_logs_in_as_on_aws(url: str) -> None:
    ecr = client(url, "ecr")
    ecr.create_repository(repositoryName="inside")
    try:
        assert call(url, "registry") == [401, 201]
        digest = f"sha256:{hashlib.sha256(b'from inside').hexdigest()}"
        assert httpx.get(f"{url}/v2/inside/blobs/{digest}").content == b"from inside"
    finally:
        ecr.delete_repository(repositoryName="inside", force=True)


def test_a_functions_own_endpoint_wins(url: str) -> None:
    api = client(url)
    own = {"Variables": {"AWS_ENDPOINT_URL": "http://elsewhere.example"}}
    create(api, "own", Code={"ZipFile": zipped({"app.py": CODE})}, Environment=own)
    event = {"do": "variables", "names": ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"]}
    found = json.load(api.invoke(FunctionName="own", Payload=json.dumps(event))["Payload"])
    assert found["AWS_ENDPOINT_URL"] == "http://elsewhere.example"
    assert len(found["AWS_ACCESS_KEY_ID"]) == 20 and found["AWS_SESSION_TOKEN"]


ACCOUNT = "111122223333"


@pytest.mark.skipif(os.geteuid() != 0, reason="environments with all walls need root")
def test_another_accounts_function_is_that_accounts_and_its_signature_is_verified() -> None:
    keys = {ACCOUNT: "secret"}
    with service(neighbours={}, keys=keys) as url:
        mine: dict[str, Any] = {"aws_access_key_id": ACCOUNT, "aws_secret_access_key": "secret"}
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        iam = client(url, "iam", **mine)
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        iam.create_role(RoleName="worker", AssumeRolePolicyDocument=document)
        try:
            api = client(url, **mine)
            role = ROLE.replace("000000000000", ACCOUNT)
            code = (
                "import boto3\ndef handler(event, context):\n"
                "    boto3.client('sqs').create_queue(QueueName='of-' + event)\n"
                "    return boto3.client('sts').get_caller_identity()['Account']\n"
            )
            create(api, "f", Role=role, Code={"ZipFile": zipped({"app.py": code})}, Timeout=60, MemorySize=1024)
            answer = api.invoke(FunctionName="f", Payload=b'"us"')
            assert json.load(answer["Payload"]) == ACCOUNT
            assert client(url, "sqs", **mine).get_queue_url(QueueName="of-us")["QueueUrl"]
        finally:
            iam.delete_role(RoleName="worker")
