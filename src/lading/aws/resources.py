"""What a call is about, as IAM names it: the ARNs that a statement which allows the call has to cover.

Source: service authorization reference, the page of each service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

EVERY = ("*",)


@dataclass(frozen=True)
class Where:
    """Account and region of a call; "*" where it isn't known yet."""

    partition: str
    region: str
    account: str

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


def resources_of(service: str, operation: str, parameters: Mapping[str, Any], where: Where) -> tuple[str, ...]:
    """Where IAM may look at one or another form, all of them; "*" for a call that is about nothing in particular."""
    stated = {name: value for name, value in parameters.items() if isinstance(value, str | int | list)}
    for name in ("Resource", "ResourceArn", "resourceArn", "ResourceARN"):
        if str(stated.get(name, "")).startswith("arn:"):
            return (str(stated[name]),)
    read = _READERS.get(service)
    return (read(operation, stated, where) if read else ()) or EVERY


def _lambda(operation: str, stated: Mapping[str, Any], where: Where) -> tuple[str, ...]:
    if operation == "CreateEventSourceMapping":
        return ()
    if "UUID" in stated:
        return (where.arn("lambda", f"event-source-mapping:{stated['UUID']}"),)
    if "LayerName" in stated:
        version = f":{stated['VersionNumber']}" if "VersionNumber" in stated else ""
        return (where.arn("lambda", f"layer:{stated['LayerName']}{version}"),)
    if "FunctionName" not in stated:
        return ()
    name, _, own = str(stated["FunctionName"]).partition(":")
    qualifier = own or stated.get("Qualifier") or (stated.get("Name", "") if operation.endswith("Alias") else "")
    plain = where.arn("lambda", f"function:{name}")
    return (f"{plain}:{qualifier}", plain) if qualifier else (plain,)


def _iam(_: str, stated: Mapping[str, Any], where: Where) -> tuple[str, ...]:
    """A role's path is known where it is made; elsewhere any will do."""
    if "RoleName" not in stated:
        return ()
    return (f"arn:{where.partition}:iam::{where.account}:role{stated.get('Path', '/*')}{stated['RoleName']}",)


def _logs(_: str, stated: Mapping[str, Any], where: Where) -> tuple[str, ...]:
    if "logGroupName" not in stated:
        return (where.arn("logs", "log-group:*"),)
    group = where.arn("logs", f"log-group:{stated['logGroupName']}")
    return (group, f"{group}:*")


def _events(_: str, stated: Mapping[str, Any], where: Where) -> tuple[str, ...]:
    name, bus = stated.get("Rule", stated.get("Name")), stated.get("EventBusName", "default")
    return (where.arn("events", f"rule/{name}" if bus == "default" else f"rule/{bus}/{name}"),) if name else ()


def _scheduler(_: str, stated: Mapping[str, Any], where: Where) -> tuple[str, ...]:
    group = stated.get("GroupName", "default")
    return (where.arn("scheduler", f"schedule/{group}/{stated['Name']}"),) if "Name" in stated else ()


def _s3(_: str, stated: Mapping[str, Any], where: Where) -> tuple[str, ...]:
    if "Bucket" not in stated:
        return ()
    return (f"arn:{where.partition}:s3:::{stated['Bucket']}" + (f"/{stated['Key']}" if "Key" in stated else ""),)


def _ecr(_: str, stated: Mapping[str, Any], where: Where) -> tuple[str, ...]:
    names = stated.get("repositoryNames") or [stated[name] for name in ("repositoryName",) if name in stated]
    return tuple(where.arn("ecr", f"repository/{name}") for name in names)


def _ssm(_: str, stated: Mapping[str, Any], where: Where) -> tuple[str, ...]:
    """A parameter's name joins its ARN with one slash."""
    names = [str(name) for name in stated.get("Names", ())]
    return tuple(
        name if name.startswith("arn:") else where.arn("ssm", f"parameter/{name.lstrip('/')}") for name in names
    )


def _secretsmanager(_: str, stated: Mapping[str, Any], where: Where) -> tuple[str, ...]:
    """A secret's ARN ends with six letters of AWS's."""
    name = str(stated.get("SecretId", ""))
    if not name:
        return ()
    return (name if name.startswith("arn:") else where.arn("secretsmanager", f"secret:{name}-??????"),)


def _sts(_: str, stated: Mapping[str, Any], _where: Where) -> tuple[str, ...]:
    return (str(stated["RoleArn"]),) if "RoleArn" in stated else ()


def _sqs(_: str, stated: Mapping[str, Any], where: Where) -> tuple[str, ...]:
    name = str(stated.get("QueueName") or str(stated.get("QueueUrl", "")).rpartition("/")[2])
    return (f"arn:{where.partition}:sqs:{where.region}:{stated.get('QueueOwnerAWSAccountId', where.account)}:{name}",)


_READERS: Mapping[str, Callable[[str, Mapping[str, Any], Where], tuple[str, ...]]] = {
    "lambda": _lambda, "iam": _iam, "logs": _logs, "events": _events, "scheduler": _scheduler, "s3": _s3, "ecr": _ecr,
    "ssm": _ssm, "secretsmanager": _secretsmanager, "sts": _sts, "sqs": _sqs,
}  # fmt: skip
