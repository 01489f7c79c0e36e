"""AWS's bounds on what a deployment states, from data/deployment.toml."""

from __future__ import annotations

import functools
import tomllib
from importlib import resources
from typing import Any


@functools.cache
def _data() -> dict[str, Any]:
    return tomllib.loads(resources.files("lading.model.data").joinpath("deployment.toml").read_text("utf-8"))


def bounds(table: str, key: str) -> tuple[int, int]:
    """Least and most, inclusive."""
    least, most = _data()[table][key]
    return least, most


def number(table: str, key: str) -> int:
    value: int = _data()[table][key]
    return value


def retention_days() -> tuple[int, ...]:
    """The only numbers of days that CloudWatch Logs keeps."""
    return tuple(_data()["logs"]["retention"])


def managed_policy(purpose: str) -> str:
    """Name below arn:aws:iam::aws:policy/ of the managed policy for "basic", "vpc", "sqs", …"""
    name: str = _data()["policies"][purpose]
    return name
