"""How asynchronous invokes end: retries, age, destinations. Key: async or async:ALIAS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lading.aws.account import Account
from lading.aws.functions import find_qualified
from lading.deploy.instruction import Verb
from lading.deploy.kinds.kind import Pen, Step, Wanted, changes_between
from lading.deploy.unit import Subject, Unit, qualified, qualifier_of

NAMES = {
    "MaximumRetryAttempts": "retries",
    "MaximumEventAgeInSeconds": "max-age",
    "OnSuccess": "on-success",
    "OnFailure": "on-failure",
}


def wanted(unit: Unit) -> Wanted:
    wish = unit.wish.asynchronous
    if wish is None:
        return {}
    specification = {
        "MaximumRetryAttempts": wish.retries,
        "MaximumEventAgeInSeconds": wish.max_age,
        "OnSuccess": wish.on_success or None,
        "OnFailure": wish.on_failure or None,
    }
    return {qualified("async", unit.wish.alias): specification}


def observe(account: Account, subject: Subject, keys: Mapping[str, bool]) -> Mapping[str, Any]:
    found = {}
    for key in keys:
        seen = find_qualified(account, "GetFunctionEventInvokeConfig", subject.name, qualifier_of(key))
        if seen is not None:
            destinations = seen.get("DestinationConfig") or {}
            ends = {name: (destinations.get(name) or {}).get("Destination") for name in ("OnSuccess", "OnFailure")}
            found[key] = {**seen, **ends}
    return found


def diff(subject: Subject, key: str, want: Any, seen: Any) -> Iterator[Step]:
    alias = qualifier_of(key)
    pen = Pen(subject, key, f"asynchronous invokes of {subject.name}")
    name = {"FunctionName": subject.name} | ({"Qualifier": alias} if alias else {})
    if want is None:
        if seen is not None:
            gone = changes_between(NAMES, seen, {})
            yield pen("delete", Verb.DELETE, "DeleteFunctionEventInvokeConfig", name, changes=gone)
        return
    changes = changes_between(NAMES, seen or {}, want)
    if seen is not None and not changes:
        return
    ends = {end: {"Destination": want[end]} for end in ("OnSuccess", "OnFailure") if want[end]}
    numbers = {field: want[field] for field in list(NAMES)[:2] if want[field] is not None}
    parameters = {**name, **numbers, **({"DestinationConfig": ends} if ends else {})}
    # A role needs its new rights first: AWS looks whether it may send to the destination.
    after = (subject.ref("function"), subject.ref(f"alias:{alias}"))
    verb = Verb.UPDATE if seen else Verb.CREATE
    yield pen("put", verb, "PutFunctionEventInvokeConfig", parameters, changes=changes, after=after, patience=60)
