"""IAM's roles and policies as they are read."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from lading.aws.account import Account


def find_role(account: Account, name: str) -> dict[str, Any] | None:
    """With its trust policy as a document and its tags as a table."""
    found = account.find("iam", "GetRole", RoleName=name)
    if found is None:
        return None
    role = found["Role"]
    tags = {tag["Key"]: tag["Value"] for tag in role.get("Tags", ())}
    return {**role, "AssumeRolePolicyDocument": _document(role["AssumeRolePolicyDocument"]), "Tags": tags}


def list_roles(account: Account, path: str) -> list[dict[str, Any]]:
    """Roles below a path."""
    return account.pages("iam", "ListRoles", "Roles", PathPrefix=path)


def find_inline_policy(account: Account, role: str, policy: str) -> Any:
    found = account.find("iam", "GetRolePolicy", RoleName=role, PolicyName=policy)
    return None if found is None else _document(found["PolicyDocument"])


def list_attached(account: Account, role: str) -> list[str] | None:
    """ARNs of managed policies; None where the role isn't there."""
    found = account.find("iam", "ListAttachedRolePolicies", RoleName=role)
    return None if found is None else sorted(policy["PolicyArn"] for policy in found["AttachedPolicies"])


def _document(value: Any) -> Any:
    return json.loads(unquote(value)) if isinstance(value, str) else value
