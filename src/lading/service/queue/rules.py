"""How asynchronous events end or go on. Pure: times are given, decisions are returned.

Sources: Lambda Developer Guide, "How Lambda handles errors and retries with asynchronous invocation" and "Recursive
loop detection".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from lading.service.queue.event import Config, QueuedEvent, Result

RETRY_DELAYS = (60.0, 120.0)
"""Seconds before the second and third attempt."""
FIRST_BACKOFF, LAST_BACKOFF = 1.0, 300.0
DEFAULT_RETRIES, DEFAULT_AGE = 2, 21_600
MOST_IN_CHAIN = 16
"""Invokes of one function by one chain of events before it counts as a loop."""
SUCCESS, EXHAUSTED, TOO_OLD = "Success", "RetriesExhausted", "EventAgeExceeded"
NO_CONCURRENCY, LOOP = "ZeroReservedConcurrency", "RecursiveInvocationException"


@dataclass(frozen=True)
class Retry:
    """The event goes back into the queue, changed as given."""

    event: QueuedEvent


@dataclass(frozen=True)
class Ended:
    """The event is through. `result` is of its last attempt, None where there was none."""

    condition: str
    result: Result | None
    attempts: int


Decision = Retry | Ended


def before(event: QueuedEvent, config: Config, reserved: int | None, now: float) -> Ended | None:
    """What keeps an event from being tried at all."""
    if reserved == 0:
        return Ended(NO_CONCURRENCY, None, event.attempts)
    if event.age(now) > maximum_age(config):
        return Ended(TOO_OLD, None, event.attempts)
    return None


def after(event: QueuedEvent, result: Result, config: Config, now: float) -> Decision:
    """What follows from an attempt."""
    if result.refused:
        due = now + backoff(event.refusals)
        if due - event.accepted > maximum_age(config):
            return Ended(TOO_OLD, None, event.attempts)
        return Retry(replace(event, refusals=event.refusals + 1, due=due))
    attempts = event.attempts + 1
    if not result.function_error:
        return Ended(SUCCESS, result, attempts)
    if attempts > config.get("MaximumRetryAttempts", DEFAULT_RETRIES):
        return Ended(EXHAUSTED, result, attempts)
    due = now + RETRY_DELAYS[attempts - 1]
    if due - event.accepted > maximum_age(config):
        return Ended(TOO_OLD, result, attempts)
    return Retry(replace(event, attempts=attempts, refusals=0, due=due))


def maximum_age(config: Config) -> float:
    return float(config.get("MaximumEventAgeInSeconds", DEFAULT_AGE))


def backoff(refusals: int) -> float:
    """Seconds before the next try: 1 s, doubling, at most 5 minutes."""
    return float(min(FIRST_BACKOFF * 2.0 ** min(refusals, 20), LAST_BACKOFF))


def extend_lineage(lineage: dict[str, int], arn: str) -> dict[str, int]:
    name = short_name(arn)
    return {**lineage, name: lineage.get(name, 0) + 1}


def short_name(arn: str) -> str:
    """A function as a lineage names it: short, and without colons."""
    return hashlib.sha256(arn.encode()).hexdigest()[:8]


def is_loop(lineage: dict[str, int], arn: str) -> bool:
    """Whether one more invoke of the function would be one too many in its chain."""
    return lineage.get(short_name(arn), 0) >= MOST_IN_CHAIN


def read_lineage(trace: str) -> dict[str, int]:
    """Function → times, from the trace header's Lineage ("hash:count|hash:count"); {} for anything else."""
    part = next((part for part in trace.split(";") if part.startswith("Lineage=")), "")
    found: dict[str, int] = {}
    for entry in part.removeprefix("Lineage=").split("|")[:64]:
        name, _, count = entry.partition(":")
        if name and count.isascii() and count.isdigit() and len(count) < 6:
            found[name] = int(count)
    return found


def write_lineage(trace: str, lineage: dict[str, int]) -> str:
    """The trace header with this Lineage in place of any other."""
    parts = [part for part in trace.split(";") if part and not part.startswith("Lineage=")]
    if lineage:
        parts.append("Lineage=" + "|".join(f"{name}:{count}" for name, count in lineage.items()))
    return ";".join(parts)
