"""Moments as AWS writes them into records and logs."""

from __future__ import annotations

import datetime as dt


def iso(seconds: float) -> str:
    """Seconds since the epoch as "2026-11-24T00:00:00.000Z"."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
