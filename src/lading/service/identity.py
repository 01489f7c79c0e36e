"""Identities of requests: UUIDs of version 4, and X-Ray's trace headers. The kernel is asked for many at once."""

from __future__ import annotations

import os
import time

_drawn: list[str] = []
"""32 random digits each; given out once."""


def request_id() -> str:
    """A UUID of version 4 (RFC 9562, section 5.4)."""
    digits = _draw()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


def new_trace() -> str:
    """A trace header of X-Ray's form, not sampled."""
    return f"Root=1-{int(time.time()):08x}-{_draw()[:24]};Parent={_draw()[:16]};Sampled=0"


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def _draw() -> str:
    """From any thread: a list's `pop` gives each of them once."""
    try:
        return _drawn.pop()
    except IndexError:
        digits = os.urandom(2048).hex()
        _drawn.extend(digits[at : at + 32] for at in range(32, len(digits), 32))
        return digits[:32]


os.register_at_fork(after_in_child=_drawn.clear)
