"""Which pages of its zygote's memory a start writes to, learned from one that is over: a process that waits to become the
next one has them copied ahead. What is learned are addresses, nothing of what is there.
"""

from __future__ import annotations

import array
import os
from collections.abc import Iterator
from pathlib import Path

Ranges = tuple[tuple[int, int], ...]
"""From, and up to: addresses."""

MOST = 512
"""Pages that are worth it: of a function that takes more, most are its own."""
_MOST_SEARCHED = 65_536
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESENT, _OF_FILE, _EXCLUSIVE = 1 << 63, 1 << 61, 1 << 56
"""Bits of an entry (Linux, admin-guide/mm/pagemap.rst)."""


def written(first: int) -> Ranges:
    """What the process below an environment's first one has for itself; nothing where it can't be seen, or is too much."""
    try:
        pid = int(Path(f"/proc/{first}/task/{first}/children").read_text("ascii").split()[0])
        pages = [page for start, end in _writable(pid) for page in _own(pid, start, end)]
    except (OSError, IndexError, ValueError):
        return ()
    return _joined(pages) if len(pages) <= MOST else ()


def count(ranges: Ranges) -> int:
    """Pages in them."""
    return sum(end - start for start, end in ranges) // _PAGE


def _writable(pid: int) -> Iterator[tuple[int, int]]:
    """Private mappings. Raises ValueError for more than a function that only just began can have."""
    searched = 0
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            place, rights, _ = line.split(" ", 2)
            if rights[1] != "w" or rights[3] != "p":
                continue
            start, end = (int(text, 16) for text in place.split("-"))
            searched += (end - start) // _PAGE
            if searched > _MOST_SEARCHED:
                raise ValueError(f"{searched} pages to search")
            yield start, end


def _own(pid: int, start: int, end: int) -> Iterator[int]:
    """Addresses of pages there that nobody shares."""
    entries = array.array("Q")
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        entries.frombytes(os.pread(pagemap.fileno(), (end - start) // _PAGE * 8, start // _PAGE * 8))
    for number, entry in enumerate(entries):
        if entry & _PRESENT and entry & _EXCLUSIVE and not entry & _OF_FILE:
            yield start + number * _PAGE


def _joined(pages: list[int]) -> Ranges:
    ranges: list[tuple[int, int]] = []
    for page in pages:
        if ranges and ranges[-1][1] == page:
            ranges[-1] = ranges[-1][0], page + _PAGE
        else:
            ranges.append((page, page + _PAGE))
    return tuple(ranges)
