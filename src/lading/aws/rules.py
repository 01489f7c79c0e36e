"""EventBridge's rules, and its scheduler's schedules, as they are read."""

from __future__ import annotations

from typing import Any

from lading.aws.account import Account


def find_rule(account: Account, name: str, bus: str) -> dict[str, Any] | None:
    return account.find("events", "DescribeRule", Name=name, EventBusName=bus)


def list_targets(account: Account, name: str, bus: str) -> list[dict[str, Any]] | None:
    found = account.find("events", "ListTargetsByRule", Rule=name, EventBusName=bus)
    return None if found is None else found["Targets"]


def find_schedule(account: Account, name: str) -> dict[str, Any] | None:
    """Of the default group."""
    return account.find("scheduler", "GetSchedule", Name=name, GroupName="default")
