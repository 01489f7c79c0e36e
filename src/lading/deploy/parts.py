"""Which resources belong to a function, written in its tags: what the project no longer wants is found there and removed.

A key is written before what it names is made, and erased after that is gone, so an interrupted run leaves nothing unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lading.deploy.place import PARTS_TAG
from lading.model.limits import number


def part_tags(keys: Iterable[str]) -> dict[str, str]:
    """The keys as tags, as many as they need."""
    lines: list[str] = []
    for key in sorted(keys):
        if lines and len(lines[-1]) + 1 + len(key) <= number("tags", "value"):
            lines[-1] += f" {key}"
        else:
            lines.append(key)
    return {PARTS_TAG if place == 0 else f"{PARTS_TAG}.{place + 1}": line for place, line in enumerate(lines)}


def read_parts(tags: Mapping[str, str]) -> frozenset[str]:
    """The keys that tags tell of."""
    lines = [value for name, value in tags.items() if name == PARTS_TAG or name.startswith(f"{PARTS_TAG}.")]
    return frozenset(key for line in lines for key in line.split())
