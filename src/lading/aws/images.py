"""ECR as it is read, and the login that its registry takes."""

from __future__ import annotations

import base64
from typing import Any

from lading.aws.account import Account


def find_repository(account: Account, name: str) -> dict[str, Any] | None:
    found = account.find("ecr", "DescribeRepositories", repositoryNames=[name])
    return found["repositories"][0] if found else None


def registry_login(account: Account) -> tuple[str, str]:
    """User and password, good for twelve hours."""
    token = account.call("ecr", "GetAuthorizationToken")["authorizationData"][0]["authorizationToken"]
    user, _, secret = base64.b64decode(token).decode().partition(":")
    return user, secret
