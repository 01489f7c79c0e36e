"""IAM: roles, their policies, managed policies.

Source: CloudFormation Template Reference, the types of AWS::IAM.
"""

from __future__ import annotations

import json
from typing import Any

from lading.service.stacks.kinds.kind import Properties, ResourceError, Wanted, changed, gone_is_well, tag_list
from lading.service.stacks.records import Made
from lading.service.stacks.site import Site

IAM = "iam"


def _document(value: Any) -> str:
    """As text. SAM's policy templates leave the version out, which IAM takes and moto doesn't."""
    if isinstance(value, str):
        return value
    return json.dumps({"Version": "2012-10-17", **value} if isinstance(value, dict) else value)


class Roles:
    """Identity: the role's name."""

    known = frozenset(
        {
            "AssumeRolePolicyDocument", "Description", "ManagedPolicyArns", "MaxSessionDuration", "Path",
            "PermissionsBoundary", "Policies", "RoleName", "Tags",
        }
    )  # fmt: skip
    fixed = frozenset({"Path", "RoleName"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        given = wanted.properties
        name = wanted.name("RoleName")
        made = site.call(
            IAM,
            "create_role",
            RoleName=name,
            AssumeRolePolicyDocument=_document(given.get("AssumeRolePolicyDocument", "")),
            Path=given.get("Path"),
            Description=given.get("Description"),
            MaxSessionDuration=_number(given.get("MaxSessionDuration")),
            PermissionsBoundary=given.get("PermissionsBoundary"),
            Tags=tag_list(site, wanted) or None,
        )["Role"]
        found = Made(name, {"Arn": made["Arn"], "RoleId": made["RoleId"]})
        wanted.begun(found)
        self._policies(site, name, {}, given)
        return found

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        new, name = wanted.properties, made.identity
        if changed(old, new, "AssumeRolePolicyDocument"):
            document = _document(new.get("AssumeRolePolicyDocument", ""))
            site.call(IAM, "update_assume_role_policy", RoleName=name, PolicyDocument=document)
        if changed(old, new, "Description", "MaxSessionDuration"):
            duration = _number(new.get("MaxSessionDuration", 3600))
            site.call(
                IAM, "update_role", RoleName=name, Description=new.get("Description", ""), MaxSessionDuration=duration
            )
        if changed(old, new, "PermissionsBoundary"):
            if boundary := new.get("PermissionsBoundary"):
                site.call(IAM, "put_role_permissions_boundary", RoleName=name, PermissionsBoundary=boundary)
            else:
                site.call(IAM, "delete_role_permissions_boundary", RoleName=name)
        self._policies(site, name, old, new)
        tags = tag_list(site, wanted)
        there = [tag["Key"] for tag in site.call(IAM, "list_role_tags", RoleName=name)["Tags"]]
        if over := sorted(set(there) - {tag["Key"] for tag in tags}):
            site.call(IAM, "untag_role", RoleName=name, TagKeys=over)
        if tags:
            site.call(IAM, "tag_role", RoleName=name, Tags=tags)
        return made

    def _policies(self, site: Site, name: str, old: Properties, new: Properties) -> None:
        before, after = _inline(old), _inline(new)
        for policy in before.keys() - after.keys():
            gone_is_well(lambda policy=policy: site.call(IAM, "delete_role_policy", RoleName=name, PolicyName=policy))  # type: ignore[misc]
        for policy, document in after.items():
            if before.get(policy) != document:
                site.call(IAM, "put_role_policy", RoleName=name, PolicyName=policy, PolicyDocument=document)
        had, has = set(old.get("ManagedPolicyArns") or []), set(new.get("ManagedPolicyArns") or [])
        for arn in sorted(had - has):
            gone_is_well(lambda arn=arn: site.call(IAM, "detach_role_policy", RoleName=name, PolicyArn=arn))  # type: ignore[misc]
        for arn in sorted(has - had):
            site.call(IAM, "attach_role_policy", RoleName=name, PolicyArn=arn)

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        name = made.identity

        def delete() -> None:
            self._policies(site, name, properties, {})
            site.call(IAM, "delete_role", RoleName=name)

        gone_is_well(delete)


def _inline(properties: Properties) -> dict[str, str]:
    try:
        return {str(one["PolicyName"]): _document(one["PolicyDocument"]) for one in properties.get("Policies") or []}
    except (TypeError, KeyError):
        raise ResourceError("Policies is a list of objects with PolicyName and PolicyDocument") from None


def _number(value: Any) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        raise ResourceError(f"MaxSessionDuration is a number, not {value!r}") from None


_HOLDERS = {"Roles": "role", "Users": "user", "Groups": "group"}


class Policies:
    """Policies inside roles, users and groups. Identity: as AWS's, one of its own."""

    known = frozenset({"PolicyName", "PolicyDocument", *_HOLDERS})
    fixed: frozenset[str] = frozenset()

    def create(self, site: Site, wanted: Wanted) -> Made:
        name = str(wanted.properties.get("PolicyName", ""))
        if not any(wanted.properties.get(holders) for holders in _HOLDERS):
            raise ResourceError("At least one of [Groups,Roles,Users] must be non-empty.")
        made = Made(wanted.name("", 128), {"Id": name})
        wanted.begun(made)
        self._put(site, wanted.properties)
        return made

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        new = wanted.properties
        kept = _pairs(new) if old.get("PolicyName") == new.get("PolicyName") else set()
        self._put(site, new)
        self._remove(site, old, _pairs(old) - kept)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        self._remove(site, properties, _pairs(properties))

    def _put(self, site: Site, properties: Properties) -> None:
        name, document = properties.get("PolicyName"), _document(properties.get("PolicyDocument", ""))
        for kind, holder in sorted(_pairs(properties)):
            named = {f"{kind.capitalize()}Name": holder}
            site.call(IAM, f"put_{kind}_policy", **named, PolicyName=name, PolicyDocument=document)

    def _remove(self, site: Site, properties: Properties, pairs: set[tuple[str, str]]) -> None:
        for kind, holder in sorted(pairs):
            named = {f"{kind.capitalize()}Name": holder, "PolicyName": properties.get("PolicyName")}
            call = f"delete_{kind}_policy"
            gone_is_well(lambda call=call, named=named: site.call(IAM, call, **named))  # type: ignore[misc]


def _pairs(properties: Properties) -> set[tuple[str, str]]:
    """("role", its name), …"""
    return {(kind, str(holder)) for holders, kind in _HOLDERS.items() for holder in properties.get(holders) or []}


class ManagedPolicies:
    """Identity: the policy's ARN."""

    known = frozenset({"ManagedPolicyName", "PolicyDocument", "Path", "Description", "Tags", *_HOLDERS})
    fixed = frozenset({"ManagedPolicyName", "Path", "Description"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        given = wanted.properties
        made = site.call(
            IAM,
            "create_policy",
            PolicyName=wanted.name("ManagedPolicyName", 128),
            PolicyDocument=_document(given.get("PolicyDocument", "")),
            Path=given.get("Path"),
            Description=given.get("Description"),
        )["Policy"]
        found = Made(made["Arn"], {"PolicyArn": made["Arn"], "PolicyId": made["PolicyId"]})
        wanted.begun(found)
        self._attach(site, found.identity, "attach", _pairs(given))
        return found

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        new, arn = wanted.properties, made.identity
        if changed(old, new, "PolicyDocument"):
            versions = site.call(IAM, "list_policy_versions", PolicyArn=arn)["Versions"]
            for version in versions:
                if not version["IsDefaultVersion"]:
                    site.call(IAM, "delete_policy_version", PolicyArn=arn, VersionId=version["VersionId"])
            document = _document(new.get("PolicyDocument", ""))
            site.call(IAM, "create_policy_version", PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)
        self._attach(site, arn, "attach", _pairs(new) - _pairs(old))
        self._attach(site, arn, "detach", _pairs(old) - _pairs(new))
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        def delete() -> None:
            for version in site.call(IAM, "list_policy_versions", PolicyArn=made.identity)["Versions"]:
                if not version["IsDefaultVersion"]:
                    site.call(IAM, "delete_policy_version", PolicyArn=made.identity, VersionId=version["VersionId"])
            site.call(IAM, "delete_policy", PolicyArn=made.identity)

        self._attach(site, made.identity, "detach", _pairs(properties))
        gone_is_well(delete)

    def _attach(self, site: Site, arn: str, verb: str, pairs: set[tuple[str, str]]) -> None:
        for kind, holder in sorted(pairs):
            named = {f"{kind.capitalize()}Name": holder, "PolicyArn": arn}
            call = f"{verb}_{kind}_policy"
            if verb == "attach":
                site.call(IAM, call, **named)
            else:
                gone_is_well(lambda call=call, named=named: site.call(IAM, call, **named))  # type: ignore[misc]
