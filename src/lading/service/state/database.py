"""The database: opened, migrated, and asked by named queries (queries.sql). One connection, one thread at a time.

Durable against a kill at any moment: WAL with synchronous=NORMAL loses no committed transaction when the process dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Any

from lading.errors import StoreError

Document = dict[str, Any]
FIRST, LAST = -1, 2**62
"""Positions before and after every record's."""


class StateError(StoreError):
    """The state can't be opened or is used by another service."""


@dataclass(frozen=True)
class Key:
    """Where a record is: whose it is, what it is, what it belongs to, and its name."""

    account: str
    region: str
    kind: str
    parent: str = ""
    name: str = ""


@dataclass(frozen=True)
class Record:
    """A record as a list gives it."""

    key: Key
    position: int
    document: Document


class State:
    """Records by key. Every method is one statement; group them with `transaction`, which excludes other threads."""

    def __init__(self, connection: sqlite3.Connection, lock_file: IO[bytes]) -> None:
        self._connection = connection
        self._lock_file = lock_file
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; what is read inside stays true until the end. Nested ones join the outer."""
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def get(self, key: Key) -> Document | None:
        rows = self._run("get", vars(key))
        return json.loads(rows[0][0]) if rows else None

    def put(self, key: Key, document: Document, *, position: int = 0) -> None:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        self._run("put", {**vars(key), "position": position, "document": text})

    def delete(self, key: Key) -> None:
        self._run("delete", vars(key))

    def delete_children(self, key: Key) -> None:
        """Remove every record of the key's kind and parent."""
        self._run("delete_children", vars(key))

    def list_by_name(self, key: Key, *, after: str = "", limit: int = LAST) -> list[Record]:
        """Records of the key's kind and parent whose name is greater than `after`."""
        rows = self._run("list_by_name", {**vars(key), "after": after, "limit": limit})
        return [_record(key, *row) for row in rows]

    def list_by_position(self, key: Key, *, after: int = FIRST, limit: int = LAST) -> list[Record]:
        rows = self._run("list_by_position", {**vars(key), "after": after, "limit": limit})
        return [_record(key, *row) for row in rows]

    def list_newest(self, key: Key, *, before: int = LAST, limit: int = LAST) -> list[Record]:
        rows = self._run("list_by_position_descending", {**vars(key), "after": before, "limit": limit})
        return [_record(key, *row) for row in rows]

    def list_kind(self, key: Key, *, after: int = FIRST, limit: int = LAST) -> list[Record]:
        """Records of the key's kind of every parent, after (key.parent, after), by parent and position."""
        rows = self._run("list_kind", {**vars(key), "after": after, "limit": limit})
        return [_record(Key(key.account, key.region, key.kind, parent), *rest) for parent, *rest in rows]

    def count(self, key: Key) -> int:
        return int(self._run("count_kind", vars(key))[0][0])

    def sum(self, key: Key, path: str) -> int:
        """The sum of a number at a JSON path ("$.CodeSize") over the key's kind."""
        return int(self._run("sum_kind", {**vars(key), "path": path})[0][0])

    def find_everywhere(self, kind: str, path: str, value: str) -> list[Record]:
        rows = self._run("find_everywhere", {"kind": kind, "path": path, "value": value})
        return [_anywhere(kind, *row) for row in rows]

    def find_named(self, kind: str, account: str, name: str) -> list[Record]:
        """In every region, below any parent."""
        rows = self._run("find_named", {"kind": kind, "account": account, "name": name})
        return [_anywhere(kind, *row) for row in rows]

    def list_everywhere(self, kind: str) -> list[Record]:
        return [_anywhere(kind, *row) for row in self._run("list_everywhere", {"kind": kind})]

    def keys_of(self, kind: str) -> list[Key]:
        """The keys of a kind, of all accounts and regions."""
        return [
            Key(account, region, kind, parent, name)
            for account, region, parent, name in self._run("keys", {"kind": kind})
        ]

    def documents(self, kind: str) -> Iterator[Document]:
        """Every document of a kind, of all accounts and regions."""
        for (text,) in self._run("documents", {"kind": kind}):
            yield json.loads(text)

    def secret(self, name: str) -> bytes:
        """32 random bytes, made once per state and kept."""
        self._run("put_setting", {"name": name, "value": secrets.token_bytes(32)})
        return bytes(self._run("get_setting", {"name": name})[0][0])

    def close(self) -> None:
        with self._lock:
            self._connection.close()
            self._lock_file.close()

    def _run(self, query: str, parameters: dict[str, Any]) -> list[Any]:
        with self._lock:
            return self._connection.execute(queries()[query], parameters).fetchall()


def _record(key: Key, name: str, position: int, document: str) -> Record:
    return Record(Key(key.account, key.region, key.kind, key.parent, name), position, json.loads(document))


def _anywhere(kind: str, account: str, region: str, parent: str, name: str, document: str) -> Record:
    return Record(Key(account, region, kind, parent, name), 0, json.loads(document))


@functools.cache
def queries() -> dict[str, str]:
    """Name → statement, from queries.sql."""
    parts = re.split(r"^-- name: (\w+)\n", _text("queries.sql"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def migrations() -> list[str]:
    """The schema's steps in their order."""
    return re.findall(r"^-- step: \d+\n(.*?)^-- end", _text("migrations.sql"), flags=re.MULTILINE | re.DOTALL)


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def open_state(folder: Path) -> State:
    """The state in a folder, made or migrated. Raises StateError when another service has it or it can't be opened."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock_file = (folder / "lock").open("wb")
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock_file.close()
        raise StateError(
            f"another service uses the state in {folder}", hint="stop it, or choose another folder: --state DIR"
        ) from None
    except OSError as error:
        raise StateError(
            f"can't use {folder} for the state: {error.strerror}", hint="choose another: --state DIR"
        ) from error
    try:
        connection = sqlite3.connect(folder / "state.sqlite", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "busy_timeout = 5000"):
            connection.execute(f"PRAGMA {setting}")
        _migrate(connection, folder)
    except sqlite3.Error as error:
        lock_file.close()
        raise StateError(
            f"the state in {folder} can't be read: {error}", hint="move it away, or choose another folder: --state DIR"
        ) from error
    return State(connection, lock_file)


def _migrate(connection: sqlite3.Connection, folder: Path) -> None:
    steps = migrations()
    have = connection.execute("PRAGMA user_version").fetchone()[0]
    if have > len(steps):
        raise StateError(
            f"the state in {folder} was made by a newer lading (schema {have}, this one knows {len(steps)})",
            hint="upgrade lading, or choose another folder: --state DIR",
        )
    for number, step in enumerate(steps[have:], have + 1):
        connection.executescript(f"BEGIN IMMEDIATE;\n{step}\nPRAGMA user_version = {number};\nCOMMIT;")
