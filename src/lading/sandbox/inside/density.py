"""New objects of a fork lie close together: what is free between a zygote's own objects is taken before it forks.

A fork that writes into a gap has the whole page copied for it, in time and in memory. What is taken here was free anyway.
"""

from __future__ import annotations

import sys

_POOL = 16_384 if sys.version_info >= (3, 10) else 4_096
"""CPython's allocator has a pool of this size for each size of object (Objects/obmalloc.c)."""
_FIRST_BLOCK = 48
"""Offset of a pool's first block: a pool that gives this one out was empty."""
_LARGEST_SMALL = 512
_STEP = 16
_MOST = 20_000
"""Blocks of one size: more gaps than that aren't closed."""
_taken: list[object] = []


def close_gaps() -> None:
    """Until each size's next object lies in a fresh pool. Call it when nothing more is let go before the forks."""
    empty = sys.getsizeof(b"")
    for size in range(empty // _STEP * _STEP + _STEP, _LARGEST_SMALL + 1, _STEP):
        for _ in range(_MOST):
            _taken.append(bytes(size - empty))
            if id(_taken[-1]) % _POOL == _FIRST_BLOCK:
                break
