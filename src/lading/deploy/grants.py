"""What made roles may do: the user's statements, and what the function's own settings need. Pure.

Sources: Lambda developer guide, the pages on each event source, destinations, VPC, EFS and X-Ray; EventBridge Scheduler user
guide, "Setting up" (execution role).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lading.deploy.unit import Unit
from lading.model.deployment import Trigger
from lading.model.limits import managed_policy

_SEND = {
    "sqs": ["sqs:SendMessage"],
    "sns": ["sns:Publish"],
    "lambda": ["lambda:InvokeFunction"],
    "events": ["events:PutEvents"],
    "s3": ["s3:PutObject", "s3:ListBucket"],
}
_READ = {
    "sqs": ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
    "kinesis": [
        "kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:DescribeStream", "kinesis:DescribeStreamSummary",
        "kinesis:ListShards", "kinesis:SubscribeToShard",
    ],
    "dynamodb": ["dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:DescribeStream"],
}  # fmt: skip
_LIST = {"kinesis": ["kinesis:ListStreams"], "dynamodb": ["dynamodb:ListStreams"]}


@dataclass(frozen=True)
class MadeRole:
    """A role that lading makes for a function: who may assume it, its managed policies (names or ARNs) and its inline one."""

    name: str
    service: str
    """Of AWS, as a principal without its `.amazonaws.com`."""
    policies: tuple[str, ...] = ()
    document: dict[str, Any] | None = field(default=None, hash=False)

    @property
    def trust(self) -> dict[str, Any]:
        allow = {
            "Effect": "Allow",
            "Principal": {"Service": f"{self.service}.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
        return {"Version": "2012-10-17", "Statement": [allow]}


def made_roles(unit: Unit) -> Iterator[MadeRole]:
    """The function's own where none is stated, and one for EventBridge Scheduler where its schedules state none."""
    if not unit.wish.role.arn:
        yield MadeRole(unit.role_name, "lambda", tuple(managed_policies(unit)), policy_document(unit))
    schedules = [one for one in unit.wish.triggers if one.kind == "scheduler" and "role" not in one.settings]
    if schedules:
        letters = [one.settings["on-failure"] for one in schedules if "on-failure" in one.settings]
        statements = [_allow(["lambda:InvokeFunction"], [unit.arn])]
        statements += [_allow(_SEND["sqs"], [queue]) for queue in dict.fromkeys(letters)]
        yield MadeRole(unit.scheduler_role_name, "scheduler", (), {"Version": "2012-10-17", "Statement": statements})


def managed_policies(unit: Unit) -> list[str]:
    """Names or ARNs, without repeats."""
    wish = unit.wish
    names = [managed_policy("basic")]
    if wish.vpc is not None:
        names.append(managed_policy("vpc"))
    if wish.tracing == "active":
        names.append(managed_policy("tracing"))
    if any(trigger.kind == "kafka" for trigger in wish.triggers):
        names.append(managed_policy("kafka"))
    return list(dict.fromkeys([*names, *wish.role.policies]))


def policy_document(unit: Unit) -> dict[str, Any] | None:
    """The inline policy; None where there is nothing to say."""
    own = [
        {"Effect": one.effect, "Action": list(one.actions), "Resource": list(one.resources)}
        | ({"Condition": dict(one.conditions)} if one.conditions else {})
        for one in unit.wish.role.statements
    ]
    statements = [*own, *(_allow(actions, resource) for actions, resource in _needed(unit))]
    unique = [one for place, one in enumerate(statements) if one not in statements[:place]]
    return {"Version": "2012-10-17", "Statement": unique} if unique else None


def _allow(actions: Sequence[str], resource: Sequence[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": list(resource)}


def _needed(unit: Unit) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    wish = unit.wish
    targets = [wish.dead_letter]
    if wish.asynchronous is not None:
        targets += [wish.asynchronous.on_success, wish.asynchronous.on_failure]
    for trigger in wish.triggers:
        yield from _reading(trigger)
        # What a schedule can't send goes by the scheduler's own role.
        targets.append("" if trigger.kind == "scheduler" else trigger.settings.get("on-failure", ""))
    for target in filter(None, targets):
        service = target.split(":")[2]
        yield _SEND[service], [target, f"{target}/*"] if service == "s3" else [target]
    if wish.kms_key:
        yield ["kms:Decrypt"], [wish.kms_key]
    for one in wish.file_systems:
        yield ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"], [one.arn]


def _reading(trigger: Trigger) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    if trigger.kind in _READ:
        yield _READ[trigger.kind], [trigger.settings["source"]]
    if trigger.kind in _LIST:
        yield _LIST[trigger.kind], ["*"]
