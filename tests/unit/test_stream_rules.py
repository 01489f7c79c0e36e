"""What follows from a try of a stream's batch: retries, splits, partial failures, age; and what is in events and records."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

import pytest

from lading.service.control.names import FunctionReference, Scope
from lading.service.queue.event import Result
from lading.service.sources.mapping import PAYLOAD, SourceMapping
from lading.service.sources.pattern import Filters
from lading.service.sources.shard import Ledger
from lading.service.sources.stream_records import Discarded, StreamRecord, failure_record, make_record
from lading.service.sources.stream_rules import Try, after, backoff, fitting, without_old

SCOPE = Scope("000000000000", "eu-west-1")
ERROR = Result(b'{"errorType": "E"}', "Unhandled")


def mapping(source: str = "kinesis:eu-west-1:000000000000:stream/s", *patterns: str, **settings: Any) -> SourceMapping:
    defaults = {
        "BatchSize": 100, "FunctionResponseTypes": [], "BisectBatchOnFunctionError": False, "MaximumRetryAttempts": -1,
    }  # fmt: skip
    reference = FunctionReference("f", "live")
    return SourceMapping(SCOPE, "u", f"arn:aws:{source}", reference, Filters(list(patterns)), defaults | settings)


def records(count: int, *, text: bytes = b"{}") -> tuple[StreamRecord, ...]:
    return tuple(StreamRecord(str(at), "k", 1000.0 + at, 2000.0 + at, text, {}) for at in range(count))


def failing(*sequences: str) -> Result:
    failures = [{"itemIdentifier": sequence} for sequence in sequences]
    return Result(json.dumps({"batchItemFailures": failures}).encode())


def test_a_success_is_through_and_a_throttle_does_not_count() -> None:
    attempt = Try(records(3), failures=1, tries=1)
    assert after(attempt, Result(b"1"), mapping()).done == attempt.records
    refused = after(attempt, Result(refused=True), mapping(MaximumRetryAttempts=0))
    assert refused.again == (attempt,) and refused.wait and not refused.done


def test_retries_end_after_as_many_as_are_said() -> None:
    attempt, limited = Try(records(2)), mapping(MaximumRetryAttempts=2)
    for failures in (1, 2):
        outcome = after(attempt, ERROR, limited)
        [attempt] = outcome.again
        assert (attempt.failures, attempt.tries, outcome.wait) == (failures, failures, True)
    outcome = after(attempt, ERROR, limited)
    assert outcome.discarded == Discarded(records(2), "RetryAttemptsExhausted", 3, ERROR) and not outcome.again
    assert after(replace(attempt, failures=10_000), ERROR, mapping()).again, "without a limit there is always one more"


def test_a_batch_is_split_down_to_the_record_and_that_costs_no_retry() -> None:
    split = mapping(BisectBatchOnFunctionError=True, MaximumRetryAttempts=0)
    left, good = [Try(records(8))], []
    discarded = None
    while left:
        attempt = left.pop(0)
        bad = any(record.sequence == "5" for record in attempt.records)
        outcome = after(attempt, ERROR if bad else Result(b"null"), split)
        good += [record.sequence for record in outcome.done]
        discarded = outcome.discarded or discarded
        left = [*outcome.again, *left]
        assert not outcome.wait
    assert good == ["0", "1", "2", "3", "4", "6", "7"]
    assert discarded is not None and [one.sequence for one in discarded.records] == ["5"] and discarded.tries == 4


@pytest.mark.parametrize("bisect", [False, True])
def test_a_partial_failure_goes_on_from_the_first_that_failed(bisect: bool) -> None:
    partial = mapping(FunctionResponseTypes=["ReportBatchItemFailures"], BisectBatchOnFunctionError=bisect)
    outcome = after(Try(records(4)), failing("3", "2"), partial)
    assert outcome.done == records(4)[:2]
    [again] = outcome.again
    assert again.records == records(4)[2:] and again.failures == (0 if bisect else 1) and outcome.wait is not bisect
    assert after(Try(records(4)), failing(), partial).done == records(4)
    assert not after(Try(records(4)), failing("unknown"), partial).done, "a wrong answer fails the batch"
    ignored = after(Try(records(4)), failing("2"), mapping())
    assert ignored.done == records(4), "without ReportBatchItemFailures the answer says nothing"


def test_what_is_too_old_is_given_up_alone() -> None:
    old, young = without_old(Try(records(3), tries=2, last=ERROR), 60, 2061.5)
    assert old == Discarded(records(3)[:2], "RecordAgeExceeded", 2, ERROR) and young.records == records(3)[2:]
    assert without_old(Try(records(3)), 60, 2000) == (None, Try(records(3)))


def test_batches_are_bounded_by_number_and_size() -> None:
    assert fitting(records(3), mapping()) == 3 and fitting(records(3), mapping(BatchSize=2)) == 2
    large = records(3, text=b"x" * (PAYLOAD // 2))
    assert fitting(large, mapping()) == 1 and fitting(records(1, text=b"x" * (PAYLOAD + 1)), mapping()) == 1
    assert fitting((), mapping()) == 0


def test_retries_back_off_to_a_minute() -> None:
    assert [backoff(tries) for tries in (0, 1, 5, 6, 1000)] == [1, 2, 32, 60, 60]


def test_the_ledger_knows_up_to_where_all_is_done() -> None:
    ledger, all_of_them = Ledger(), records(4)
    for record in all_of_them:
        ledger.add(record)
    assert ledger.size == 8
    assert [ledger.done([all_of_them[at]]) for at in (2, 0, 3, 1)] == ["", "0", "", "3"]
    assert len(ledger) == 0 and ledger.size == 0


RAW = {
    "SequenceNumber": "7", "PartitionKey": "p", "Data": b'{"a": 1}',
    "ApproximateArrivalTimestamp": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
}  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "data", "taken"),
    [
        ('{"data": {"a": [1]}}', b'{"a": 1}', True),
        ('{"data": {"a": [1]}}', b"not json", False),
        ('{"data": {"a": [1]}}', b"\xff", False),
        ('{"data": ["plain"]}', b"plain", True),
        ('{"partitionKey": ["p"]}', b"\xff", True),
        ('{"partitionKey": ["q"]}', b"", False),
    ],
)
def test_filters_see_what_kinesis_carries(pattern: str, data: bytes, taken: bool) -> None:
    filtered = mapping("kinesis:eu-west-1:000000000000:stream/s", pattern)
    record = make_record(RAW | {"Data": data}, filtered, "shardId-0", "role", 5.0)
    assert filtered.filters.take(record.matter) is taken
    assert record.arrived == record.created + 5


def test_who_deleted_an_item_is_told() -> None:
    raw = {
        "eventID": "e", "eventName": "REMOVE", "userIdentity": {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"},
        "dynamodb": {
            "ApproximateCreationDateTime": dt.datetime(2026, 1, 1, 0, 0, 0, 5000, tzinfo=dt.UTC),
            "Keys": {"id": {"S": "1"}}, "OldImage": {"l": {"L": [{"B": b"\1"}, {"BS": [b"\2"]}]}}, "SequenceNumber": "9",
        },
    }  # fmt: skip
    record = make_record(raw, mapping("dynamodb:eu-west-1:000000000000:table/t/stream/x"), "s", "role")
    found = json.loads(record.text)
    assert found["userIdentity"] == {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    assert found["dynamodb"]["ApproximateCreationDateTime"] == 1767225600
    assert found["dynamodb"]["OldImage"] == {"l": {"L": [{"B": "AQ=="}, {"BS": ["Ag=="]}]}}


def test_a_failure_record_says_where_the_records_are() -> None:
    source = mapping("dynamodb:eu-west-1:000000000000:table/t/stream/x")
    found = failure_record(source, "shard", Discarded(records(3), "RecordAgeExceeded", 0), "id", 0.0)
    assert found["requestContext"]["functionArn"] == "arn:aws:lambda:eu-west-1:000000000000:function:f:live"
    assert "responseContext" not in found and found["timestamp"] == "1970-01-01T00:00:00.000Z"
    assert found["DDBStreamBatchInfo"] == {
        "shardId": "shard", "startSequenceNumber": "0", "endSequenceNumber": "2", "batchSize": 3,
        "approximateArrivalOfFirstRecord": "1970-01-01T00:16:40.000Z",
        "approximateArrivalOfLastRecord": "1970-01-01T00:16:42.000Z", "streamArn": source.source,
    }  # fmt: skip
