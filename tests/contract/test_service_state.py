"""The service's database: records, order, transactions, migration, and its refusals."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from lading.service.state import Key, State, open_state
from lading.service.state.database import StateError, migrations, queries


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = open_state(tmp_path)
    yield opened
    opened.close()


def key(name: str = "", parent: str = "f", kind: str = "version") -> Key:
    return Key("1", "r", kind, parent, name)


def test_put_get_delete(state: State) -> None:
    assert state.get(key("a")) is None
    state.put(key("a"), {"x": 1})
    state.put(key("a"), {"x": "é"})
    assert state.get(key("a")) == {"x": "é"}
    state.delete(key("a"))
    state.delete(key("a"))
    assert state.get(key("a")) is None


def test_lists_in_order_and_pages(state: State) -> None:
    for number in (10, 2, 1, 33):
        state.put(key(str(number)), {"n": number}, position=number)
    assert [record.key.name for record in state.list_by_name(key())] == ["1", "10", "2", "33"]
    assert [record.position for record in state.list_by_position(key(), after=1, limit=2)] == [2, 10]
    assert [record.position for record in state.list_newest(key(), before=33, limit=2)] == [10, 2]
    state.put(key("1", parent="g"), {"n": 5}, position=1)
    every = state.list_kind(key(parent=""), limit=99)
    assert [(record.key.parent, record.position) for record in every] == [
        ("f", 1),
        ("f", 2),
        ("f", 10),
        ("f", 33),
        ("g", 1),
    ]
    after = state.list_kind(key(parent="f"), after=33)
    assert [(record.key.parent, record.key.name) for record in after] == [("g", "1")]
    assert (state.count(key()), state.sum(key(), "$.n")) == (5, 51)
    state.delete_children(key())
    assert state.count(key()) == 1
    state.put(key("1", parent="g"), {"State": "Pending"})
    assert [found.key for found in state.find_everywhere("version", "$.State", "Pending")] == [key("1", parent="g")]
    assert state.find_everywhere("alias", "$.State", "Pending") == []


def test_a_failed_transaction_leaves_nothing(state: State) -> None:
    with pytest.raises(RuntimeError), state.transaction():
        state.put(key("a"), {})
        with state.transaction():
            state.put(key("b"), {})
        raise RuntimeError
    assert state.count(key()) == 0


def test_it_comes_back(tmp_path: Path) -> None:
    first = open_state(tmp_path)
    first.put(key("a"), {"x": 1})
    secret = first.secret("s")
    first.close()
    again = open_state(tmp_path)
    assert again.get(key("a")) == {"x": 1}
    assert again.secret("s") == secret != again.secret("t")
    again.close()


def test_one_service_at_a_time(state: State, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="another service uses the state"):
        open_state(tmp_path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    open_state(tmp_path).close()
    with sqlite3.connect(tmp_path / "state.sqlite") as connection:
        connection.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
    connection.close()
    for _ in range(2):
        with pytest.raises(StateError, match="made by a newer lading"):
            open_state(tmp_path)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StateError, match="can't be read"):
        open_state(tmp_path)


def test_a_folder_that_can_t_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="can't use"):
        open_state(tmp_path / "file")


def test_every_query_has_a_description_and_is_used() -> None:
    source = (Path(__file__).parents[2] / "src/lading/service/state/database.py").read_text()
    text = (Path(__file__).parents[2] / "src/lading/service/state/queries.sql").read_text()
    for name, statement in queries().items():
        assert statement.startswith("-- "), name
        assert f'"{name}"' in source, name
    assert text.count("-- name: ") == len(queries())
