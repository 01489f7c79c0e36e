"""One suite for every store of the queue: what is put comes back, in order, and is gone when removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lading.errors import StoreError
from lading.service.control.names import Scope
from lading.service.queue.event import Delivery, QueuedEvent
from lading.service.queue.store import DurableQueue, MemoryQueue, QueueStore

SCOPE = Scope("000000000000", "eu-west-1")


def make(identity: str, due: float = 0.0, name: str = "f", **values: object) -> QueuedEvent:
    return replace(QueuedEvent(identity, SCOPE, name, None, b"{}", due, due), **values)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "durable"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueStore]:
    made: QueueStore = MemoryQueue() if request.param == "memory" else DurableQueue(tmp_path / "queue.sqlite")
    yield made
    made.close()


def test_an_event_comes_back_whole(store: QueueStore) -> None:
    delivery = Delivery("arn", "event", "text", {"ErrorCode": "200"})
    event = make("a", event=b"\x00\xff", qualifier="live", lineage={"x": 3}, deliveries=(delivery,), attempts=2)
    store.change([event])
    assert list(store.due(event.lane, 1.0, 10)) == [event]


def test_due_ones_in_order_without_those_in_work(store: QueueStore) -> None:
    events = [make("a", 3.0), make("b", 1.0), make("c", 2.0), make("d", 9.0)]
    store.change(events)
    lane = events[0].lane
    assert [e.id for e in store.due(lane, 5.0, 10)] == ["b", "c", "a"]
    assert [e.id for e in store.due(lane, 5.0, 1, without={"b"})] == ["c"]
    assert store.next_due(lane, {"b", "c", "a"}) == 9.0
    assert store.next_due(lane, {"b", "c", "a", "d"}) is None


def test_lanes_are_functions(store: QueueStore) -> None:
    store.change([make("a", 3.0), make("b", 1.0), make("c", 2.0, "g")])
    assert store.lanes() == {make("a").lane: 1.0, make("c", name="g").lane: 2.0}


def test_changed_and_removed_together(store: QueueStore) -> None:
    store.change([make("a"), make("b")])
    store.change([make("a", 7.0)], ["b", "never there"])
    assert store.count() == 1
    assert store.next_due(make("a").lane, ()) == 7.0


def test_empty(store: QueueStore) -> None:
    assert (store.count(), store.lanes(), list(store.due("x", 1.0, 5))) == (0, {}, [])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.booleans(), st.integers(0, 20), st.sampled_from("fg")), max_size=30
    )
)
def test_both_stores_agree(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bool, int, str]]) -> None:
    stores: list[QueueStore] = [MemoryQueue(), DurableQueue(tmp_path_factory.mktemp("q") / "queue.sqlite")]
    for identity, put, due, name in steps:
        for store in stores:
            store.change([make(identity, float(due), name)] if put else [], [] if put else [identity])
    twin, real = stores
    assert twin.count() == real.count() and twin.lanes() == real.lanes()
    for lane in twin.lanes():
        assert list(twin.due(lane, 10.0, 3)) == list(real.due(lane, 10.0, 3))
    real.close()


def test_what_is_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    first = DurableQueue(tmp_path / "queue.sqlite")
    first.change([make("a")])
    second = DurableQueue(tmp_path / "queue.sqlite")  # the first was never closed: as after a kill
    assert second.count() == 1
    second.close()
    first.close()


def test_a_file_that_is_no_queue_is_refused(tmp_path: Path) -> None:
    (tmp_path / "queue.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError):
        DurableQueue(tmp_path / "queue.sqlite")
