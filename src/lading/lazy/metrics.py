"""Counters and latencies of a reader, as plain data: what `lading image stats` and the service's metrics show. No I/O."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BUCKETS = 26
"""The n-th holds latencies up to 2**n microseconds; the last one everything above 17 s."""


class Histogram:
    """Latencies in powers of two: enough to tell a page cache from a disk and a disk from a store."""

    def __init__(self, counts: list[int] | None = None) -> None:
        self.counts = counts or [0] * BUCKETS

    def add(self, seconds: float) -> None:
        self.counts[min(int(seconds * 1e6).bit_length(), BUCKETS - 1)] += 1

    def quantile(self, share: float) -> float:
        """Seconds that this share of the samples took at most; 0 where there are none."""
        wanted, seen = share * sum(self.counts), 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return float(1 << bucket) / 1e6
        return 0.0


@dataclass
class TierCounts:
    """Of one tier: memory, disk, peers or store. bytes: as stored there."""

    hits: int = 0
    misses: int = 0
    bytes: int = 0
    corrupt: int = 0
    failures: int = 0
    latency: Histogram = field(default_factory=Histogram)

    def as_data(self) -> dict[str, Any]:
        return {**vars(self), "latency": self.latency.counts}


class Metrics:
    """Safe between threads: the numbers are exact but for readings in the middle of a change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.tiers: dict[str, TierCounts] = {}
        self.reads = Histogram()
        """From a read request of the kernel to its answer."""
        self.errors = 0

    def tier(self, name: str) -> TierCounts:
        with self._lock:
            return self.tiers.setdefault(name, TierCounts())

    def hit(self, name: str, size: int, seconds: float) -> None:
        tier = self.tier(name)
        with self._lock:
            tier.hits += 1
            tier.bytes += size
            tier.latency.add(seconds)

    def count(self, name: str, what: str) -> None:
        """what: misses, corrupt or failures."""
        tier = self.tier(name)
        with self._lock:
            setattr(tier, what, getattr(tier, what) + 1)

    def read(self, seconds: float, *, failed: bool) -> None:
        with self._lock:
            self.reads.add(seconds)
            self.errors += failed

    def as_data(self) -> dict[str, Any]:
        with self._lock:
            tiers = {name: tier.as_data() for name, tier in self.tiers.items()}
            return {"tiers": tiers, "reads": list(self.reads.counts), "errors": self.errors}


def merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The sum of two `as_data`."""
    tiers: dict[str, Any] = {}
    for data in (one, other):
        for name, counts in data.get("tiers", {}).items():
            known = tiers.setdefault(name, TierCounts().as_data())
            for key, value in counts.items():
                known[key] = _added(known.get(key, 0), value)
    reads = _added(one.get("reads", [0] * BUCKETS), other.get("reads", [0] * BUCKETS))
    errors = one.get("errors", 0) + other.get("errors", 0)
    return {"tiers": tiers, "reads": reads, "errors": errors, "images": _most_touched(one, other)}


def _most_touched(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Of each image, the start that touched most."""
    images: dict[str, Any] = dict(one.get("images", {}))
    for digest, facts in other.get("images", {}).items():
        if digest not in images or images[digest]["touched"] < facts["touched"]:
            images[digest] = facts
    return images


def _added(one: Any, other: Any) -> Any:
    if isinstance(other, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    return one + other
