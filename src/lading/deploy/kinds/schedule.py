"""Schedules of EventBridge Scheduler: time zones, flexible windows, one-time schedules. Key: schedule:NAME, in the default group.

Unlike a rule it needs no permission on the function: it invokes as a role. Source: EventBridge Scheduler API reference.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from typing import Any

from lading.aws.account import Account
from lading.aws.rules import find_schedule
from lading.deploy.instruction import Verb
from lading.deploy.kinds.function import PATIENCE
from lading.deploy.kinds.kind import Pen, Step, Wanted, canonical, changes_between, rest_of
from lading.deploy.unit import Subject, Unit
from lading.model.deployment import Trigger

NAMES = {
    "ScheduleExpression": "schedule", "ScheduleExpressionTimezone": "time-zone", "FlexibleTimeWindow": "flexible-window",
    "StartDate": "start", "EndDate": "end", "State": "state", "Arn": "function", "RoleArn": "role", "Input": "input",
    "MaximumRetryAttempts": "retries", "MaximumEventAgeInSeconds": "max-age", "DeadLetter": "on-failure",
}  # fmt: skip
RETRIES, MAX_AGE = 185, 86400
"""What Scheduler takes where nothing is stated."""


def wanted(unit: Unit) -> Wanted:
    return {
        f"schedule:{unit.place.rule_name(unit.name, trigger.name)}": _flat(unit, trigger)
        for trigger in unit.wish.triggers
        if trigger.kind == "scheduler"
    }


def _flat(unit: Unit, trigger: Trigger) -> dict[str, Any]:
    """All of a schedule and its target as one table; None where nothing is stated."""
    settings = trigger.settings
    window = settings.get("flexible-window")
    return {
        "ScheduleExpression": settings["schedule"],
        "ScheduleExpressionTimezone": settings.get("time-zone", "UTC"),
        "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": window} if window else {"Mode": "OFF"},
        "StartDate": _moment(settings.get("start")),
        "EndDate": _moment(settings.get("end")),
        "State": "ENABLED" if settings.get("enabled", True) else "DISABLED",
        "Arn": unit.arn,
        "RoleArn": settings.get("role") or unit.place.role_arn(unit.scheduler_role_name),
        "Input": json.dumps(settings["input"], sort_keys=True) if "input" in settings else None,
        "MaximumRetryAttempts": settings.get("retries", RETRIES),
        "MaximumEventAgeInSeconds": settings.get("max-age", MAX_AGE),
        "DeadLetter": settings.get("on-failure"),
    }


def _moment(value: str | dt.datetime | None) -> str | None:
    """A time in one form, however it is told."""
    if value is None:
        return None
    time = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def observe(account: Account, subject: Subject, keys: Mapping[str, bool]) -> Mapping[str, Any]:
    found = {}
    for key in keys:
        seen = find_schedule(account, rest_of(key))
        if seen is not None:
            found[key] = _seen(seen)
    return found


def _seen(schedule: Mapping[str, Any]) -> dict[str, Any]:
    target = schedule["Target"]
    retry = target.get("RetryPolicy") or {}
    return {
        "ScheduleExpression": schedule["ScheduleExpression"],
        "ScheduleExpressionTimezone": schedule.get("ScheduleExpressionTimezone") or "UTC",
        "FlexibleTimeWindow": schedule["FlexibleTimeWindow"],
        "StartDate": _moment(schedule.get("StartDate")),
        "EndDate": _moment(schedule.get("EndDate")),
        "State": schedule.get("State", "ENABLED"),
        "Arn": target["Arn"],
        "RoleArn": target["RoleArn"],
        "Input": canonical(target["Input"]) if target.get("Input") else None,
        "MaximumRetryAttempts": retry.get("MaximumRetryAttempts", RETRIES),
        "MaximumEventAgeInSeconds": retry.get("MaximumEventAgeInSeconds", MAX_AGE),
        "DeadLetter": (target.get("DeadLetterConfig") or {}).get("Arn"),
    }


def parameters(name: str, want: Mapping[str, Any], role: Any, target: Any) -> dict[str, Any]:
    """As CreateSchedule takes it, and CloudFormation. An update replaces all of a schedule."""
    retry = {key: want[key] for key in ("MaximumRetryAttempts", "MaximumEventAgeInSeconds")}
    ends = {
        "Arn": target,
        "RoleArn": role,
        "RetryPolicy": retry,
        **({"Input": want["Input"]} if want["Input"] else {}),
        **({"DeadLetterConfig": {"Arn": want["DeadLetter"]}} if want["DeadLetter"] else {}),
    }
    times = ("ScheduleExpression", "ScheduleExpressionTimezone", "FlexibleTimeWindow", "StartDate", "EndDate", "State")
    return {"Name": name, **{key: want[key] for key in times if want[key] is not None}, "Target": ends}


def diff(subject: Subject, key: str, want: Any, seen: Any) -> Iterator[Step]:
    name = rest_of(key)
    pen = Pen(subject, key, f"schedule {name}", "scheduler")
    if want is None:
        if seen is not None:
            where = {"Name": name, "GroupName": "default"}
            yield pen("delete", Verb.DELETE, "DeleteSchedule", where, changes=changes_between(NAMES, seen, {}))
    elif changes := changes_between(NAMES, seen or {}, want):
        verb, operation = (Verb.UPDATE, "UpdateSchedule") if seen else (Verb.CREATE, "CreateSchedule")
        role = want["RoleArn"].rpartition("/")[2]
        first = ("function", "alias:*", f"role:{role}", f"role-policy:{role}")
        after = tuple(subject.ref(one) for one in first)
        given = {**parameters(name, want, want["RoleArn"], want["Arn"]), "GroupName": "default"}
        yield pen("put", verb, operation, given, changes=changes, after=after, patience=PATIENCE)
