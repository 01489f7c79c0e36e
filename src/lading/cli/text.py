"""How numbers read for people, the same in every command."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes with a decimal unit, three significant places: "962 B", "48.2 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def seconds(time: float) -> str:
    """ "0.004 s" → "4 ms", "1.234" → "1.23 s"."""
    return f"{time * 1000:.0f} ms" if time < 1 else f"{time:.2f} s"


def count(number: int, noun: str, plural: str = "") -> str:
    """ "1 file", "3 files"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
