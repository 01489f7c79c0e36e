"""Start-up traces: the chunks of an image in the order of their first touch, kept per image, fetched ahead at its next start."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MOST_CHUNKS = 65_536
QUIET_SECONDS = 5.0
"""Without a first touch, after which a start counts as over."""
LONGEST_SECONDS = 60.0
"""After which it does so anyway."""
LARGEST_TRACE = 1 << 20
"""Bytes of a trace's file or object."""
TRACE_VERSION = 1


def read_trace(path: Path, chunks: int) -> list[int]:
    """The trace of an image of so many chunks; empty where there is none that can be used."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(LARGEST_TRACE))
    except (OSError, ValueError, RecursionError):
        return []
    return valid_order(document, chunks) or []


def valid_order(document: Any, chunks: int) -> list[int] | None:
    """What a trace's document says of an image of so many chunks; None where it is no trace of such a one."""
    if not isinstance(document, dict) or document.get("version") != TRACE_VERSION or document.get("of") != chunks:
        return None
    order = document.get("chunks")
    if not isinstance(order, list) or not all(type(index) is int and 0 <= index < chunks for index in order):
        return None
    return list(dict.fromkeys(order))[:MOST_CHUNKS]


def write_trace(path: Path, order: Sequence[int], chunks: int) -> None:
    """Whole or not at all; a disk that can't take it costs the next start some time and nothing else."""
    document = {"version": TRACE_VERSION, "of": chunks, "chunks": list(order[:MOST_CHUNKS])}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(document, file, separators=(",", ":"))
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise


def extend(known: Sequence[int], order: Sequence[int]) -> list[int]:
    """A trace with what a later start touched besides."""
    return list(dict.fromkeys([*known, *order]))
