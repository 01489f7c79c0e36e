"""Statements of a function's own policy that lading wrote: their ids begin with `lading-`; others are left alone.

Key: permission or permission:ALIAS. Sources: Lambda developer guide, "Resource-based policies"; "Function URL access control"
(since October 2025 an open URL needs both lambda:InvokeFunctionUrl and lambda:InvokeFunction).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lading.aws.account import Account
from lading.aws.functions import find_policy
from lading.deploy.instruction import Change, Verb
from lading.deploy.kinds.kind import Pen, Step, Wanted
from lading.deploy.unit import Subject, Unit, qualified, qualifier_of
from lading.model.deployment import Permission

MARK = "lading-"
_CONDITIONS = {
    "aws:sourcearn": "SourceArn",
    "aws:sourceaccount": "SourceAccount",
    "aws:principalorgid": "PrincipalOrgID",
    "lambda:functionurlauthtype": "FunctionUrlAuthType",
    "lambda:invokedviafunctionurl": "InvokedViaFunctionUrl",
}


def wanted(unit: Unit) -> Wanted:
    """Statement id → parameters of AddPermission."""
    statements = {f"{MARK}{one.name}": _stated(one) for one in unit.wish.permissions}
    if unit.wish.url is not None and unit.wish.url.auth == "none":
        open_to_all = {"Principal": "*", "FunctionUrlAuthType": "NONE"}
        statements[f"{MARK}url"] = {"Action": "lambda:InvokeFunctionUrl", **open_to_all}
        statements[f"{MARK}url-invoke"] = {
            "Action": "lambda:InvokeFunction", "Principal": "*", "InvokedViaFunctionUrl": True,
        }  # fmt: skip
    for trigger in unit.wish.triggers:
        if trigger.kind in ("schedule", "rule"):
            name = unit.place.rule_name(unit.name, trigger.name)
            source = {"SourceArn": unit.place.rule_arn(name, trigger.settings.get("bus", "default"))}
            statements[f"{MARK}rule-{trigger.name}"] = _service("events", source)
        elif trigger.kind == "s3":
            bucket = trigger.settings["bucket"]
            source = {"SourceArn": f"arn:{unit.place.partition}:s3:::{bucket}", "SourceAccount": unit.place.account}
            statements[f"{MARK}s3-{trigger.name}"] = _service("s3", source)
    return {qualified("permission", unit.wish.alias): statements} if statements else {}


def _service(name: str, source: Mapping[str, Any]) -> dict[str, Any]:
    return {"Action": "lambda:InvokeFunction", "Principal": f"{name}.amazonaws.com", **source}


def _stated(one: Permission) -> dict[str, Any]:
    stated = {
        "Action": one.action,
        "Principal": one.principal,
        "SourceArn": one.source_arn,
        "SourceAccount": one.source_account,
        "PrincipalOrgID": one.organization,
    }
    return {key: value for key, value in stated.items() if value}


def observe(account: Account, subject: Subject, keys: Mapping[str, bool]) -> Mapping[str, Any]:
    found = {}
    for key in keys:
        statements = find_policy(account, subject.name, qualifier_of(key))
        ours = {one["Sid"]: _parameters(one) for one in statements if str(one.get("Sid", "")).startswith(MARK)}
        if ours:
            found[key] = ours
    return found


def _parameters(statement: Mapping[str, Any]) -> dict[str, Any]:
    """A statement as the AddPermission that made it."""
    principal = statement.get("Principal")
    if isinstance(principal, Mapping):
        principal = principal.get("Service") or principal.get("AWS")
    found: dict[str, Any] = {"Action": statement.get("Action"), "Principal": principal}
    for table in (statement.get("Condition") or {}).values():
        for key, value in table.items():
            name = _CONDITIONS.get(key.lower())
            if name is not None:
                found[name] = str(value).lower() == "true" if name == "InvokedViaFunctionUrl" else value
    return found


def _same(want: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """AWS turns an account's number into the ARN of its root."""
    account = want["Principal"]
    principal = seen.get("Principal")
    if account.isdigit() and isinstance(principal, str) and principal.endswith(f":iam::{account}:root"):
        principal = account
    return dict(want) == {**seen, "Principal": principal}


def diff(subject: Subject, key: str, want: Any, seen: Any) -> Iterator[Step]:
    alias = qualifier_of(key)
    there, wish = seen or {}, want or {}
    name = {"FunctionName": subject.name} | ({"Qualifier": alias} if alias else {})
    after = (subject.ref("function"), subject.ref(f"alias:{alias}"))
    for sid in sorted({*there, *wish}):
        if sid in wish and sid in there and _same(wish[sid], there[sid]):
            continue
        pen = Pen(subject, key, f"permission {sid} on {subject.name}")
        statement = {**name, "StatementId": sid}
        fields = sorted({*there.get(sid, {}), *wish.get(sid, {})})
        changes = tuple(
            Change(field, was, will)
            for field in fields
            if (was := there.get(sid, {}).get(field)) != (will := wish.get(sid, {}).get(field))
        )
        if sid in there:
            # Before what made it needless goes, or before its better self comes.
            yield pen(f"{sid}-remove", Verb.DELETE, "RemovePermission", statement, changes=changes)
        if sid in wish:
            first = (*after, subject.ref(key, f"{sid}-remove"))
            yield pen(f"{sid}-add", Verb.CREATE, "AddPermission", statement | wish[sid], changes=changes, after=first)
