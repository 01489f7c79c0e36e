"""The part of `lading image stats` that readers on this machine have counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

ORDER = ("memory", "disk", "peers", "store")


def read_readers() -> dict[str, Any]:
    """All that was ever counted beside the local cache; empty where nothing was read."""
    from lading.lazy.settings import default_cache
    from lading.lazy.usage import read_usage

    return read_usage(default_cache() / "usage")


def show_readers(found: dict[str, Any], known: Mapping[str, str]) -> None:
    """`known`: digests of OCI manifests by the names that readers have for the images."""
    from lading.cli.text import size
    from lading.lazy.metrics import Histogram

    tiers = {name: found.get("tiers", {}).get(name) for name in ORDER}
    if not any(tiers.values()):
        return
    hits = sum(tier["hits"] for tier in tiers.values() if tier)
    click.echo("read on this machine:")
    for name, tier in tiers.items():
        if tier:
            latency = Histogram(tier["latency"])
            troubles = ", ".join(f"{tier[key]:,} {key}" for key in ("corrupt", "failures") if tier[key])
            click.echo(
                f"  {name:<7} {tier['hits'] / max(1, hits):6.1%} of {hits:,}  {size(tier['bytes']):>9}  "
                f"p50 {_time(latency.quantile(0.5))}  p99 {_time(latency.quantile(0.99))}"
                + (f"  {troubles}" if troubles else "")
            )
    for digest, facts in found.get("images", {}).items():
        touched, whole = facts["touched_bytes"], facts["bytes"]
        name = known.get(digest, f"an image that is not in this store: {digest[:16]}…")
        click.echo(f"  {name}  {size(touched)} of {size(whole)} touched ({touched / max(1, whole):.1%})")


def _time(seconds: float) -> str:
    """Latencies are counted in powers of two: this is a bound."""
    return f"≤{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"≤{seconds * 1e3:.0f} ms"
