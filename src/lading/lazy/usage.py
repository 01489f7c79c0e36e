"""What readers have counted, kept beside their cache: one file per worker, those of dead ones added up in a total."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lading.lazy.metrics import merge
from lading.sandbox.owners import is_left, owner_name

_TOTAL = "total.json"
_LARGEST = 4 << 20


def write_usage(folder: Path, data: Mapping[str, Any]) -> None:
    """Of this process, in place of what it wrote before. A disk that can't take it loses a count and nothing else."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace(folder / f"{owner_name(os.getpid())}.json", data)


def read_usage(folder: Path) -> dict[str, Any]:
    """The sum of all that was ever counted here."""
    total: dict[str, Any] = {}
    for path in sorted(folder.glob("*.json")):
        total = merge(total, _read(path))
    return total


def fold(folder: Path) -> None:
    """Adds the files of processes that are gone to the total. A kill in between counts one of them twice, at most."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for path in sorted(folder.glob("lading.*.json")):
                if is_left(path.stem):
                    _replace(folder / _TOTAL, merge(_read(folder / _TOTAL), _read(path)))
                    path.unlink()


def _replace(path: Path, data: Mapping[str, Any]) -> None:
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(data), "utf-8")
    fresh.replace(path)


def _read(path: Path) -> dict[str, Any]:
    """Empty for what isn't one."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_LARGEST))
        return merge({}, document)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return {}
