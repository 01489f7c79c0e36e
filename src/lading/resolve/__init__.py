"""Requirements → Lock (pylock.toml) → verified wheels on disk. The only module that runs uv."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lading.resolve.inputs import inputs_digest
from lading.resolve.locking import lock
from lading.resolve.policy import LockPlace, Policy

if TYPE_CHECKING:
    from lading.model.blobs import Actions, Blobs
    from lading.model.lock import Lock, Wheel
    from lading.model.progress import Progress
    from lading.model.target import Target

__all__ = ["LockPlace", "Policy", "fetch", "fetch_each", "inputs_digest", "lock"]


def fetch(
    lock: Lock, target: Target, blobs: Blobs, actions: Actions, *, policy: Policy, progress: Progress
) -> tuple[Wheel, ...]:
    """Every wheel of the lock, verified, in `blobs`; what the lock gives as sdist, folder or commit is built first.

    Sorted by name. Raises DownloadError (index, digest, offline), BuildError (sdist, folder), StoreError (disk).
    """
    wheels = fetch_each(lock, target, blobs, actions, policy=policy, progress=progress)
    return tuple(sorted(wheels, key=lambda wheel: wheel.name))


def fetch_each(
    lock: Lock, target: Target, blobs: Blobs, actions: Actions, *, policy: Policy, progress: Progress
) -> Iterator[Wheel]:
    """As `fetch`, but one by one as they come, so that work on one can begin while others are on their way."""
    from lading.resolve.fetching import fetch_wheels
    from lading.resolve.workshop import Workshop

    directory = lock.path.parent if lock.path else Path.cwd()
    return fetch_wheels(lock, Workshop(blobs, actions, policy, progress, target, directory, lock.indexes))
