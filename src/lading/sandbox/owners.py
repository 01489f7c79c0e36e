"""Who made what outlives a process: groups, mounts, tables and folders are named after it, so that a later start can
tell what a killed one left. A process of another pid namespace (another container) can't be seen: its things stay."""

from __future__ import annotations

import functools
import re
from pathlib import Path

PREFIX = "lading."
_NAME = re.compile(r"lading\.(\d{1,10})\.\d+\.(\d+)")


def owner_name(pid: int) -> str:
    """ "lading.<pid>.<start time in clock ticks>.<pid namespace>": unique until the machine restarts.

    Empty for a process that is gone.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    return f"{PREFIX}{pid}.{stat.rpartition(b')')[2].split()[19].decode()}.{_namespace()}"


def owner_of(name: str) -> int | None:
    """The process id in a name by `owner_name`. None for other names, and for owners that can't be seen from here."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found and int(found[2]) == _namespace() else None


def is_left(name: str) -> bool:
    """Whether its owner is known to be gone."""
    pid = owner_of(name)
    return pid is not None and owner_name(pid) != name


@functools.cache
def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino
