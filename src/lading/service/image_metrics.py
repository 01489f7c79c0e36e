"""What the reader of lazy images has counted, as Prometheus' text: beside the metrics that have CloudWatch's names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lading.lazy.metrics import Histogram

QUANTILES = (0.5, 0.9, 0.99, 0.999)
_COUNTERS = {
    "LazyTierHits": "hits",
    "LazyTierMisses": "misses",
    "LazyTierBytes": "bytes",
    "LazyTierCorrupt": "corrupt",
    "LazyTierFailures": "failures",
}


def image_text(counted: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """counted: as `usage.read_usage`, with `mounted` and `restarts`. names: digests of images by what the reader calls them.

    Latencies are bounds, in milliseconds.
    """
    lines = _metric("LazyImagesMounted", "gauge", [("", counted["mounted"])])
    lines += _metric("LazyReaderRestarts", "counter", [("", counted["restarts"])])
    lines += _metric("LazyReadErrors", "counter", [("", counted.get("errors", 0))])
    lines += _metric("LazyReadLatency", "gauge", _quantiles(counted.get("reads", []), ""))
    tiers: Mapping[str, Any] = counted.get("tiers", {})
    for metric, name in _COUNTERS.items():
        lines += _metric(metric, "counter", [(f'Tier="{tier}"', counts[name]) for tier, counts in tiers.items()])
    latencies = [one for tier, counts in tiers.items() for one in _quantiles(counts["latency"], f'Tier="{tier}",')]
    lines += _metric("LazyTierLatency", "gauge", latencies)
    images = {names[name]: facts for name, facts in counted.get("images", {}).items() if name in names}
    for metric, name in (("LazyImageBytes", "bytes"), ("LazyImageTouchedBytes", "touched_bytes")):
        lines += _metric(metric, "gauge", [(f'Image="{digest}"', facts[name]) for digest, facts in images.items()])
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    shown = [f"{name}{{{labels}}} {value:.12g}" if labels else f"{name} {value:.12g}" for labels, value in samples]
    return [f"# TYPE {name} {kind}", *shown]


def _quantiles(counts: list[int], labels: str) -> list[tuple[str, float]]:
    histogram = Histogram(list(counts))
    return [(f'{labels}quantile="{share:g}"', histogram.quantile(share) * 1e3) for share in QUANTILES]
