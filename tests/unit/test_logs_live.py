"""Live tail: which events a session takes, and what an update shows of many."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from lading.service.control.names import Scope
from lading.service.logs.live import Wanted, make_update
from lading.service.logs.store import Entry

HERE = Scope("0" * 12, "eu-west-1")
WANTED = Wanted(HERE, {"g": "arn:g"}, (), (), lambda text: "no" not in text)
ENTRY = Entry(HERE, "g", "2026/a", 7, "yes")


def test_what_a_session_takes() -> None:
    assert WANTED.takes(ENTRY)
    assert not WANTED.takes(replace(ENTRY, group="h"))
    assert not WANTED.takes(replace(ENTRY, scope=Scope("1" * 12, "eu-west-1")))
    assert not WANTED.takes(replace(ENTRY, message="no"))
    assert replace(WANTED, streams=("2026/a",)).takes(ENTRY)
    assert not replace(WANTED, streams=("2026",)).takes(ENTRY)
    assert replace(WANTED, prefixes=("2025", "2026")).takes(ENTRY)
    assert not replace(WANTED, prefixes=("2025",)).takes(ENTRY)


def test_an_update_shows_500_at_most_and_says_so() -> None:
    few = deque((replace(ENTRY, time=number), 9) for number in range(500))
    update = make_update(WANTED, few)
    assert [event["timestamp"] for event in update["sessionResults"]] == list(range(500))
    assert update["sessionMetadata"] == {"sampled": False} and not few
    many = deque((replace(ENTRY, time=number), 9) for number in range(1001))
    update = make_update(WANTED, many)
    assert update["sessionMetadata"] == {"sampled": True} and 300 < len(update["sessionResults"]) <= 500
    assert make_update(WANTED, many)["sessionResults"] == []
