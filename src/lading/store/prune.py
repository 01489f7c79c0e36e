"""How big the cache is, and making it smaller: least recently used first, never what was used in the last hour.

An action's value may name a pruned blob; readers treat a missing blob as an action not yet done.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from lading.store.folder import Store, remove_tree

KEEP_SECONDS = 3600
"""What was used within this time may belong to a build that is running now."""


@dataclass(frozen=True)
class Usage:
    """Counts and bytes of what the cache holds, or of what was removed from it."""

    root: Path
    blobs: int
    blob_bytes: int
    actions: int
    action_bytes: int
    leftovers: int

    @property
    def total_bytes(self) -> int:
        return self.blob_bytes + self.action_bytes


def measure(store: Store) -> Usage:
    """Walk the store and add it up."""
    blobs = [stat.st_size for _, stat in store.blobs.list()]
    actions = [stat.st_size for _, stat in store.actions.list()]
    return Usage(store.root, len(blobs), sum(blobs), len(actions), sum(actions), sum(1 for _ in store.leftovers()))


def prune(store: Store, *, older_than: float, keep_bytes: int | None = None, now: float | None = None) -> Usage:
    """Remove entries unused for `older_than` seconds, then the least recently used until at most `keep_bytes` remain."""
    now = time.time() if now is None else now
    leftovers = list(store.leftovers())
    for path in leftovers:
        remove_tree(path)
    blobs = sorted(store.blobs.list(), key=lambda entry: entry[1].st_mtime)
    remaining = sum(stat.st_size for _, stat in blobs)
    removed: list[int] = []
    for digest, stat in blobs:
        age = now - stat.st_mtime
        too_much = keep_bytes is not None and remaining > keep_bytes
        if age < KEEP_SECONDS or not (age > older_than or too_much):
            continue
        store.blobs.delete(digest)
        remaining -= stat.st_size
        removed.append(stat.st_size)
    actions = _prune_actions(store, older_than=max(older_than, KEEP_SECONDS), now=now)
    return Usage(store.root, len(removed), sum(removed), len(actions), sum(actions), len(leftovers))


def _prune_actions(store: Store, *, older_than: float, now: float) -> list[int]:
    removed: list[int] = []
    for path, stat in store.actions.list():
        if now - stat.st_mtime > older_than:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                removed.append(stat.st_size)
    return removed
