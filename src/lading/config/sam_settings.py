"""Settings of a function in a template, each a property of its own → lading's keys. What has no equal is told, never guessed.

Sources: SAM specification, "AWS::Serverless::Function"; CloudFormation, "AWS::Lambda::Function".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from lading.config.intrinsics import Unresolvable, as_text

Table = dict[str, Any]
Resolve = Callable[[Any], Any]
Skip = Callable[[str], None]
_STEPS = re.compile(r"(Canary|Linear)(\d+)Percent(?:Every)?(\d+)Minutes?")
_ROLE = re.compile(r"arn:[\w-]+:iam::\d{12}:role/\S+")
_ARN = re.compile(r"arn:[\w-]+:[\w-]+:[\w-]*:\d*:\S+")


class Strange(Exception):  # noqa: N818 - a verdict, not an error
    """What a property says beyond lading's keys."""


def settings_keys(properties: Mapping[str, Any], resolve: Resolve, skip: Skip) -> Table:
    """The keys of one function. `skip` is told of each property that is left out, and why."""
    found: Table = {}
    for name, read in _READERS.items():
        if properties.get(name) is None:
            continue
        try:
            found |= read(resolve(properties[name]))
        except Unresolvable as unknown:
            skip(f"{name} is known when deployed only ({unknown})")
        except Strange as reason:
            skip(f"{name}: {reason}")
    for key in ("provisioned-concurrency", "rollout"):
        if key in found and properties.get("AutoPublishAlias") is None:
            skip(f"{key} without AutoPublishAlias")
            del found[key]
    return found


def _map(value: Any, *known: str) -> Mapping[str, Any]:
    """A map with no other keys than these."""
    if not isinstance(value, Mapping):
        raise Strange("is no map")
    left = sorted(str(key) for key in value if key not in known)
    if left:
        raise Strange(f"lading doesn't take {', '.join(left)}")
    return value


def _whole(value: Any) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdigit():
        raise Strange(f"{value!r} is no number")
    return int(text)


def _arn(value: Any, pattern: re.Pattern[str] = _ARN) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Strange(f"{value!r} is no ARN")
    return value


def _role(value: Any) -> Table:
    return {"role": _arn(value, _ROLE)}


def _vpc(value: Any) -> Table:
    stated = _map(value, "SubnetIds", "SecurityGroupIds", "Ipv6AllowedForDualStack")
    lists = {"subnets": stated.get("SubnetIds"), "security-groups": stated.get("SecurityGroupIds")}
    for key, found in lists.items():
        if not isinstance(found, list) or not found:
            raise Strange(f"no {key} are stated")
    ipv6 = {"ipv6": True} if str(stated.get("Ipv6AllowedForDualStack")).lower() == "true" else {}
    return {"vpc": lists | ipv6}


def _rollout(value: Any) -> Table:
    """Hooks are functions that call CodeDeploy: a smoke event does their work here."""
    stated = _map(value, "Type", "Alarms", "Enabled", "Role")
    if str(stated.get("Enabled", True)).lower() == "false":
        return {}
    kind = str(stated.get("Type", ""))
    alarms = {"alarms": [as_text(alarm) for alarm in stated["Alarms"]]} if stated.get("Alarms") else {}
    if kind == "AllAtOnce":
        return {"rollout": {"strategy": "all-at-once", **alarms}}
    steps = _STEPS.fullmatch(kind)
    if steps is None:
        raise Strange(f"there is no type {kind!r} here: CanaryXPercentYMinutes, LinearXPercentEveryYMinutes, AllAtOnce")
    rollout = {"strategy": steps[1].lower(), "step": int(steps[2]), "interval": int(steps[3]) * 60}
    return {"rollout": rollout | alarms}


def _asynchronous(value: Any) -> Table:
    stated = _map(value, "MaximumEventAgeInSeconds", "MaximumRetryAttempts", "DestinationConfig")
    found: Table = {}
    for name, key in (("MaximumEventAgeInSeconds", "max-age"), ("MaximumRetryAttempts", "retries")):
        if name in stated:
            found[key] = _whole(stated[name])
    ends = _map(stated.get("DestinationConfig") or {}, "OnSuccess", "OnFailure")
    for name, key in (("OnSuccess", "on-success"), ("OnFailure", "on-failure")):
        if name in ends:
            end = _map(ends[name], "Type", "Destination")
            if "Destination" not in end:
                raise Strange(f"the {name} that SAM would make: make it, and state its Destination")
            found[key] = _arn(end["Destination"])
    return {"async": found} if found else {}


def _provisioned(value: Any) -> Table:
    name = "ProvisionedConcurrentExecutions"
    return {"provisioned-concurrency": _whole(_map(value, name).get(name))}


def _letters(value: Any) -> Table:
    return {"dead-letter": _arn(_map(value, "Type", "TargetArn").get("TargetArn"))}


def _tracing(value: Any) -> Table:
    """SAM's is a word, CloudFormation's a map."""
    mode = _map(value, "Mode").get("Mode") if isinstance(value, Mapping) else value
    known = {"Active": "active", "PassThrough": "pass-through"}
    if mode == "Disabled":
        return {}
    if mode not in known:
        raise Strange(f"there is no mode {mode!r}")
    return {"tracing": known[mode]}


def _file_systems(value: Any) -> Table:
    tables = [_map(one, "Arn", "LocalMountPath") for one in value] if isinstance(value, list) else []
    if not tables:
        raise Strange("is no list of file systems")
    return {"file-systems": [{"arn": _arn(one.get("Arn")), "path": one.get("LocalMountPath", "")} for one in tables]}


def _logging(value: Any) -> Table:
    keys = {
        "LogGroup": "group", "LogFormat": "format", "ApplicationLogLevel": "application-level",
        "SystemLogLevel": "system-level",
    }  # fmt: skip
    return {"logging": {keys[name]: one for name, one in _map(value, *keys).items()}}


def _tags(value: Any) -> Table:
    """SAM's are a map, CloudFormation's a list of Key and Value."""
    if isinstance(value, list):
        value = {one.get("Key"): one.get("Value") for one in value if isinstance(one, Mapping)}
    if not isinstance(value, Mapping):
        raise Strange("is no map")
    return {"tags": {as_text(key): as_text(one) for key, one in value.items()}}


def _name(value: Any) -> Table:
    raise Strange("functions are named by `names` in the project's settings")


_READERS: Mapping[str, Callable[[Any], Table]] = {
    "FunctionName": _name,
    "Role": _role,
    "VpcConfig": _vpc,
    "DeploymentPreference": _rollout,
    "EventInvokeConfig": _asynchronous,
    "ProvisionedConcurrencyConfig": _provisioned,
    "ReservedConcurrentExecutions": lambda value: {"reserved-concurrency": _whole(value)},
    "DeadLetterQueue": _letters,
    "DeadLetterConfig": _letters,
    "Tracing": _tracing,
    "TracingConfig": _tracing,
    "KmsKeyArn": lambda value: {"kms-key": _arn(value)},
    "CodeSigningConfigArn": lambda value: {"code-signing": _arn(value)},
    "FileSystemConfigs": _file_systems,
    "LoggingConfig": _logging,
    "Tags": _tags,
}
