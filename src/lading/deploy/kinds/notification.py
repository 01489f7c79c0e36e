"""What a bucket tells functions. One document per bucket holds everybody's: ids that begin with the project's mark are ours.

Key: notification:BUCKET, of the project: functions that share a bucket are written together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lading.aws.account import Account
from lading.aws.buckets import find_notifications
from lading.deploy.instruction import Change, Problem, Verb
from lading.deploy.kinds.kind import Pen, Step, Wanted, rest_of
from lading.deploy.unit import Subject, Unit, qualified

_LAMBDA = "LambdaFunctionConfigurations"


def wanted(unit: Unit) -> Wanted:
    """Bucket → entries, each with the function it is for."""
    found: dict[str, list[dict[str, Any]]] = {}
    for trigger in unit.wish.triggers:
        if trigger.kind != "s3":
            continue
        settings = trigger.settings
        rules = [{"Name": name, "Value": settings[name]} for name in ("prefix", "suffix") if settings.get(name)]
        entry = {
            "Id": f"{mark(unit.subject)}{unit.subject.scope}/{trigger.name}",
            "LambdaFunctionArn": unit.arn,
            "Events": sorted(settings.get("events", ["s3:ObjectCreated:*"])),
            **({"Filter": {"Key": {"FilterRules": rules}}} if rules else {}),
        }
        found.setdefault(f"notification:{settings['bucket']}", []).append(entry)
    return found


def mark(subject: Subject) -> str:
    return f"lading/{subject.place.project}/{subject.place.stage}/"


def join(users: Sequence[tuple[str, Any]]) -> Any:
    return [entry for _, entries in users for entry in entries], [name for name, _ in users]


def observe(account: Account, subject: Subject, keys: Mapping[str, bool]) -> Mapping[str, Any]:
    found = {key: find_notifications(account, rest_of(key)) for key in keys}
    return {key: document for key, document in found.items() if document is not None}


def diff(subject: Subject, key: str, want: Any, seen: Any) -> Iterator[Step]:
    """`want` is the list of entries of all functions and those functions' names; None where nobody wants any."""
    bucket = rest_of(key)
    entries, users = want if want is not None else ([], [])
    if seen is None:
        if entries:
            yield Problem(f"the bucket {bucket} is not there", "make it first, or correct the name")
        return
    listed = [_normal(entry) for entry in seen.get(_LAMBDA, ())]
    ours = {entry["Id"]: entry for entry in listed if str(entry.get("Id", "")).startswith(mark(subject))}
    will = {entry["Id"]: _normal(entry) for entry in entries}
    if ours == will:
        return
    changes = tuple(
        Change(identity.removeprefix(mark(subject)), ours.get(identity), will.get(identity))
        for identity in sorted({*ours, *will})
        if ours.get(identity) != will.get(identity)
    )
    others = [entry for entry in listed if entry.get("Id") not in ours]
    document = {**{name: value for name, value in seen.items() if name != _LAMBDA}, _LAMBDA: [*others, *will.values()]}
    document = {name: value for name, value in document.items() if value != []}
    aliases = {
        entry["LambdaFunctionArn"].split(":")[7] for entry in entries if entry["LambdaFunctionArn"].count(":") == 7
    }
    first = ["function", *(f"alias:{alias}" for alias in aliases), "permission"]
    first += [qualified("permission", alias) for alias in aliases]
    pen = Pen(subject, key, f"notifications of bucket {bucket}", "s3")
    yield pen(
        "put", Verb.UPDATE, "PutBucketNotificationConfiguration",
        {"Bucket": bucket, "NotificationConfiguration": document},
        changes=changes, after=tuple(f"{user}/{one}" for user in users for one in first), patience=60,
    )  # fmt: skip


def _normal(entry: Mapping[str, Any]) -> dict[str, Any]:
    """S3 writes the names of filters with a capital, and takes them in any case."""
    rules = ((entry.get("Filter") or {}).get("Key") or {}).get("FilterRules") or []
    found = {**entry, "Events": sorted(entry.get("Events", ()))}
    found.pop("Filter", None)
    if rules:
        names = [{"Name": rule["Name"].lower(), "Value": rule["Value"]} for rule in rules]
        found["Filter"] = {"Key": {"FilterRules": sorted(names, key=lambda rule: str(rule["Name"]))}}
    return found
