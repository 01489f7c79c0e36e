"""A picture of which chunks of an image a start touched: one cell for each chunk, in the order they lie. SVG or PNG.

No I/O. The PNG is written here: a palette and rows of it, which needs no library (RFC 2083).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

CELL = 8
"""Pixels of a chunk's side, its gap included."""
_STEPS = 32
_COLD = (0xE6, 0xE8, 0xEB)
_GROUND = (0xFF, 0xFF, 0xFF)
_EARLY, _LATE = (0xB0, 0x1E, 0x28), (0xF7, 0xC9, 0x6B)


@dataclass(frozen=True)
class Heat:
    """`chunks` of an image and those touched, in order of their first touch."""

    title: str
    chunks: int
    order: tuple[int, ...]

    @property
    def columns(self) -> int:
        """As many as make it about twice as wide as high."""
        return max(1, math.isqrt(2 * self.chunks))

    @property
    def rows(self) -> int:
        return -(-self.chunks // self.columns)

    @property
    def share(self) -> float:
        return len(self.order) / self.chunks if self.chunks else 0.0

    def steps(self) -> list[int]:
        """Of each chunk: 0 for one that stayed cold, 1 (first) to _STEPS (last)."""
        cells = [0] * self.chunks
        for place, index in enumerate(self.order):
            cells[index] = 1 + place * (_STEPS - 1) // max(1, len(self.order) - 1)
        return cells


def make_heat(title: str, chunks: int, order: Sequence[int]) -> Heat:
    """Indexes out of range and repeated ones are dropped: a trace is another program's file."""
    return Heat(title, chunks, tuple(dict.fromkeys(index for index in order if 0 <= index < chunks)))


def draw_svg(heat: Heat) -> str:
    width, height = heat.columns * CELL, heat.rows * CELL
    caption = f"{heat.title}: {len(heat.order):,} of {heat.chunks:,} chunks touched ({heat.share:.1%})"
    size = f'width="{max(width, 480)}" height="{height + 48}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f"<title>{escape(caption)}</title>",
        f'<text x="0" y="14">{escape(caption)}</text>',
        '<text x="0" y="30" fill="#555">dark: touched first; light: last; grey: not touched</text>',
        f'<rect x="0" y="40" width="{width}" height="{height}" fill="#fff"/>',
    ]
    for index, step in enumerate(heat.steps()):
        row, column = divmod(index, heat.columns)
        lines.append(
            f'<rect x="{column * CELL}" y="{40 + row * CELL}" width="{CELL - 1}" height="{CELL - 1}" '
            f'fill="#{bytes(_colour(step)).hex()}"/>'
        )
    return "\n".join([*lines, "</svg>", ""])


def draw_png(heat: Heat) -> bytes:
    width, height = heat.columns * CELL, max(1, heat.rows) * CELL
    palette = bytes(part for step in range(_STEPS + 1) for part in _colour(step)) + bytes(_GROUND)
    ground = _STEPS + 1
    cells = heat.steps()
    rows = bytearray()
    for start in range(0, max(1, len(cells)), heat.columns):
        line = bytearray([ground]) * width
        for column, step in enumerate(cells[start : start + heat.columns]):
            line[column * CELL : column * CELL + CELL - 1] = bytes([step]) * (CELL - 1)
        rows += (b"\0" + line) * (CELL - 1) + b"\0" + bytes([ground]) * width
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = [(b"IHDR", head), (b"PLTE", palette), (b"IDAT", zlib.compress(bytes(rows), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(kind, data) for kind, data in parts)


def _colour(step: int) -> tuple[int, ...]:
    if step == 0:
        return _COLD
    share = (step - 1) / (_STEPS - 1)
    return tuple(round(early + (late - early) * share) for early, late in zip(_EARLY, _LATE, strict=True))


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
