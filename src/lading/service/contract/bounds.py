"""Where a service answers otherwise than its model says: bounds.toml, and the quotas it names."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from lading.model.quotas import quotas
from lading.service.contract.validate import Bounds


@functools.cache
def _data() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("bounds.toml").read_text("utf-8"))


@functools.cache
def bounds_in_force(service: str) -> Mapping[str, Bounds]:
    """Shape name → bounds of a service; empty for one without any."""
    shapes = _data().get(service, {}).get("quotas", {})
    return {shape: Bounds(*getattr(quotas(), name)) for shape, name in shapes.items()}


@functools.cache
def left_to_control(service: str) -> Mapping[str, frozenset[str]]:
    """Operation → members that the model would refuse and AWS lets through to the operation, which words it otherwise."""
    return {name: frozenset(members) for name, members in _data().get(service, {}).get("left-to-control", {}).items()}
