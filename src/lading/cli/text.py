"""How numbers and tables read for people, the same in every command."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

_NUMBER = re.compile(r"-?|[\d,.]+( ?[A-Za-z%]{1,2})?")
"""None, or one with a unit."""


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


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of aligned columns, never cut: text to the left, columns of numbers to the right."""
    columns = list(zip(headings, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numbers = [number > 0 and all(map(_NUMBER.fullmatch, column[1:])) for number, column in enumerate(columns)]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, numbers, strict=True)
        return "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells).rstrip()

    return [click.style(line(headings), bold=True), *map(line, rows)]
