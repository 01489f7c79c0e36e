"""How SAM deploys a function → lading's keys: policies, URL, alias, events. What lading has no key for is told, never guessed."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lading.config.intrinsics import Unresolvable
from lading.config.sam_settings import Resolve, Skip, Strange, Table, settings_keys

_STREAM = {
    "BatchSize": "batch-size", "Enabled": "enabled", "MaximumBatchingWindowInSeconds": "window",
    "StartingPosition": "starting-position", "ParallelizationFactor": "parallelization",
    "BisectBatchOnFunctionError": "bisect-on-error", "MaximumRecordAgeInSeconds": "max-record-age",
    "MaximumRetryAttempts": "retries", "TumblingWindowInSeconds": "tumbling-window",
}  # fmt: skip
_EVENTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "Schedule": ("schedule", {"Schedule": "schedule", "Enabled": "enabled"}),
    "ScheduleV2": ("scheduler", {
        "ScheduleExpression": "schedule", "ScheduleExpressionTimezone": "time-zone", "RoleArn": "role",
    }),
    "SQS": ("sqs", {
        "Queue": "source", "BatchSize": "batch-size", "Enabled": "enabled", "MaximumBatchingWindowInSeconds": "window",
    }),
    "Kinesis": ("kinesis", {"Stream": "source", **_STREAM}),
    "DynamoDB": ("dynamodb", {"Stream": "source", **_STREAM}),
    "S3": ("s3", {"Bucket": "bucket", "Events": "events"}),
}  # fmt: skip
"""Type of an event → lading's kind, and its keys by SAM's properties. Source: SAM specification, "EventSource"."""
_CORS = {
    "AllowOrigins": "origins", "AllowMethods": "methods", "AllowHeaders": "headers", "ExposeHeaders": "expose",
    "MaxAge": "max-age", "AllowCredentials": "credentials",
}  # fmt: skip


def deployment_keys(properties: Mapping[str, Any], resolve: Resolve, skip: Skip) -> Table:
    """The keys of one function. `skip` is told of each part that is left out, and why."""
    found: Table = {}
    readers = {"Policies": _policies, "FunctionUrlConfig": _url, "AutoPublishAlias": _alias, "Events": _events}
    for name, read in readers.items():
        if properties.get(name) is not None:
            found |= read(properties[name], resolve, skip)
    settings = settings_keys(properties, resolve, skip)
    if "role" not in settings:
        found |= _boundary(properties.get("PermissionsBoundary"), found.get("role", {}), resolve, skip)
    # As in SAM, a role that is stated has its own policies.
    return found | settings


def _boundary(value: Any, role: Table, resolve: Resolve, skip: Skip) -> Table:
    if value is None:
        return {}
    try:
        return {"role": role | {"boundary": resolve(value)}}
    except Unresolvable as unknown:
        skip(f"PermissionsBoundary is known when deployed only ({unknown})")
        return {}


def _policies(value: Any, resolve: Resolve, skip: Skip) -> Table:
    """Managed policies by name or ARN, and documents with statements; SAM's policy templates are not."""
    role: Table = {}
    for one in value if isinstance(value, list) else [value]:
        try:
            policy = resolve(one)
        except Unresolvable as unknown:
            skip(f"a policy is known when deployed only ({unknown})")
            continue
        if isinstance(policy, str):
            role.setdefault("policies", []).append(policy)
        elif isinstance(policy, Mapping) and "Statement" in policy:
            statements = policy["Statement"]
            for statement in statements if isinstance(statements, list) else [statements]:
                if (made := _statement(statement)) is None:
                    skip("a statement with more than Effect, Action, Resource and Condition")
                else:
                    role.setdefault("statements", []).append(made)
        else:
            names = ", ".join(map(str, policy)) if isinstance(policy, Mapping) else repr(policy)
            skip(f"the policy template {names}: state its statements")
    return {"role": role} if role else {}


def _statement(value: Any) -> Table | None:
    if not isinstance(value, Mapping) or not {"Action", "Resource"} <= value.keys():
        return None
    if value.keys() - {"Sid", "Effect", "Action", "Resource", "Condition"}:
        return None
    made = {"actions": _texts(value["Action"]), "resources": _texts(value["Resource"])}
    more = {"effect": value.get("Effect", "Allow")}
    return made | more | ({"conditions": value["Condition"]} if "Condition" in value else {})


def _texts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _url(value: Any, resolve: Resolve, skip: Skip) -> Table:
    try:
        stated = resolve(value)
    except Unresolvable as unknown:
        skip(f"FunctionUrlConfig is known when deployed only ({unknown})")
        return {}
    if not isinstance(stated, Mapping):
        skip("FunctionUrlConfig is no map")
        return {}
    url: Table = {"auth": "none" if stated.get("AuthType") == "NONE" else "iam"}
    if stated.get("InvokeMode") == "RESPONSE_STREAM":
        url["invoke-mode"] = "stream"
    cors = stated.get("Cors")
    if isinstance(cors, Mapping):
        url["cors"] = {key: cors[name] for name, key in _CORS.items() if name in cors}
    return {"url": url}


def _alias(value: Any, resolve: Resolve, skip: Skip) -> Table:
    try:
        return {"alias": resolve(value)}
    except Unresolvable as unknown:
        skip(f"AutoPublishAlias is known when deployed only ({unknown})")
        return {}


def _events(value: Any, resolve: Resolve, skip: Skip) -> Table:
    events = dict(_each_event(value, resolve, skip)) if isinstance(value, Mapping) else {}
    return {"events": events} if events else {}


def _each_event(value: Mapping[str, Any], resolve: Resolve, skip: Skip) -> Iterator[tuple[str, Table]]:
    """An event is taken whole or not at all: half of one would invoke the function otherwise than the template says."""
    for name, event in value.items():
        kind = str(event.get("Type")) if isinstance(event, Mapping) else ""
        if kind not in _EVENTS:
            skip(f"event {name}: lading has none of type {kind}")
            continue
        try:
            stated = resolve(event.get("Properties") or {})
        except Unresolvable as unknown:
            skip(f"event {name} is known when deployed only ({unknown})")
            continue
        try:
            yield str(name), _event(kind, stated)
        except Strange as reason:
            skip(f"event {name}: {reason}")


def _event(kind: str, stated: Mapping[str, Any]) -> Table:
    ours, keys = _EVENTS[kind]
    table: Table = {"type": ours, **{key: stated[name] for name, key in keys.items() if name in stated}}
    left = set(stated) - keys.keys()
    if ours in ("schedule", "scheduler"):
        if "Input" in stated:
            table["input"] = _json(stated["Input"])
        # A rule's name and description are lading's own.
        left -= {"Input", "Name", "Description"}
        if ours == "scheduler":
            table |= _scheduled(stated)
            left -= {"FlexibleTimeWindow", "RetryPolicy", "StartDate", "EndDate", "DeadLetterConfig"}
        if stated.get("State") in ("ENABLED", "DISABLED"):
            table["enabled"] = stated["State"] == "ENABLED"
            left -= {"State"}
    elif ours == "s3":
        if "events" in table:
            table["events"] = _texts(table["events"])
        table |= _key_rules(stated.get("Filter"))
        left -= {"Filter"}
    else:
        table |= _mapping_lists(stated)
        left -= {"FilterCriteria", "FunctionResponseTypes"}
    if left:
        raise Strange(f"lading doesn't take {', '.join(sorted(map(str, left)))}")
    return table


def _scheduled(stated: Mapping[str, Any]) -> Table:
    """What lies in maps, and times, which YAML may have read as such. SAM would make a queue: lading makes none."""
    found: Table = {}
    parts = [stated.get(name) or {} for name in ("FlexibleTimeWindow", "RetryPolicy", "DeadLetterConfig")]
    if not all(isinstance(one, Mapping) for one in parts):
        raise Strange("its FlexibleTimeWindow, RetryPolicy or DeadLetterConfig is no map")
    window, retry, letters = parts
    if window.get("Mode") == "FLEXIBLE":
        found["flexible-window"] = window.get("MaximumWindowInMinutes")
    if letters:
        if "Arn" not in letters:
            raise Strange("the queue that SAM would make: make it, and state its Arn")
        found["on-failure"] = letters["Arn"]
    for name, key in (("StartDate", "start"), ("EndDate", "end")):
        if name in stated:
            time = stated[name]
            text = time.isoformat() if isinstance(time, dt.datetime) else str(time)
            found[key] = text if re.search(r"(Z|[+-]\d\d:\d\d)$", text) else f"{text}Z"
    names = {"MaximumRetryAttempts": "retries", "MaximumEventAgeInSeconds": "max-age"}
    return found | {key: retry[name] for name, key in names.items() if name in retry}


def _json(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError as error:
        raise Strange("its Input isn't JSON") from error


def _key_rules(value: Any) -> Table:
    """prefix and suffix of a notification's filter."""
    if value is None:
        return {}
    match value:
        case {"S3Key": {"Rules": [*rules]}} if all(isinstance(rule, Mapping) for rule in rules):
            found = {str(rule.get("Name")).lower(): rule.get("Value") for rule in rules}
            if found.keys() <= {"prefix", "suffix"}:
                return found
    raise Strange("its Filter is none of prefix and suffix")


def _mapping_lists(stated: Mapping[str, Any]) -> Table:
    found: Table = {}
    if "FilterCriteria" in stated:
        criteria = stated["FilterCriteria"]
        filters = criteria.get("Filters") if isinstance(criteria, Mapping) else None
        if not isinstance(filters, list) or not all(isinstance(one, Mapping) and "Pattern" in one for one in filters):
            raise Strange("its FilterCriteria has no Filters with a Pattern")
        found["filters"] = [_json(one["Pattern"]) for one in filters]
    if "FunctionResponseTypes" in stated:
        found["report-batch-item-failures"] = "ReportBatchItemFailures" in _texts(stated["FunctionResponseTypes"])
    return found
