"""Unfinished artifacts: names beside the finished one that say who makes them, and the removal of those that nobody finishes."""

from __future__ import annotations

import glob
import os
import secrets
from pathlib import Path

from lading.sandbox.owners import is_left, owner_name
from lading.store.folder import remove_tree


def unfinished(destination: Path) -> Path:
    """A fresh name beside an artifact, for a file or folder that will take its place."""
    return destination.with_name(f".{destination.name}.{owner_name(os.getpid())}-{secrets.token_hex(4)}")


def remove_left(destination: Path) -> None:
    """Files and folders that builds which were killed left beside an artifact."""
    start = f".{destination.name}."
    for path in destination.parent.glob(f"{glob.escape(start)}*-*"):
        if is_left(path.name.removeprefix(start).rpartition("-")[0]):
            remove_tree(path)
