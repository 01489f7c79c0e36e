"""How asynchronous events end or go on. Pure: times are given, decisions are returned.

Source: Lambda Developer Guide, "How Lambda handles errors and retries with asynchronous invocation".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lading.service.queue.event import Config, QueuedEvent, Result

RETRY_DELAYS = (60.0, 120.0)
"""Seconds before the second and third attempt."""
FIRST_BACKOFF, LAST_BACKOFF = 1.0, 300.0
DEFAULT_RETRIES, DEFAULT_AGE = 2, 21_600
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
