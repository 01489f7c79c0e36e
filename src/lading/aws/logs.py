"""CloudWatch Logs as it is read."""

from __future__ import annotations

from typing import Any

from lading.aws.account import Account


def find_log_group(account: Account, name: str) -> dict[str, Any] | None:
    groups = account.call("logs", "DescribeLogGroups", logGroupNamePrefix=name, limit=50)["logGroups"]
    return next((group for group in groups if group["logGroupName"] == name), None)


def log_group_tags(account: Account, name: str) -> dict[str, str]:
    arn = f"arn:{account.identity.partition}:logs:{account.region}:{account.identity.account}:log-group:{name}"
    found = account.find("logs", "ListTagsForResource", resourceArn=arn)
    return dict(found["tags"]) if found else {}
