"""The roles that lading makes for a function: each has itself, an inline policy, managed policies (three keys, three reads)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lading.aws.account import Account
from lading.aws.roles import find_inline_policy, find_role, list_attached
from lading.deploy.grants import made_roles
from lading.deploy.instruction import Change, Instruction, Verb
from lading.deploy.kinds.kind import Step, Wanted, kind_of, rest_of, taken
from lading.deploy.unit import Subject, Unit

POLICY = "lading"


def wanted(unit: Unit) -> Wanted:
    found: dict[str, Any] = {}
    for role in made_roles(unit):
        more = {"boundary": unit.wish.role.boundary, "tags": unit.place.marks(unit.subject.scope)}
        found[f"role:{role.name}"] = {"trust": role.trust, **more}
        if role.policies:
            found[f"role-managed:{role.name}"] = sorted(unit.place.managed(policy) for policy in role.policies)
        if role.document:
            found[f"role-policy:{role.name}"] = role.document
    return found


def observe(account: Account, subject: Subject, keys: Mapping[str, bool]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for key in keys:
        name = rest_of(key)
        match kind_of(key):
            case "role":
                seen: Any = find_role(account, name)
            case "role-policy":
                seen = find_inline_policy(account, name, POLICY)
            case _:
                seen = list_attached(account, name)
        if seen is not None:
            found[key] = seen
    return found


def diff(subject: Subject, key: str, want: Any, seen: Any) -> Iterator[Step]:
    match kind_of(key):
        case "role":
            yield from _role(subject, key, want, seen)
        case "role-policy":
            yield from _inline(subject, key, want, seen)
        case _:
            yield from _managed(subject, key, want or [], seen or [])


def _call(subject: Subject, key: str, step: str, verb: Verb, operation: str, **more: Any) -> Instruction:
    name = rest_of(key)
    parameters = {"RoleName": name, **more.pop("parameters", {})}
    return Instruction(subject.scope, key, step, verb, f"role {name}", "iam", operation, parameters, **more)


def _role(subject: Subject, key: str, want: Any, seen: Any) -> Iterator[Step]:
    name, place = rest_of(key), subject.place
    if want is None:
        first = ("function", "schedule:*", f"role-policy:{name}", f"role-managed:{name}")
        after = tuple(subject.ref(one) for one in first)
        if seen is not None and (place.owns(seen["Tags"]) or seen["Path"] == place.role_path):
            yield _call(subject, key, "delete", Verb.DELETE, "DeleteRole", after=after)
        return
    boundary = {"PermissionsBoundary": want["boundary"]} if want["boundary"] else {}
    if seen is None:
        parameters = {
            "Path": place.role_path,
            "AssumeRolePolicyDocument": json.dumps(want["trust"]),
            "Description": f"Execution role of a function of {place.project}",
            "Tags": [{"Key": tag, "Value": value} for tag, value in want["tags"].items()],
            **boundary,
        }
        yield _call(subject, key, "create", Verb.CREATE, "CreateRole", parameters=parameters)
        return
    if seen["Path"] != place.role_path or not place.owns(seen["Tags"]):
        # The ARN holds the path, and a path can't be changed: a role elsewhere can't be taken over.
        yield taken(f"role {name}")
        return
    if seen["AssumeRolePolicyDocument"] != want["trust"]:
        document = {"PolicyDocument": json.dumps(want["trust"])}
        changes = (Change("trust policy", seen["AssumeRolePolicyDocument"], want["trust"]),)
        yield _call(subject, key, "trust", Verb.UPDATE, "UpdateAssumeRolePolicy", parameters=document, changes=changes)
    there = seen.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "")
    if there != want["boundary"]:
        operation = "PutRolePermissionsBoundary" if boundary else "DeleteRolePermissionsBoundary"
        changes = (Change("boundary", there, want["boundary"]),)
        yield _call(subject, key, "boundary", Verb.UPDATE, operation, parameters=boundary, changes=changes)


def _inline(subject: Subject, key: str, want: Any, seen: Any) -> Iterator[Step]:
    name = {"PolicyName": POLICY}
    if want is None:
        if seen is not None:
            more = {"changes": tuple(_statement_changes({}, seen)), "after": (subject.ref("function"),)}
            yield _call(subject, key, "delete", Verb.DELETE, "DeleteRolePolicy", parameters=name, **more)
    elif want != seen:
        changes = tuple(_statement_changes(want, seen or {}))
        yield _call(
            subject, key, "put", Verb.UPDATE if seen else Verb.CREATE, "PutRolePolicy",
            parameters={**name, "PolicyDocument": json.dumps(want)},
            changes=changes, after=(subject.ref(f"role:{rest_of(key)}"),),
        )  # fmt: skip


def _statement_changes(want: Mapping[str, Any], seen: Mapping[str, Any]) -> Iterator[Change]:
    was, will = seen.get("Statement", []), want.get("Statement", [])
    yield from (Change("statement", one, None) for one in was if one not in will)
    yield from (Change("statement", None, one) for one in will if one not in was)


def _managed(subject: Subject, key: str, want: list[str], seen: list[str]) -> Iterator[Step]:
    for arn in want:
        if arn not in seen:
            yield _call(
                subject, key, f"attach-{arn.rpartition('/')[2]}", Verb.CREATE, "AttachRolePolicy",
                parameters={"PolicyArn": arn}, changes=(Change("policy", None, arn),),
                after=(subject.ref(f"role:{rest_of(key)}"),),
            )  # fmt: skip
    for arn in seen:
        if arn not in want:
            yield _call(
                subject, key, f"detach-{arn.rpartition('/')[2]}", Verb.DELETE, "DetachRolePolicy",
                parameters={"PolicyArn": arn}, changes=(Change("policy", arn, None),),
                after=(subject.ref("function"),),
            )  # fmt: skip
