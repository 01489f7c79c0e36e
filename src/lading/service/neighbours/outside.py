"""What the control plane and the queue ask of the neighbours: an object's bytes, whether a role can be assumed, and to
take a record. Blocks, except for `Sender.send`."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.control.names import Scope, read_reference
from lading.service.control.refusal import invalid, not_here
from lading.service.lineage import extend_lineage
from lading.service.neighbours.neighbours import Neighbours
from lading.service.queue.event import Delivery, QueuedEvent
from lading.service.queue.records import object_key

PRINCIPAL = "lambda.amazonaws.com"
Accept = Callable[[QueuedEvent], Awaitable[None]]


class AwsOutside:
    """The control plane's `Outside` over the neighbours."""

    def __init__(self, neighbours: Neighbours, *, runs: bool = True) -> None:
        """runs: whether this service runs functions, so that there is somebody to read sources for."""
        self._neighbours = neighbours
        self._runs = runs

    def fetch_object(self, scope: Scope, bucket: str, key: str, version: str | None) -> bytes:
        """Raises ApiError in AWS's words for an object that can't be had."""
        from botocore.exceptions import ClientError

        wanted = {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version else {})
        try:
            body: bytes = self._neighbours.client("s3", scope).get_object(**wanted)["Body"].read()
        except ClientError as error:
            found = error.response["Error"]
            raise invalid(
                f"Error occurred while GetObject. S3 Error Code: {found.get('Code')}. "
                f"S3 Error Message: {found.get('Message')}"
            ) from None
        return body

    def check_role(self, scope: Scope, arn: str) -> None:
        """Raises ApiError unless the role is there and trusts Lambda. AWS's clients try again on this message."""
        from botocore.exceptions import ClientError

        try:
            role = self._neighbours.client("iam", scope).get_role(RoleName=arn.rpartition("/")[2])["Role"]
        except ClientError:
            role = None
        if role is None or role["Arn"] != arn or not trusts_lambda(role["AssumeRolePolicyDocument"]):
            raise invalid("The role defined for the function cannot be assumed by Lambda.")

    def check_source(self, scope: Scope, arn: str, timeout: int) -> None:
        """Raises ApiError for a queue or stream that isn't there, and for a queue that shows messages again too soon."""
        from botocore.exceptions import BotoCoreError, ClientError

        if not self._runs:
            raise not_here("an event source mapping", "this service keeps functions and runs none")
        _, _, service, region, account, resource = arn.split(":", 5)
        there = Scope(account or scope.account, region or scope.region)
        try:
            if service == "sqs":
                self._check_queue(there, resource, timeout)
            elif service == "kinesis":
                self._neighbours.client("kinesis", there).describe_stream_summary(
                    StreamName=resource.removeprefix("stream/")
                )
            else:
                self._neighbours.client("dynamodbstreams", there).describe_stream(StreamArn=arn)
        except ClientError as error:
            if service != "sqs":
                raise invalid(f"Stream not found: {arn}") from None
            found = error.response["Error"]
            raise invalid(
                f"Error occurred while ReceiveMessage. SQS Error Code: {found.get('Code')}. "
                f"SQS Error Message: {found.get('Message')}"
            ) from None
        except BotoCoreError as error:
            raise ApiError("ServiceException", f"{service} does not answer: {error}") from None

    def _check_queue(self, scope: Scope, name: str, timeout: int) -> None:
        client = self._neighbours.client("sqs", scope)
        url = client.get_queue_url(QueueName=name)["QueueUrl"]
        wanted = ["VisibilityTimeout"]
        visibility = int(client.get_queue_attributes(QueueUrl=url, AttributeNames=wanted)["Attributes"][wanted[0]])
        if visibility < timeout:
            raise invalid(
                f"Queue visibility timeout: {visibility} seconds is less than Function timeout: {timeout} seconds"
            )


def trusts_lambda(policy: Any) -> bool:
    """Whether a trust policy lets Lambda assume the role."""
    document = json.loads(policy) if isinstance(policy, str) else policy
    statements = document.get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal", {})
        services = principal.get("Service", []) if isinstance(principal, dict) else [principal]
        actions = _list(statement.get("Action", []))
        if statement.get("Effect") == "Allow" and {PRINCIPAL, "*"} & set(_list(services)):
            return bool({"sts:AssumeRole", "sts:*", "*"} & set(actions))
    return False


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


class Sender:
    """Sends what ended events ask for to Lambda, SQS, SNS, EventBridge and S3."""

    def __init__(self, neighbours: Neighbours | None, now: Callable[[], float] = time.time) -> None:
        """Without neighbours only functions can be destinations."""
        self._neighbours = neighbours
        self._now = now
        self.accept: Accept | None = None
        """Takes events for functions: the queue's own."""

    async def send(self, event: QueuedEvent, delivery: Delivery) -> None:
        """Raises whatever keeps it from being taken."""
        if delivery.arn.split(":")[2] == "lambda":
            assert self.accept is not None
            await self.accept(self._event(event, delivery))
            return
        await asyncio.to_thread(self._send, event, delivery)

    def _event(self, event: QueuedEvent, delivery: Delivery) -> QueuedEvent:
        reference = read_reference(event.scope, delivery.arn)
        lineage = extend_lineage(event.lineage, event.scope.function_arn(event.name))
        return QueuedEvent(
            id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{event.id} {delivery.arn}")),  # twice sent is once queued
            scope=event.scope,
            name=reference.name,
            qualifier=reference.qualifier,
            event=delivery.message.encode(),
            accepted=self._now(),
            due=self._now(),
            lineage=lineage,
        )

    def _send(self, event: QueuedEvent, delivery: Delivery) -> None:
        _, _, service, _, _, resource = delivery.arn.split(":", 5)
        if service == "events":
            self._put_event(self._client(event.scope, delivery.arn), event, delivery, resource)
        else:
            self.put_now(event.scope, delivery, object_key(event, str(uuid.uuid4()), self._now()))

    async def put(self, scope: Scope, delivery: Delivery, key: str) -> None:
        """Into a queue, a topic, or a bucket, as the object `key`. Raises whatever keeps it from being taken."""
        await asyncio.to_thread(self.put_now, scope, delivery, key)

    def put_now(self, scope: Scope, delivery: Delivery, key: str) -> None:
        """The same, blocking."""
        _, _, service, _, _, resource = delivery.arn.split(":", 5)
        client = self._client(scope, delivery.arn)
        attributes = {
            name: {"DataType": "Number" if name == "ErrorCode" else "String", "StringValue": value}
            for name, value in delivery.attributes.items()
        }
        if service == "sqs":
            url = client.get_queue_url(QueueName=resource)["QueueUrl"]
            client.send_message(QueueUrl=url, MessageBody=delivery.message, MessageAttributes=attributes)
        elif service == "sns":
            client.publish(TopicArn=delivery.arn, Message=delivery.message, MessageAttributes=attributes)
        elif service == "s3":
            client.put_object(Bucket=resource, Key=key, Body=delivery.message.encode())
        else:
            raise ApiError("InvalidParameterValueException", f"no destination of the service {service}")

    def _client(self, scope: Scope, arn: str) -> Any:
        """Of the service, account and region that an ARN names, else the scope's."""
        _, _, service, region, account, _ = arn.split(":", 5)
        if self._neighbours is None:
            raise ApiError("ServiceUnavailable", f"this service was started without neighbours, so without {service}")
        return self._neighbours.client(service, Scope(account or scope.account, region or scope.region))

    @staticmethod
    def _put_event(client: Any, event: QueuedEvent, delivery: Delivery, resource: str) -> None:
        outcome = "Success" if delivery.succeeded else "Failure"
        entry = {
            "Source": "lambda",
            "DetailType": f"Lambda Function Invocation Result - {outcome}",
            "Detail": delivery.message,
            "Resources": [event.arn, delivery.arn],
            "EventBusName": resource.partition("/")[2],
        }
        answer = client.put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise ApiError("InternalFailure", f"{delivery.arn} refused the record: {answer['Entries']}")
