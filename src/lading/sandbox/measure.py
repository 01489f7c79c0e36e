"""What an environment's processes use, read from /proc: the way without cgroups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_NANOSECONDS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def memory_peak(first: int, *, itself: bool = False) -> int:
    """Bytes: the sum of the peak resident sizes of what runs under an environment's first process."""
    total = 0
    for pid in _family(first, itself=itself):
        for line in _lines(pid, "status"):
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) << 10
    return total


def cpu_usage(first: int, *, itself: bool = False) -> int:
    """Nanoseconds used by what runs under an environment's first process, and by their children that ended."""
    ticks = 0
    for pid in _family(first, itself=itself):
        for line in _lines(pid, "stat"):
            ticks += sum(map(int, line.rpartition(")")[2].split()[11:15]))
    return ticks * _NANOSECONDS_PER_TICK


def _family(pid: int, *, itself: bool) -> Iterator[int]:
    if itself:
        yield pid
    yield from _below(pid)


def _below(pid: int) -> Iterator[int]:
    for line in _lines(pid, f"task/{pid}/children"):
        for child in map(int, line.split()):
            yield child
            yield from _below(child)


def _lines(pid: int, name: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/{name}").read_text("ascii", "replace").splitlines()
    except OSError:
        return []  # it ended meanwhile
