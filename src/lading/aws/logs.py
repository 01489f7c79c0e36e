"""CloudWatch Logs as it is read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lading.aws.account import Account


def find_log_group(account: Account, name: str) -> dict[str, Any] | None:
    groups = account.call("logs", "DescribeLogGroups", logGroupNamePrefix=name, limit=50)["logGroups"]
    return next((group for group in groups if group["logGroupName"] == name), None)


def list_log_groups(account: Account) -> list[str]:
    """Every name in the region."""
    return [str(group["logGroupName"]) for group in account.pages("logs", "DescribeLogGroups", "logGroups")]


def log_group_tags(account: Account, name: str) -> dict[str, str]:
    arn = f"arn:{account.identity.partition}:logs:{account.region}:{account.identity.account}:log-group:{name}"
    found = account.find("logs", "ListTagsForResource", resourceArn=arn)
    return dict(found["tags"]) if found else {}


PAUSE = 1.0
"""Seconds between two looks for new lines."""
OVERLAP = 10_000
"""Milliseconds read again each time: lines come late, and not in order."""


@dataclass(frozen=True)
class LogLine:
    """`time` in milliseconds since 1970."""

    identity: str
    time: int
    stream: str
    text: str


def read_log(account: Account, group: str, since: int, pattern: str = "") -> list[LogLine]:
    """Lines since a time in milliseconds, oldest first. Raises AwsError, also for a group that isn't there."""
    more = {"filterPattern": pattern} if pattern else {}
    found = account.pages("logs", "FilterLogEvents", "events", logGroupName=group, startTime=since, **more)
    lines = [LogLine(one["eventId"], one["timestamp"], one["logStreamName"], one["message"]) for one in found]
    return sorted(lines, key=lambda line: line.time)


FAILURES = ("[ERROR] ", "Task timed out after", "Runtime exited")
"""What Lambda writes, in its text format, of an invoke that failed. A function's own logging has a tab after [ERROR]."""


def failures_since(account: Account, group: str, version: str, since: int) -> int:
    """Failed invokes that the log of a version tells of; 0 where there is no log yet. `since` in milliseconds."""
    if find_log_group(account, group) is None:
        return 0
    lines = read_log(account, group, since, " ".join(f'?"{words}"' for words in FAILURES))
    own = [line.text for line in lines if f"[{version}]" in line.stream]
    return sum(text.startswith(FAILURES[0]) or any(words in text for words in FAILURES[1:]) for text in own)


def follow_log(account: Account, group: str, since: int) -> Iterator[LogLine]:
    """What `read_log` has, then new lines as they come, each once. Never ends."""
    seen: dict[str, int] = {}
    while True:
        for line in read_log(account, group, since):
            if line.identity not in seen:
                seen[line.identity] = line.time
                yield line
        since = max([since, *(moment - OVERLAP for moment in seen.values())])
        seen = {identity: moment for identity, moment in seen.items() if moment >= since}
        time.sleep(PAUSE)
