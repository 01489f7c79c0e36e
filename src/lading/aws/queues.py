"""SQS as it is read."""

from __future__ import annotations

from lading.aws.account import Account
from lading.aws.refusal import AwsError

_MISSING = ("QueueDoesNotExist", "NonExistentQueue")


def find_visibility(account: Account, arn: str) -> int | None:
    """Seconds for which a received message is hidden; None where there is no such queue in the caller's reach."""
    _, _, _, _, owner, name = arn.split(":", 5)
    try:
        url = account.call("sqs", "GetQueueUrl", QueueName=name, QueueOwnerAWSAccountId=owner)["QueueUrl"]
        told = account.call("sqs", "GetQueueAttributes", QueueUrl=url, AttributeNames=["VisibilityTimeout"])
    except AwsError as error:
        if error.code.endswith(_MISSING):
            return None
        raise
    return int(told["Attributes"]["VisibilityTimeout"])
