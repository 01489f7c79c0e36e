"""ECR as it is read, and the login that its registry takes."""

from __future__ import annotations

import base64
from typing import Any

from lading.aws.account import Account
from lading.aws.refusal import MISSING, AwsError


def find_repository(account: Account, name: str) -> dict[str, Any] | None:
    found = account.find("ecr", "DescribeRepositories", repositoryNames=[name])
    return found["repositories"][0] if found else None


def list_images(account: Account, repository: str) -> list[str]:
    """Digests, newest first; empty where the repository isn't there."""
    try:
        found = account.pages("ecr", "DescribeImages", "imageDetails", repositoryName=repository)
    except AwsError as error:
        if error.code in MISSING:
            return []
        raise
    found.sort(key=lambda image: image["imagePushedAt"], reverse=True)
    return [str(image["imageDigest"]) for image in found]


def repository_tags(account: Account, arn: str) -> dict[str, str]:
    tags = account.call("ecr", "ListTagsForResource", resourceArn=arn)["tags"]
    return {tag["Key"]: tag["Value"] for tag in tags}


def registry_login(account: Account) -> tuple[str, str]:
    """User and password, good for twelve hours."""
    token = account.call("ecr", "GetAuthorizationToken")["authorizationData"][0]["authorizationToken"]
    user, _, secret = base64.b64decode(token).decode().partition(":")
    return user, secret
