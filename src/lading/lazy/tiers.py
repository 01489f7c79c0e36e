"""The tiers behind the disk cache: the store, and the same slowed down for measurements."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from lading.lazy.chunk import ChunkRecord
from lading.lazy.fault import ObjectMissingError, ObjectStoreError
from lading.lazy.fetch import Tier
from lading.lazy.objects import open_objects
from lading.lazy.peers import PeersTier
from lading.lazy.roots import FORMAT_KEY
from lading.lazy.settings import ReaderSettings


class Source(Protocol):
    """What a tier needs of a store. Raises ObjectMissingError, ObjectStoreError."""

    def get(self, key: str) -> bytes: ...


def open_tiers(settings: ReaderSettings) -> list[Tier]:
    """From near to far. Raises LadingError for a store that can't be."""
    objects: Source = open_objects(settings.store)
    if settings.latency or settings.bandwidth:
        objects = SlowedObjects(objects, settings.latency, settings.bandwidth)
    peers: list[Tier] = [PeersTier(settings.peers, settings.peer_token)] if settings.peers else []
    return [*peers, StoreTier(objects)]


class StoreTier:
    """The last tier: a folder or bucket that has every chunk."""

    name = "store"

    def __init__(self, objects: Source) -> None:
        self._objects = objects

    def get(self, record: ChunkRecord, place: str, seconds: float) -> bytes:
        try:
            return self._objects.get(f"{place}/{record.hex[:2]}/{record.hex}")
        except ObjectMissingError:
            self._check()
            raise

    def _check(self) -> None:
        """A folder that isn't mounted lacks every chunk, and comes back: that is an outage. Raises ObjectStoreError."""
        try:
            self._objects.get(FORMAT_KEY)
        except ObjectMissingError:
            raise ObjectStoreError(
                f"there is no image store at {self._objects}", hint="mount its folder again, or restore it"
            ) from None

    def offer(self, record: ChunkRecord, stored: bytes) -> None:
        """It is where chunks come from."""


class SlowedObjects:
    """A store as far away as one likes: each request waits, and all share a bandwidth."""

    def __init__(self, objects: Source, latency: float, bandwidth: float) -> None:
        self._objects = objects
        self._latency = latency
        self._bandwidth = bandwidth
        self._lock = threading.Lock()
        self._free_at = 0.0

    def __str__(self) -> str:
        return str(self._objects)

    def get(self, key: str) -> bytes:
        began = time.monotonic()
        content = self._objects.get(key)
        arrives = began + self._latency
        if self._bandwidth:
            with self._lock:
                self._free_at = max(self._free_at, arrives) + len(content) / self._bandwidth
                arrives = self._free_at
        time.sleep(max(0.0, arrives - time.monotonic()))
        return content
