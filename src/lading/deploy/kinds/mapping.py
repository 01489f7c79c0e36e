"""Event source mappings: SQS, Kinesis, DynamoDB, Kafka. Key: mapping:DIGEST or mapping:DIGEST@ALIAS, of what is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from lading.aws.account import Account
from lading.aws.functions import list_mappings
from lading.deploy.instruction import Change, Verb
from lading.deploy.kinds.kind import Pen, Step, Wanted, canonical, rest_of
from lading.deploy.unit import Subject, Unit
from lading.model.deployment import Trigger

KINDS = ("sqs", "kinesis", "dynamodb", "kafka")
_FIELDS = {
    "batch-size": "BatchSize", "window": "MaximumBatchingWindowInSeconds", "parallelization": "ParallelizationFactor",
    "bisect-on-error": "BisectBatchOnFunctionError", "max-record-age": "MaximumRecordAgeInSeconds",
    "retries": "MaximumRetryAttempts", "tumbling-window": "TumblingWindowInSeconds",
}  # fmt: skip
_DEFAULTS = {
    "window": 0, "parallelization": 1, "bisect-on-error": False, "max-record-age": -1, "retries": -1, "tumbling-window": 0,
}  # fmt: skip
"""What a mapping without the key has; the batch size depends on the source."""
_BATCH = {"sqs": 10, "kinesis": 100, "dynamodb": 100, "kafka": 100}
_OF_STREAMS = ("parallelization", "bisect-on-error", "max-record-age", "retries", "tumbling-window")


def wanted(unit: Unit) -> Wanted:
    found = {}
    for trigger in unit.wish.triggers:
        if trigger.kind in KINDS:
            source = _source(trigger)
            alias = f"@{unit.wish.alias}" if unit.wish.alias else ""
            found[f"mapping:{digest_of(source)}{alias}"] = {
                "source": source,
                "fields": _fields(trigger),
                **_fixed(trigger),
            }
    return found


def _source(trigger: Trigger) -> dict[str, Any]:
    settings = trigger.settings
    source: dict[str, Any] = {}
    if "source" in settings:
        source["EventSourceArn"] = settings["source"]
    if "bootstrap-servers" in settings:
        servers = sorted(settings["bootstrap-servers"])
        source["SelfManagedEventSource"] = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": servers}}
    if "topics" in settings:
        source["Topics"] = list(settings["topics"])
    return source


def _fixed(trigger: Trigger) -> dict[str, Any]:
    """What can be said when a mapping is made, and never changed."""
    fixed: dict[str, Any] = {}
    if trigger.kind != "sqs":
        fixed["StartingPosition"] = trigger.settings.get("starting-position", "LATEST")
    if "consumer-group" in trigger.settings:
        kind = "AmazonManaged" if "source" in trigger.settings else "SelfManaged"
        fixed[f"{kind}KafkaEventSourceConfig"] = {"ConsumerGroupId": trigger.settings["consumer-group"]}
    return {"fixed": fixed}


def _fields(trigger: Trigger) -> dict[str, Any]:
    settings, kind = trigger.settings, trigger.kind
    found: dict[str, Any] = {"Enabled": settings.get("enabled", True)}
    for key, field in _FIELDS.items():
        if key not in _OF_STREAMS or kind in ("kinesis", "dynamodb"):
            found[field] = settings.get(key, _BATCH[kind] if key == "batch-size" else _DEFAULTS[key])
    filters = [{"Pattern": json.dumps(one, sort_keys=True)} for one in settings.get("filters", ())]
    found["FilterCriteria"] = {"Filters": filters} if filters else {}
    if kind != "kafka":
        failures = settings.get("report-batch-item-failures", False)
        found["FunctionResponseTypes"] = ["ReportBatchItemFailures"] if failures else []
    if kind == "sqs":
        most = settings.get("max-concurrency")
        found["ScalingConfig"] = {"MaximumConcurrency": most} if most else {}
    else:
        target = settings.get("on-failure")
        found["DestinationConfig"] = {"OnFailure": {"Destination": target}} if target else {}
    if "source-access" in settings:
        access = [{"Type": kind, "URI": uri} for kind, uri in sorted(settings["source-access"].items())]
        found["SourceAccessConfigurations"] = access
    return found


def digest_of(source: Mapping[str, Any]) -> str:
    """A short name of what is read."""
    return hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:10]


def observe(account: Account, subject: Subject, keys: Mapping[str, bool]) -> Mapping[str, Any]:
    """One list for the function or its alias, however many sources."""
    found: dict[str, Any] = {}
    for alias in {rest_of(key).partition("@")[2] for key in keys}:
        listed = list_mappings(account, f"{subject.name}:{alias}" if alias else subject.name)
        for mapping in listed:
            source = {
                name: mapping[name]
                for name in ("EventSourceArn", "SelfManagedEventSource", "Topics")
                if mapping.get(name)
            }
            endpoints = source.get("SelfManagedEventSource", {}).get("Endpoints", {})
            for name, servers in endpoints.items():
                endpoints[name] = sorted(servers)
            key = f"mapping:{digest_of(source)}{'@' if alias else ''}{alias}"
            if key in keys and mapping.get("State") != "Deleting":
                found[key] = mapping
    return found


def diff(subject: Subject, key: str, want: Any, seen: Any) -> Iterator[Step]:
    alias = rest_of(key).partition("@")[2]
    target = f"{subject.name}:{alias}" if alias else subject.name
    pen = Pen(subject, key, f"event source of {target}")
    if want is None:
        if seen is not None:
            gone = (Change("source", seen.get("EventSourceArn") or seen.get("SelfManagedEventSource")),)
            yield pen("delete", Verb.DELETE, "DeleteEventSourceMapping", {"UUID": seen["UUID"]}, changes=gone)
        return
    after = (subject.ref("function"), subject.ref(f"alias:{alias}"))
    fields = want["fields"]
    if seen is None:
        stated = {field: value for field, value in fields.items() if value not in ({}, [])}
        parameters = {"FunctionName": target, **want["source"], **want["fixed"], **stated}
        changes = tuple(Change(field, None, value) for field, value in {**want["source"], **stated}.items())
        yield pen(
            "create", Verb.CREATE, "CreateEventSourceMapping", parameters, changes=changes, after=after, patience=60
        )
        return
    there = _there(seen, fields)
    changed = {field: value for field, value in fields.items() if there[field] != value}
    if changed:
        changes = tuple(Change(field, there[field], value) for field, value in changed.items())
        parameters = {"UUID": seen["UUID"], "FunctionName": target, **changed}
        yield pen("update", Verb.UPDATE, "UpdateEventSourceMapping", parameters, changes=changes, after=after)


def _there(seen: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as a mapping has them, what it leaves out as its default."""
    found: dict[str, Any] = {}
    by_field = {field: _DEFAULTS.get(key) for key, field in _FIELDS.items()}
    for field, value in fields.items():
        if field == "Enabled":
            found[field] = seen.get("State") not in ("Disabled", "Disabling")
        elif field in by_field:
            found[field] = by_field[field] if seen.get(field) is None else seen[field]
        else:
            found[field] = seen.get(field) or type(value)()
    patterns = found["FilterCriteria"].get("Filters") or []
    found["FilterCriteria"] = (
        {"Filters": [{"Pattern": canonical(one["Pattern"])} for one in patterns]} if patterns else {}
    )
    if "DestinationConfig" in found:
        target = (found["DestinationConfig"].get("OnFailure") or {}).get("Destination")
        found["DestinationConfig"] = {"OnFailure": {"Destination": target}} if target else {}
    return found
