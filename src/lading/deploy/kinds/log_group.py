"""Log groups and how long they keep. A group that is there already belongs to the function of its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lading.aws.account import Account
from lading.aws.logs import find_log_group, log_group_tags
from lading.deploy.instruction import Change, Instruction, Verb
from lading.deploy.kinds.function import log_group
from lading.deploy.kinds.kind import Step, Wanted, rest_of
from lading.deploy.unit import Subject, Unit


def wanted(unit: Unit) -> Wanted:
    return {f"log-group:{log_group(unit)}": unit.wish.logging.retention}


def join(users: Sequence[tuple[str, Any]]) -> Any:
    """The longest retention that is asked for, and who uses the group."""
    days = [retention for _, retention in users]
    return None if None in days else max(days), [name for name, _ in users]


def observe(account: Account, subject: Subject, keys: Mapping[str, bool]) -> Mapping[str, Any]:
    """With its tags where it is to go: what somebody else made stays."""
    found: dict[str, Any] = {}
    for key, staying in keys.items():
        group = find_log_group(account, rest_of(key))
        if group is not None:
            found[key] = group if staying else {**group, "tags": log_group_tags(account, rest_of(key))}
    return found


def diff(subject: Subject, key: str, want: Any, seen: Any) -> Iterator[Step]:
    """`want` is a pair of the retention (None: for ever) and the functions that use the group; None: nobody does."""
    if want is None:
        if seen is not None and subject.place.owns(seen["tags"]):
            # Not before the function: one that still runs would make it again.
            yield _call(subject, key, "delete", Verb.DELETE, "DeleteLogGroup", after=("*/function",))
        return
    retention, users = want
    after = tuple(f"{user}/function" for user in users)
    if seen is None:
        more = {"tags": subject.place.marks()}
        yield _call(subject, key, "create", Verb.CREATE, "CreateLogGroup", parameters=more, after=after)
    there = seen.get("retentionInDays") if seen else None
    if there != retention:
        changes = (Change("retention", there, retention),)
        operation = "DeleteRetentionPolicy" if retention is None else "PutRetentionPolicy"
        more = {} if retention is None else {"retentionInDays": retention}
        first = (*after, subject.ref(key, "create"))
        yield _call(subject, key, "retention", Verb.UPDATE, operation, parameters=more, changes=changes, after=first)


def _call(subject: Subject, key: str, step: str, verb: Verb, operation: str, **more: Any) -> Instruction:
    name = rest_of(key)
    parameters = {"logGroupName": name, **more.pop("parameters", {})}
    return Instruction(subject.scope, key, step, verb, f"log group {name}", "logs", operation, parameters, **more)
