"""How asynchronous events end: the rules, the records, and the queue at work on a clock that tests drive."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.service.clock import Clock
from lading.service.control.names import Scope
from lading.service.lineage import MOST_IN_CHAIN, read_lineage, short_name, write_lineage
from lading.service.queue import rules
from lading.service.queue.dispatch import Plan, Queue
from lading.service.queue.event import Delivery, QueuedEvent, Result
from lading.service.queue.records import deliveries, object_key, record
from lading.service.queue.store import MemoryQueue

SCOPE = Scope("000000000000", "eu-west-1")
EVENT = QueuedEvent("id-1", SCOPE, "orders", None, b'{"a":1}', accepted=1000.0, due=1000.0)
FAILED = Result(b'{"errorMessage":"no","errorType":"E"}', "Unhandled")
REFUSED = Result(refused=True)


def test_two_retries_after_one_and_two_minutes() -> None:
    first = rules.after(EVENT, FAILED, {}, 1000.0)
    assert isinstance(first, rules.Retry) and first.event.due == 1060.0
    second = rules.after(first.event, FAILED, {}, 1060.0)
    assert isinstance(second, rules.Retry) and second.event.due == 1180.0
    assert rules.after(second.event, FAILED, {}, 1180.0) == rules.Ended("RetriesExhausted", FAILED, 3)


def test_success_ends_it() -> None:
    assert rules.after(EVENT, Result(b"1"), {}, 1000.0) == rules.Ended("Success", Result(b"1"), 1)


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_maximum_retry_attempts(retries: int) -> None:
    event, tries = EVENT, 0
    while True:
        tries += 1
        decision = rules.after(event, FAILED, {"MaximumRetryAttempts": retries}, event.due)
        if isinstance(decision, rules.Ended):
            break
        event = decision.event
    assert tries == retries + 1 == decision.attempts


def test_reserved_concurrency_of_zero_fails_without_a_try() -> None:
    assert rules.before(EVENT, {}, 0, 1000.0) == rules.Ended("ZeroReservedConcurrency", None, 0)
    assert rules.before(EVENT, {}, 1, 1000.0) is None


def test_an_event_that_is_too_old_is_not_tried() -> None:
    config = {"MaximumEventAgeInSeconds": 60}
    assert rules.before(EVENT, config, None, 1060.0) is None
    assert rules.before(EVENT, config, None, 1060.1) == rules.Ended("EventAgeExceeded", None, 0)


@given(st.integers(60, 21_600), st.floats(0, 5))
def test_throttles_back_off_to_five_minutes_until_the_event_is_too_old(age: int, latency: float) -> None:
    event, waits, now = EVENT, [], EVENT.accepted
    while isinstance(decision := rules.after(event, REFUSED, {"MaximumEventAgeInSeconds": age}, now), rules.Retry):
        waits.append(decision.event.due - now)
        event, now = decision.event, decision.event.due + latency
    assert decision.condition == "EventAgeExceeded"
    assert waits[0] == 1.0
    assert all(a <= b + 1e-6 and b <= 300.0 + 1e-6 for a, b in itertools.pairwise(waits))
    assert now - EVENT.accepted <= age + latency + 1e-6


def test_lineage_survives_the_trace_header() -> None:
    trace = write_lineage("Root=1-a;Sampled=0", {"arn": 2, "other": 1})
    assert read_lineage(trace) == {"arn": 2, "other": 1}
    assert write_lineage(trace, {}) == "Root=1-a;Sampled=0"


@given(st.text(max_size=200))
def test_any_trace_header_is_read(text: str) -> None:
    assert all(count >= 0 for count in read_lineage(text).values())


def test_record_of_exhausted_retries() -> None:
    found = record(EVENT, rules.Ended("RetriesExhausted", FAILED, 3), 0.0)
    assert found == {
        "version": "1.0",
        "timestamp": "1970-01-01T00:00:00.000Z",
        "requestContext": {
            "requestId": "id-1",
            "functionArn": "arn:aws:lambda:eu-west-1:000000000000:function:orders:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": {"a": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "no", "errorType": "E"},
    }


def test_a_record_without_an_attempt_has_no_response() -> None:
    found = record(EVENT, rules.Ended("EventAgeExceeded", None, 0), 0.0)
    assert "responseContext" not in found and "responsePayload" not in found


def test_what_an_end_sends() -> None:
    config = {"DestinationConfig": {"OnSuccess": {"Destination": "arn:s"}, "OnFailure": {"Destination": "arn:f"}}}
    good = deliveries(EVENT, rules.Ended("Success", Result(b"1"), 1), config, "arn:dlq", 0.0)
    assert [(d.arn, d.kind) for d in good] == [("arn:s", "record")]
    bad = deliveries(EVENT, rules.Ended("RetriesExhausted", FAILED, 3), config, "arn:dlq", 0.0)
    assert [(d.arn, d.kind) for d in bad] == [("arn:f", "record"), ("arn:dlq", "event")]
    assert bad[1].message == '{"a":1}'
    assert bad[1].attributes == {"RequestID": "id-1", "ErrorCode": "200", "ErrorMessage": "no"}


def test_object_key_in_a_bucket() -> None:
    assert object_key(EVENT, "u", 0.0) == "aws/lambda/async/orders/1970/01/01/1970-01-01T00.00.00-u"


class Scripted:
    """`Functions` that answer as told."""

    def __init__(self, plan: Plan, *results: Result) -> None:
        self.answer = plan
        self.results = list(results)
        self.tried: list[str] = []
        self.sent: list[Delivery] = []
        self.refuse_sending = 0

    async def plan(self, event: QueuedEvent) -> Plan:
        return self.answer

    async def attempt(self, event: QueuedEvent) -> Result:
        self.tried.append(event.id)
        return self.results.pop(0) if self.results else Result(b"null")

    async def send(self, event: QueuedEvent, delivery: Delivery) -> None:
        if self.refuse_sending:
            self.refuse_sending -= 1
            raise OSError("not now")
        self.sent.append(delivery)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def drained(queue: Queue) -> None:
    async with asyncio.timeout(30):
        while await queue.count():
            await asyncio.sleep(0.005)


def run(functions: Scripted, events: list[QueuedEvent], clock: Clock) -> None:
    async def work() -> None:
        queue = Queue(MemoryQueue(), functions, functions.send, clock)
        await queue.start()
        for event in events:
            await queue.accept(event)
        await drained(queue)
        await queue.close()

    asyncio.run(work())


def fresh(clock: Clock, identity: str = "id-1") -> QueuedEvent:
    return replace(EVENT, id=identity, accepted=clock.now(), due=clock.now())


def test_an_accelerated_clock_brings_the_retries_forward() -> None:
    clock = Clock()
    clock.accelerate(5000)
    plan = Plan({"DestinationConfig": {"OnFailure": {"Destination": "arn:f"}}})
    functions = Scripted(plan, FAILED, FAILED, FAILED)
    run(functions, [fresh(clock)], clock)
    assert functions.tried == ["id-1"] * 3
    assert [json.loads(d.message)["requestContext"]["condition"] for d in functions.sent] == ["RetriesExhausted"]


def test_a_stepped_clock_wakes_the_queue() -> None:
    async def work() -> None:
        clock = Clock()
        functions = Scripted(Plan({}), FAILED)
        queue = Queue(MemoryQueue(), functions, functions.send, clock)
        await queue.start()
        await queue.accept(fresh(clock))
        await until(lambda: len(functions.tried) == 1)
        await asyncio.sleep(0.05)
        assert len(functions.tried) == 1
        clock.step(61)
        await drained(queue)
        assert len(functions.tried) == 2
        await queue.close()

    asyncio.run(work())


def test_a_destination_that_refuses_is_tried_again_and_the_function_is_not() -> None:
    clock = Clock()
    clock.accelerate(5000)
    functions = Scripted(Plan({"DestinationConfig": {"OnSuccess": {"Destination": "arn:s"}}}))
    functions.refuse_sending = 3
    run(functions, [fresh(clock)], clock)
    assert (len(functions.tried), len(functions.sent)) == (1, 1)


def test_a_loop_ends_in_the_dead_letter_queue() -> None:
    clock = Clock()
    functions = Scripted(Plan({}, dead_letters="arn:dlq"))
    arn = SCOPE.function_arn("orders")
    run(functions, [replace(fresh(clock), lineage={short_name(arn): MOST_IN_CHAIN})], clock)
    assert functions.tried == []
    assert functions.sent[0].attributes["ErrorMessage"] == "RecursiveInvocationException"


def test_many_events_are_drained_once_each() -> None:
    clock = Clock()
    functions = Scripted(Plan({}))
    run(functions, [fresh(clock, f"id-{number}") for number in range(500)], clock)
    assert sorted(functions.tried) == sorted(f"id-{number}" for number in range(500))


def test_spans_go_by_the_clock_too() -> None:
    clock = Clock()
    begun = clock.running()
    clock.step(3600)
    assert 3600 <= clock.running() - begun < 3660
    clock.accelerate(1_000_000)
    ran = clock.running()
    while clock.running() - ran < 1000:
        pass  # a millisecond
    clock.accelerate(1)
    assert clock.running() >= ran + 1000


def test_a_clock_goes_forward_only() -> None:
    clock = Clock()
    for action, value in ((clock.step, -1.0), (clock.accelerate, 0.5)):
        with pytest.raises(ValueError):
            action(value)
