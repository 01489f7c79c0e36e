"""Log groups, streams and events in SQLite. Blocks; one statement or transaction per method; safe between threads.

Times are milliseconds since the epoch, as in the API. WAL with synchronous=NORMAL: what was written survives a kill.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lading.errors import StoreError
from lading.model.value import value
from lading.service.control.names import Scope

_VERSION = 1
_SETTINGS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "foreign_keys = ON",
    "busy_timeout = 5000",
    "temp_store = MEMORY",
)
"""The last one because a statement of many rows has a journal of its own, which would be a file made for each."""
_ROWS = 64
"""Of events that are written by one statement."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS log_groups (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL,
    created INTEGER NOT NULL, retention INTEGER, bytes INTEGER NOT NULL DEFAULT 0, UNIQUE (account, region, name)
);
CREATE TABLE IF NOT EXISTS log_group_tags (
    group_id INTEGER NOT NULL REFERENCES log_groups ON DELETE CASCADE, key TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (group_id, key)
);
CREATE TABLE IF NOT EXISTS log_streams (
    id INTEGER PRIMARY KEY, group_id INTEGER NOT NULL REFERENCES log_groups ON DELETE CASCADE, name TEXT NOT NULL,
    created INTEGER NOT NULL, first INTEGER, last INTEGER, ingested INTEGER, UNIQUE (group_id, name)
);
CREATE TABLE IF NOT EXISTS log_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL, stream_id INTEGER NOT NULL
        REFERENCES log_streams ON DELETE CASCADE, time INTEGER NOT NULL, ingested INTEGER NOT NULL, message TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS log_subscriptions (
    group_id INTEGER NOT NULL REFERENCES log_groups ON DELETE CASCADE, name TEXT NOT NULL, pattern TEXT NOT NULL,
    destination TEXT NOT NULL, distribution TEXT NOT NULL, created INTEGER NOT NULL, PRIMARY KEY (group_id, name)
);
CREATE INDEX IF NOT EXISTS log_events_of_group ON log_events (group_id, time, id);
CREATE INDEX IF NOT EXISTS log_events_of_stream ON log_events (stream_id, time, id);
"""


@value
class Entry:
    """An event to be kept: its group's owner and name, its stream, when, and what."""

    scope: Scope
    group: str
    stream: str
    time: int
    message: str


Follower = Callable[[Sequence[Entry], int], None]


@dataclass(frozen=True)
class Span:
    """Which events: from a time on, before another, after a place (time, id), and of which streams (() for all)."""

    start: int = 0
    end: int = 2**62
    after: tuple[int, int] = (-1, -1)
    streams: tuple[int, ...] = ()


class LogStore:
    """Open it once per file; close it."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.RLock()
        self._ids: dict[tuple[Scope, str, str], tuple[int, int]] = {}
        """(owner, group, stream) → (group id, stream id), as far as known."""
        self._followers: list[Follower] = []
        try:
            self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
            for setting in _SETTINGS:
                self._database.execute(f"PRAGMA {setting}")
            if self._database.execute("PRAGMA user_version").fetchone()[0] > _VERSION:
                raise StoreError(f"the logs in {file} were written by a newer lading", hint="upgrade lading")
            self._database.executescript(f"{_SCHEMA} PRAGMA user_version = {_VERSION};")
        except sqlite3.Error as error:
            raise StoreError(f"the logs in {file} can't be read: {error}", hint="move the file away") from error
        self._database.row_factory = sqlite3.Row

    def close(self) -> None:
        with self._lock:
            self._database.close()

    # Groups and streams

    def group(self, scope: Scope, name: str) -> sqlite3.Row | None:
        query = "SELECT * FROM log_groups WHERE account = ? AND region = ? AND name = ?"
        return next(iter(self._all(query, (scope.account, scope.region, name))), None)

    def groups(self, scope: Scope, *, prefix: str = "", after: str = "", limit: int = 50) -> list[sqlite3.Row]:
        """By name."""
        query = (
            "SELECT * FROM log_groups WHERE account = ? AND region = ? AND name > ? AND substr(name, 1, ?) = ? "
            "ORDER BY name LIMIT ?"
        )
        return self._all(query, (scope.account, scope.region, after, len(prefix), prefix, limit))

    def add_group(self, scope: Scope, name: str, now: int) -> bool:
        """False when there was one already."""
        query = "INSERT OR IGNORE INTO log_groups (account, region, name, created) VALUES (?, ?, ?, ?)"
        return self._run(query, (scope.account, scope.region, name, now)) > 0

    def delete_group(self, scope: Scope, name: str) -> bool:
        query = "DELETE FROM log_groups WHERE account = ? AND region = ? AND name = ?"
        with self._lock:
            self._ids.clear()
            return self._run(query, (scope.account, scope.region, name)) > 0

    def tags(self, group: int) -> dict[str, str]:
        with self._lock:
            rows = self._database.execute(
                "SELECT key, value FROM log_group_tags WHERE group_id = ? ORDER BY key", (group,)
            )
            return {row["key"]: row["value"] for row in rows}

    def tagged(self, scope: Scope) -> dict[str, dict[str, str]]:
        """Groups that have tags, and these."""
        query = (
            "SELECT name, key, value FROM log_groups JOIN log_group_tags ON log_group_tags.group_id = log_groups.id "
            "WHERE account = ? AND region = ? ORDER BY name, key"
        )
        found: dict[str, dict[str, str]] = {}
        for row in self._all(query, (scope.account, scope.region)):
            found.setdefault(row["name"], {})[row["key"]] = row["value"]
        return found

    def set_tags(self, group: int, tags: Mapping[str, str]) -> None:
        rows = [(group, key, value) for key, value in tags.items()]
        with self._lock:
            self._database.executemany("INSERT OR REPLACE INTO log_group_tags VALUES (?, ?, ?)", rows)

    def remove_tags(self, group: int, keys: Iterable[str]) -> None:
        rows = [(group, key) for key in keys]
        with self._lock:
            self._database.executemany("DELETE FROM log_group_tags WHERE group_id = ? AND key = ?", rows)

    def set_retention(self, scope: Scope, name: str, days: int | None) -> bool:
        query = "UPDATE log_groups SET retention = ? WHERE account = ? AND region = ? AND name = ?"
        return self._run(query, (days, scope.account, scope.region, name)) > 0

    def streams(self, group: int, *, prefix: str = "") -> list[sqlite3.Row]:
        query = "SELECT * FROM log_streams WHERE group_id = ? AND substr(name, 1, ?) = ? ORDER BY name"
        return self._all(query, (group, len(prefix), prefix))

    def add_stream(self, group: int, name: str, now: int) -> bool:
        query = "INSERT OR IGNORE INTO log_streams (group_id, name, created) VALUES (?, ?, ?)"
        return self._run(query, (group, name, now)) > 0

    def delete_stream(self, group: int, name: str) -> bool:
        with self._lock:
            self._ids.clear()
            return self._run("DELETE FROM log_streams WHERE group_id = ? AND name = ?", (group, name)) > 0

    # Subscriptions

    def put_subscription(self, group: int, name: str, settings: tuple[str, str, str], now: int) -> None:
        """settings: pattern, destination, distribution. One that is there keeps the time it was made at."""
        query = (
            "INSERT INTO log_subscriptions VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (group_id, name) DO UPDATE SET "
            "pattern = excluded.pattern, destination = excluded.destination, distribution = excluded.distribution"
        )
        self._run(query, (group, name, *settings, now))

    def delete_subscription(self, group: int, name: str) -> bool:
        return self._run("DELETE FROM log_subscriptions WHERE group_id = ? AND name = ?", (group, name)) > 0

    def subscriptions(self, group: int) -> list[sqlite3.Row]:
        """By name."""
        return self._all("SELECT * FROM log_subscriptions WHERE group_id = ? ORDER BY name", (group,))

    def all_subscriptions(self) -> list[sqlite3.Row]:
        """With their group's owner and name."""
        query = (
            "SELECT s.*, g.account, g.region, g.name AS group_name FROM log_subscriptions s "
            "JOIN log_groups g ON g.id = s.group_id ORDER BY s.name"
        )
        return self._all(query, ())

    # Events

    def follow(self, follower: Follower) -> Callable[[], None]:
        """Call `follower` with what is appended from now on, and when, from the appending thread; returns what ends it."""
        self._followers.append(follower)
        return lambda: self._followers.remove(follower)

    def append(self, entries: Sequence[Entry], now: int) -> None:
        """All in one transaction; groups and streams that aren't there are made."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._append(entries, now)
            except BaseException:
                self._database.execute("ROLLBACK")
                self._ids.clear()
                raise
            self._database.execute("COMMIT")
            for follower in list(self._followers):
                follower(entries, now)

    def _append(self, entries: Sequence[Entry], now: int) -> None:
        rows = []
        spans: dict[tuple[int, int], list[int]] = {}
        for entry in entries:
            ids = self._find(entry, now)
            rows.append((*ids, entry.time, now, entry.message))
            span = spans.setdefault(ids, [entry.time, entry.time, 0])
            span[0], span[1] = min(span[0], entry.time), max(span[1], entry.time)
            span[2] += len(entry.message) + 26
        for at in range(0, len(rows), _ROWS):  # of many rows in one statement: the interpreter is left, and taken, once
            some = rows[at : at + _ROWS]
            marks = ", ".join(["(?, ?, ?, ?, ?)"] * len(some))
            insert = f"INSERT INTO log_events (group_id, stream_id, time, ingested, message) VALUES {marks}"
            self._database.execute(insert, [value for row in some for value in row])
        for (group, stream), (first, last, size) in spans.items():
            self._database.execute(
                "UPDATE log_streams SET first = min(coalesce(first, ?), ?), last = max(coalesce(last, ?), ?), "
                "ingested = ? WHERE id = ?",
                (first, first, last, last, now, stream),
            )
            self._database.execute("UPDATE log_groups SET bytes = bytes + ? WHERE id = ?", (size, group))

    def _find(self, entry: Entry, now: int) -> tuple[int, int]:
        key = entry.scope, entry.group, entry.stream
        found = self._ids.get(key)
        if found is None:
            self.add_group(entry.scope, entry.group, now)
            row = self.group(entry.scope, entry.group)
            assert row is not None
            self.add_stream(row["id"], entry.stream, now)
            query = "SELECT id FROM log_streams WHERE group_id = ? AND name = ?"
            found = self._ids[key] = row["id"], self._all(query, (row["id"], entry.stream))[0]["id"]
        return found

    def events(self, group: int, span: Span, limit: int) -> list[sqlite3.Row]:
        """In order of time, then of arrival, with their stream's name."""
        marks = ",".join("?" * len(span.streams))
        chosen = f"AND e.stream_id IN ({marks})" if span.streams else ""
        query = (
            "SELECT e.id, e.time, e.ingested, e.message, s.name AS stream FROM log_events e "
            "JOIN log_streams s ON s.id = e.stream_id "
            f"WHERE e.group_id = ? AND e.time >= ? AND e.time < ? AND (e.time, e.id) > (?, ?) {chosen} "
            "ORDER BY e.time, e.id LIMIT ?"
        )
        return self._all(query, (group, span.start, span.end, *span.after, *span.streams, limit))

    def newest(self, stream: int, span: Span, limit: int) -> list[sqlite3.Row]:
        """The last events of a stream before a place (`span.after`), in order of time."""
        query = (
            "SELECT id, time, ingested, message FROM log_events WHERE stream_id = ? AND time >= ? AND time < ? "
            "AND (time, id) < (?, ?) ORDER BY time DESC, id DESC LIMIT ?"
        )
        return self._all(query, (stream, span.start, span.end, *span.after, limit))[::-1]

    def expire(self, now: int) -> None:
        """Remove what is older than its group's retention."""
        self._run(
            "DELETE FROM log_events WHERE id IN (SELECT e.id FROM log_events e JOIN log_groups g ON g.id = e.group_id "
            "WHERE g.retention IS NOT NULL AND e.time < ? - g.retention * 86400000)",
            (now,),
        )

    def _all(self, query: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        with self._lock:
            return self._database.execute(query, values).fetchall()

    def _run(self, query: str, values: Sequence[Any]) -> int:
        with self._lock:
            return self._database.execute(query, values).rowcount
