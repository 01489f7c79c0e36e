"""What a zygote holds is never freed in it or in its forks: then nobody has to count who uses it.

Counting is writing, and every page that a fork writes to is copied for it. PEP 683 made this possible: an object whose
count has the value that None's has is left alone by the interpreter and by extensions, those built for older ones too.
"""

from __future__ import annotations

import ctypes
import gc
import platform
import sys
from types import CodeType, FrameType

_VERSIONS = ((3, 12), (3, 13))
"""Those whose objects begin with a count that this was tried on."""
_BYTES = 4
_MARK = 0xFFFFFFFF
_LEFT = {FrameType}
"""Frames end."""
_ADDRESSES = 1 << 48
"""A process's memory lies below this on x86_64 and aarch64, unless it asks for more."""


def immortalize() -> int:
    """All objects that are alive now and known to the collector, and what they refer to. How many: 0 where it can't be done.

    Call it before `gc.freeze()`, when nothing is alive that has to be closed by being forgotten.
    """
    if not possible():
        return 0
    known: dict[int, object] = {}
    wave = gc.get_objects()
    while wave:
        fresh = {id(one): one for one in wave if type(one) not in _LEFT and id(one) not in known}
        known.update(fresh)
        codes = [one for one in fresh.values() if type(one) is CodeType]
        wave = gc.get_referents(*fresh.values())
        wave += [content for code in codes for content in (code.co_consts, code.co_names)]  # unknown to the collector
    memory = memoryview((ctypes.c_uint32 * (_ADDRESSES // _BYTES)).from_address(0)).cast("B").cast("I")
    for address in known:
        memory[address // _BYTES] = _MARK
    return len(known)


def possible() -> bool:
    """A released CPython of a known layout: no debug build, not the one without a global lock."""
    return (
        platform.python_implementation() == "CPython"
        and sys.version_info[:2] in _VERSIONS
        and sys.byteorder == "little"
        and not hasattr(sys, "gettotalrefcount")
        and "t" not in sys.abiflags
        and ctypes.c_uint32.from_address(id(None)).value == _MARK
    )
