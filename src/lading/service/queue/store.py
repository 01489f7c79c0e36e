"""Where the queue's events are: one interface, a durable store and its twin in memory. Knows no rules."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from lading.errors import StoreError
from lading.service.control.names import Scope
from lading.service.queue.event import Delivery, QueuedEvent

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, lane TEXT NOT NULL, due REAL NOT NULL, document TEXT NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_in_order ON events (lane, due);
"""
_LANES = """
WITH RECURSIVE found(lane) AS (
    SELECT min(lane) FROM events
    UNION ALL SELECT (SELECT min(lane) FROM events WHERE lane > found.lane) FROM found WHERE found.lane IS NOT NULL
)
SELECT lane, (SELECT min(due) FROM events WHERE events.lane = found.lane) FROM found WHERE lane IS NOT NULL
"""
_PUT = """
INSERT INTO events (id, lane, due, document, body) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET lane = excluded.lane, due = excluded.due, document = excluded.document
"""
_VERSION = 1


class QueueStore(Protocol):
    """Events by id. Methods block for a statement; call them from one thread at a time."""

    def change(self, put: Iterable[QueuedEvent], removed: Iterable[str] = ()) -> None:
        """All or nothing: keep (or replace) events, and remove others. Returns when they are as safe as they will be."""
        ...

    def due(self, lane: str, now: float, limit: int, *, without: Collection[str] = ()) -> Sequence[QueuedEvent]:
        """Events of a lane whose time has come, the longest due first, those of some ids left out."""
        ...

    def lanes(self) -> dict[str, float]:
        """Lane → when its next event is due, those in work included."""
        ...

    def next_due(self, lane: str, without: Collection[str]) -> float | None: ...

    def count(self) -> int: ...

    def close(self) -> None: ...


class MemoryQueue:
    """Keeps events while the process lives."""

    def __init__(self) -> None:
        self._events: dict[str, QueuedEvent] = {}

    def change(self, put: Iterable[QueuedEvent], removed: Iterable[str] = ()) -> None:
        self._events.update((event.id, event) for event in put)
        for identity in removed:
            self._events.pop(identity, None)

    def due(self, lane: str, now: float, limit: int, *, without: Collection[str] = ()) -> Sequence[QueuedEvent]:
        ready = [e for e in self._events.values() if e.lane == lane and e.due <= now and e.id not in without]
        return sorted(ready, key=lambda event: (event.due, event.id))[:limit]

    def lanes(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for event in self._events.values():
            found[event.lane] = min(event.due, found.get(event.lane, event.due))
        return found

    def next_due(self, lane: str, without: Collection[str]) -> float | None:
        return min((e.due for e in self._events.values() if e.lane == lane and e.id not in without), default=None)

    def count(self) -> int:
        return len(self._events)

    def close(self) -> None:
        """Nothing to let go of."""


class DurableQueue:
    """In a SQLite file of its own, so that a flood of events never holds the control plane's writes up. WAL with
    synchronous=NORMAL: what is committed survives the death of the process."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
            for setting in ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 5000"):
                self._database.execute(f"PRAGMA {setting}")
            have = self._database.execute("PRAGMA user_version").fetchone()[0]
            if have > _VERSION:
                raise StoreError(f"the queue in {file} was made by a newer lading", hint="upgrade lading")
            self._database.executescript(f"{_SCHEMA} PRAGMA user_version = {_VERSION};")
        except sqlite3.Error as error:
            raise StoreError(
                f"the queue in {file} can't be read: {error}", hint="move it away and start again"
            ) from error

    def change(self, put: Iterable[QueuedEvent], removed: Iterable[str] = ()) -> None:
        rows = [(event.id, event.lane, event.due, _encode(event), event.event) for event in put]
        gone = [(identity,) for identity in removed]
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(_PUT, rows)
                self._database.executemany("DELETE FROM events WHERE id = ?", gone)
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def due(self, lane: str, now: float, limit: int, *, without: Collection[str] = ()) -> Sequence[QueuedEvent]:
        query = "SELECT id FROM events WHERE lane = ? AND due <= ? ORDER BY due, id LIMIT ?"
        ids = [row[0] for row in self._all(query, (lane, now, limit + len(without))) if row[0] not in without]
        return [_decode(*self._all("SELECT document, body FROM events WHERE id = ?", (one,))[0]) for one in ids[:limit]]

    def lanes(self) -> dict[str, float]:
        return dict(self._all(_LANES, ()))

    def next_due(self, lane: str, without: Collection[str]) -> float | None:
        query = "SELECT id, due FROM events WHERE lane = ? ORDER BY due, id LIMIT ?"
        rows = self._all(query, (lane, len(without) + 1))
        return next((due for identity, due in rows if identity not in without), None)

    def count(self) -> int:
        return int(self._all("SELECT count(*) FROM events", ())[0][0])

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _all(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._lock:
            return self._database.execute(query, values).fetchall()


def _encode(event: QueuedEvent) -> str:
    document = {name: value for name, value in asdict(event).items() if name != "event"}
    return json.dumps(document, separators=(",", ":"))


def _decode(document: str, body: bytes) -> QueuedEvent:
    found = json.loads(document)
    scope = Scope(**found.pop("scope"))
    sending = tuple(Delivery(**delivery) for delivery in found.pop("deliveries"))
    return QueuedEvent(**found, scope=scope, deliveries=sending, event=body)
