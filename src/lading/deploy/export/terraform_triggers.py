"""What points at a function in Terraform: its URL, permissions, asynchronous settings, sources, rules, notifications."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lading.deploy.export.hcl import Block, Call, Expression
from lading.deploy.export.template import async_properties, made_role, url_properties
from lading.deploy.export.terraform_file import Configuration, Target
from lading.deploy.export.terraform_roles import add_role
from lading.deploy.kinds import mapping, notification, permission, rule, schedule
from lading.deploy.kinds.kind import rest_of
from lading.deploy.unit import Unit

_STATEMENT = {
    "Action": "action", "Principal": "principal", "SourceArn": "source_arn", "SourceAccount": "source_account",
    "PrincipalOrgID": "principal_org_id", "FunctionUrlAuthType": "function_url_auth_type",
    "InvokedViaFunctionUrl": "invoked_via_function_url",
}  # fmt: skip
_MAPPING = {
    "EventSourceArn": "event_source_arn", "Enabled": "enabled", "BatchSize": "batch_size",
    "MaximumBatchingWindowInSeconds": "maximum_batching_window_in_seconds",
    "ParallelizationFactor": "parallelization_factor", "BisectBatchOnFunctionError": "bisect_batch_on_function_error",
    "MaximumRecordAgeInSeconds": "maximum_record_age_in_seconds", "MaximumRetryAttempts": "maximum_retry_attempts",
    "TumblingWindowInSeconds": "tumbling_window_in_seconds", "FunctionResponseTypes": "function_response_types",
    "Topics": "topics", "StartingPosition": "starting_position",
}  # fmt: skip
_CORS = {
    "AllowOrigins": "allow_origins", "AllowMethods": "allow_methods", "AllowHeaders": "allow_headers",
    "ExposeHeaders": "expose_headers", "MaxAge": "max_age", "AllowCredentials": "allow_credentials",
}  # fmt: skip


@dataclass(frozen=True)
class Pointed:
    """A function, what points at it, and the permissions that let it."""

    unit: Unit
    target: Target
    permissions: list[Expression]


def add_triggers(made: Configuration, unit: Unit, target: Target) -> list[Expression]:
    """All but buckets' notifications; the permissions."""
    name = {"function_name": Expression(f"{target.function}.function_name"), "qualifier": target.qualifier}
    _add_url(made, unit, name)
    permissions = _add_permissions(made, unit, name)
    _add_asynchronous(made, unit, name)
    number = unit.wish.provisioned_concurrency
    if number is not None:
        more = {**name, "provisioned_concurrent_executions": number}
        made.resource("aws_lambda_provisioned_concurrency_config", made.names(unit.subject.scope), more)
    for place, wish in enumerate(mapping.wanted(unit).values(), 1):
        _add_mapping(made, made.names(unit.subject.scope, f"source{place}"), wish, target)
    _add_rules(made, unit, target)
    _add_schedules(made, unit, target)
    return permissions


def _renamed(names: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[key] for key, name in names.items() if values.get(key) not in (None, "", [], {})}


def _add_url(made: Configuration, unit: Unit, name: Mapping[str, Any]) -> None:
    wish = url_properties(unit)
    if wish is None:
        return
    attributes = {**name, "authorization_type": wish["AuthType"], "invoke_mode": wish["InvokeMode"]}
    blocks = (Block("cors", (), _renamed(_CORS, wish["Cors"])),) if wish.get("Cors") else ()
    made.resource("aws_lambda_function_url", made.names(unit.subject.scope), attributes, *blocks)


def _add_permissions(made: Configuration, unit: Unit, name: Mapping[str, Any]) -> list[Expression]:
    found = []
    for statements in permission.wanted(unit).values():
        for identity, statement in statements.items():
            own = made.names(unit.subject.scope, identity)
            attributes = {"statement_id": identity, **name, **_renamed(_STATEMENT, statement)}
            found.append(Expression(made.resource("aws_lambda_permission", own, attributes)))
    return found


def _add_asynchronous(made: Configuration, unit: Unit, name: Mapping[str, Any]) -> None:
    wish = async_properties(unit)
    if wish is None:
        return
    attributes = {
        **name,
        "maximum_retry_attempts": wish.get("MaximumRetryAttempts"),
        "maximum_event_age_in_seconds": wish.get("MaximumEventAgeInSeconds"),
    }
    kinds = {"OnSuccess": "on_success", "OnFailure": "on_failure"}
    ends = tuple(
        Block(kinds[end], (), {"destination": one["Destination"]})
        for end, one in wish.get("DestinationConfig", {}).items()
    )
    blocks = (Block("destination_config", (), {}, ends),) if ends else ()
    made.resource("aws_lambda_function_event_invoke_config", made.names(unit.subject.scope), attributes, *blocks)


def _add_mapping(made: Configuration, name: str, wish: Mapping[str, Any], target: Target) -> None:
    every = {**wish["source"], **wish["fixed"], **wish["fields"]}
    blocks = []
    servers = every.get("SelfManagedEventSource", {}).get("Endpoints", {})
    if servers:
        endpoints = {key: ",".join(one) for key, one in servers.items()}
        blocks.append(Block("self_managed_event_source", (), {"endpoints": endpoints}))
    for key, kind in (
        ("AmazonManagedKafkaEventSourceConfig", "amazon_managed_kafka_event_source_config"),
        ("SelfManagedKafkaEventSourceConfig", "self_managed_kafka_event_source_config"),
    ):
        if key in every:
            blocks.append(Block(kind, (), {"consumer_group_id": every[key]["ConsumerGroupId"]}))
    for one in every.get("SourceAccessConfigurations", ()):
        blocks.append(Block("source_access_configuration", (), {"type": one["Type"], "uri": one["URI"]}))
    filters = every.get("FilterCriteria", {}).get("Filters", ())
    if filters:
        inner = tuple(Block("filter", (), {"pattern": one["Pattern"]}) for one in filters)
        blocks.append(Block("filter_criteria", (), {}, inner))
    most = every.get("ScalingConfig", {}).get("MaximumConcurrency")
    if most:
        blocks.append(Block("scaling_config", (), {"maximum_concurrency": most}))
    failures = every.get("DestinationConfig", {}).get("OnFailure")
    if failures:
        end = Block("on_failure", (), {"destination_arn": failures["Destination"]})
        blocks.append(Block("destination_config", (), {}, (end,)))
    attributes = {"function_name": target.arn, **_renamed(_MAPPING, every)}
    made.resource("aws_lambda_event_source_mapping", name, attributes, *blocks)


def _add_rules(made: Configuration, unit: Unit, target: Target) -> None:
    wanted = rule.wanted(unit)
    for key, wish in wanted.items():
        if not key.startswith("rule:"):
            continue
        bus, _, own = rest_of(key).rpartition("/")
        pattern = Call("jsonencode", json.loads(wish["EventPattern"])) if "EventPattern" in wish else None
        attributes = {
            "name": own,
            "event_bus_name": None if bus == "default" else bus,
            "schedule_expression": wish.get("ScheduleExpression"),
            "event_pattern": pattern,
            "state": wish["State"],
        }
        name = made.names(own)
        address = made.resource("aws_cloudwatch_event_rule", name, attributes)
        end = wanted[f"target:{rest_of(key)}"]
        more = {
            "rule": Expression(f"{address}.name"),
            "event_bus_name": None if bus == "default" else bus,
            "target_id": end["Id"],
            "arn": target.arn,
            "input": end.get("Input"),
        }
        made.resource("aws_cloudwatch_event_target", name, more)


def _add_schedules(made: Configuration, unit: Unit, target: Target) -> None:
    own = made_role(unit, "scheduler")
    role, first = add_role(made, unit, own) if own is not None else (None, [])
    for key, wish in schedule.wanted(unit).items():
        window, letters = wish["FlexibleTimeWindow"], wish["DeadLetter"]
        retry = {
            "maximum_event_age_in_seconds": wish["MaximumEventAgeInSeconds"],
            "maximum_retry_attempts": wish["MaximumRetryAttempts"],
        }
        made_here = own is not None and wish["RoleArn"].endswith(f"/{own.name}")
        ends = {"arn": target.arn, "role_arn": role if made_here else wish["RoleArn"], "input": wish["Input"]}
        inner = [Block("retry_policy", (), retry)]
        inner += [Block("dead_letter_config", (), {"arn": letters})] if letters else []
        flexible = {"mode": window["Mode"], "maximum_window_in_minutes": window.get("MaximumWindowInMinutes")}
        attributes = {
            "name": rest_of(key),
            "schedule_expression": wish["ScheduleExpression"],
            "schedule_expression_timezone": wish["ScheduleExpressionTimezone"],
            "start_date": wish["StartDate"],
            "end_date": wish["EndDate"],
            "state": wish["State"],
            "depends_on": first if made_here else None,
        }
        blocks = (Block("flexible_time_window", (), flexible), Block("target", (), ends, tuple(inner)))
        made.resource("aws_scheduler_schedule", made.names(rest_of(key)), attributes, *blocks)


def add_notifications(made: Configuration, pointed: list[Pointed]) -> None:
    """One resource for a bucket: it is the whole of what the bucket tells anybody."""
    buckets: dict[str, tuple[list[Block], list[Expression]]] = {}
    for one in pointed:
        for key, entries in notification.wanted(one.unit).items():
            blocks, permissions = buckets.setdefault(rest_of(key), ([], []))
            blocks += [_notification(entry, one.target) for entry in entries]
            permissions += one.permissions
    for bucket, (blocks, permissions) in buckets.items():
        attributes = {"bucket": bucket, "depends_on": permissions}
        made.resource("aws_s3_bucket_notification", made.names(bucket), attributes, *blocks)
        made.notes.append(f"Terraform's notification of {bucket} replaces all that the bucket has")


def _notification(entry: Mapping[str, Any], target: Target) -> Block:
    rules = {one["Name"]: one["Value"] for one in entry.get("Filter", {}).get("Key", {}).get("FilterRules", ())}
    attributes = {
        "id": entry["Id"],
        "lambda_function_arn": target.arn,
        "events": entry["Events"],
        "filter_prefix": rules.get("prefix"),
        "filter_suffix": rules.get("suffix"),
    }
    return Block("lambda_function", (), attributes)
