"""Schedules and event patterns: a rule of EventBridge and its target, two keys. Keys: rule:BUS/NAME, target:BUS/NAME."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lading.aws.account import Account
from lading.aws.rules import find_rule, list_targets
from lading.deploy.instruction import Verb
from lading.deploy.kinds.kind import Pen, Step, Wanted, canonical, changes_between, kind_of, rest_of
from lading.deploy.unit import Subject, Unit, qualified

NAMES = {"ScheduleExpression": "schedule", "EventPattern": "pattern", "State": "state"}
TARGET_NAMES = {"Arn": "function", "Input": "input"}
TARGET = "lading"


def wanted(unit: Unit) -> Wanted:
    found: dict[str, Any] = {}
    for trigger in unit.wish.triggers:
        if trigger.kind not in ("schedule", "rule"):
            continue
        settings = trigger.settings
        rest = f"{settings.get('bus', 'default')}/{unit.place.rule_name(unit.name, trigger.name)}"
        rule = {"State": "ENABLED" if settings.get("enabled", True) else "DISABLED"}
        if trigger.kind == "schedule":
            rule["ScheduleExpression"] = settings["schedule"]
        else:
            rule["EventPattern"] = json.dumps(settings["pattern"], sort_keys=True)
        found[f"rule:{rest}"] = rule
        constant = {"Input": json.dumps(settings["input"], sort_keys=True)} if "input" in settings else {}
        found[f"target:{rest}"] = {"Id": TARGET, "Arn": unit.arn, **constant}
    return found


def observe(account: Account, subject: Subject, keys: Mapping[str, bool]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for key in keys:
        bus, _, name = rest_of(key).rpartition("/")
        seen: Any
        if kind_of(key) == "rule":
            seen = find_rule(account, name, bus)
            if seen is not None and seen.get("EventPattern"):
                seen["EventPattern"] = canonical(seen["EventPattern"])
        else:
            targets = list_targets(account, name, bus) or []
            seen = next((target for target in targets if target["Id"] == TARGET), None)
            if seen is not None and seen.get("Input"):
                seen["Input"] = canonical(seen["Input"])
        if seen is not None:
            found[key] = seen
    return found


def diff(subject: Subject, key: str, want: Any, seen: Any) -> Iterator[Step]:
    bus, _, name = rest_of(key).rpartition("/")
    pen = Pen(subject, key, f"rule {name}", "events")
    if kind_of(key) == "rule":
        where = {"Name": name, "EventBusName": bus}
        if want is None:
            if seen is not None:
                gone, target = changes_between(NAMES, seen, {}), subject.ref(f"target:{rest_of(key)}")
                yield pen("delete", Verb.DELETE, "DeleteRule", where, changes=gone, after=(target,))
        elif changes := changes_between(NAMES, seen or {}, want):
            verb = Verb.UPDATE if seen else Verb.CREATE
            tags = {} if seen else {"Tags": _tags(subject)}
            yield pen("put", verb, "PutRule", where | want | tags, changes=changes, after=(subject.ref("function"),))
        return
    where = {"Rule": name, "EventBusName": bus}
    if want is None:
        if seen is not None:
            gone = changes_between(TARGET_NAMES, seen, {})
            yield pen("remove", Verb.DELETE, "RemoveTargets", where | {"Ids": [TARGET]}, changes=gone)
    elif changes := changes_between(TARGET_NAMES, seen or {}, want):
        verb = Verb.UPDATE if seen else Verb.CREATE
        # AWS drops events for a target that the rule may not invoke, so the permission comes first.
        alias = want["Arn"].split(":")[7] if want["Arn"].count(":") == 7 else ""
        first = ("function", f"alias:{alias}", qualified("permission", alias), f"rule:{rest_of(key)}")
        after = tuple(subject.ref(one) for one in first)
        yield pen("put", verb, "PutTargets", where | {"Targets": [want]}, changes=changes, after=after)


def _tags(subject: Subject) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in subject.place.marks(subject.scope).items()]
