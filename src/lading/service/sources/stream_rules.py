"""How a stream's batches go on after a try: retried, split, given up. Pure.

Sources: Lambda Developer Guide, "Using Lambda with Kinesis": error handling, "Configuring partial batch response", "Retain
discarded batch records". That splitting doesn't use up retries is said there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lading.service.queue import rules as queue_rules
from lading.service.queue.event import Result
from lading.service.sources.mapping import PAYLOAD, SourceMapping
from lading.service.sources.response import failed_records
from lading.service.sources.stream_records import EXHAUSTED, TOO_OLD, Discarded, StreamRecord

LAST_BACKOFF, LONGEST_PAUSE = 60.0, 30.0


@dataclass(frozen=True)
class Try:
    """Records that are to be tried together, and how that went so far."""

    records: tuple[StreamRecord, ...]
    failures: int = 0
    """Tries that count against MaximumRetryAttempts."""
    tries: int = 0
    last: Result | None = None


@dataclass(frozen=True)
class Outcome:
    """What follows: the records that are through, those that are tried next, in order, and those that are given up."""

    done: tuple[StreamRecord, ...] = ()
    again: tuple[Try, ...] = ()
    discarded: Discarded | None = None
    wait: bool = False
    """Before the next try."""


def fitting(records: Sequence[StreamRecord], mapping: SourceMapping) -> int:
    """How many records from the first on make one batch; at least one where there is one."""
    size = 0
    for count, record in enumerate(records[: mapping.batch_size]):
        size += len(record.text) + 1
        if size > PAYLOAD and count:
            return count
    return min(len(records), mapping.batch_size)


def without_old(attempt: Try, limit: float, now: float) -> tuple[Discarded | None, Try]:
    """Take out the records that are older than `limit` seconds on the service's clock."""
    old = tuple(record for record in attempt.records if now - record.arrived > limit)
    if not old:
        return None, attempt
    young = tuple(record for record in attempt.records if now - record.arrived <= limit)
    return Discarded(old, TOO_OLD, attempt.tries, attempt.last), replace(attempt, records=young)


def after(attempt: Try, result: Result, mapping: SourceMapping) -> Outcome:
    """What follows from a try."""
    records, settings = attempt.records, mapping.settings
    if result.refused:  # the function didn't run: that doesn't count, only time does
        return Outcome(again=(attempt,), wait=True)
    failed = _first_failed(attempt, result, mapping)
    done, left = records[:failed], records[failed:]
    if not left:
        return Outcome(done)
    tried = replace(attempt, records=left, tries=attempt.tries + 1, last=result)
    if settings["BisectBatchOnFunctionError"]:
        if done:  # split where the function said
            return Outcome(done, (tried,))
        if len(left) > 1:
            middle = len(left) // 2
            return Outcome(done, (replace(tried, records=left[:middle]), replace(tried, records=left[middle:])))
    most = settings["MaximumRetryAttempts"]
    if 0 <= most <= attempt.failures:
        return Outcome(done, discarded=Discarded(left, EXHAUSTED, tried.tries, result))
    return Outcome(done, (replace(tried, failures=attempt.failures + 1),), wait=True)


def _first_failed(attempt: Try, result: Result, mapping: SourceMapping) -> int:
    """Where the records begin that the function could not do: past the last one where it did all."""
    if result.function_error:
        return 0
    if not mapping.partial:
        return len(attempt.records)
    sequences = [record.sequence for record in attempt.records]
    failed = failed_records(result.payload, sequences)
    return next((at for at, sequence in enumerate(sequences) if sequence in failed), len(sequences))


def backoff(tries: int) -> float:
    """Seconds before the next try: 1 s, doubling, at most a minute. AWS doesn't say its own."""
    return min(queue_rules.backoff(tries), LAST_BACKOFF)


def pause_after(troubles: int) -> float:
    """Seconds before a source that can't be read is asked again."""
    return min(backoff(troubles - 1), LONGEST_PAUSE)
