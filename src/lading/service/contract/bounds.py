"""The bounds in force where a service's model allows more, from bounds.toml."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources

from lading.service.contract.validate import Bounds


@functools.cache
def bounds_in_force(service: str) -> Mapping[str, Bounds]:
    """Shape name → bounds of a service; empty for one without any."""
    data = tomllib.loads(resources.files(__package__).joinpath("bounds.toml").read_text("utf-8"))
    return {name: Bounds(entry.get("min"), entry.get("max")) for name, entry in data.get(service, {}).items()}
