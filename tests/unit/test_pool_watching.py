"""What a change asks for: a reload, a build, or only the event read anew."""

from __future__ import annotations

from lading.service.pool.watching import Change, Look, compare

BEFORE = Look(own={"/p/a.py": 1, "/p/b.py": 1}, inputs={"/p/requirements.txt": 1}, events={"/p/event.json": 1})


def test_nothing_is_no_change() -> None:
    assert not compare(BEFORE, BEFORE)


def test_files_that_come_go_and_change() -> None:
    now = Look(own={"/p/a.py": 2, "/p/c.py": 1}, inputs=BEFORE.inputs, events=BEFORE.events)
    assert compare(BEFORE, now) == Change(own=("/p/a.py", "/p/b.py", "/p/c.py"))


def test_requirements_among_the_code_ask_for_a_build() -> None:
    before = Look(own={"/p/requirements.txt": 1, "/p/a.py": 1}, inputs={"/p/requirements.txt": 1})
    now = Look(own={"/p/requirements.txt": 2, "/p/a.py": 2}, inputs={"/p/requirements.txt": 2})
    change = compare(before, now)
    assert change == Change(own=("/p/a.py",), inputs=("/p/requirements.txt",))
    assert change.names == ("/p/requirements.txt", "/p/a.py")


def test_an_event_is_only_read() -> None:
    now = Look(own=BEFORE.own, inputs=BEFORE.inputs, events={})
    assert compare(BEFORE, now) == Change(events=("/p/event.json",))
