"""Sparse members of a tar: which bytes of a file are stored, and that they can be. GNU's old format and its three pax ones.

Source: GNU tar's manual, "Storing Sparse Files" (formats 0.0, 0.1, 1.0). No I/O; ValueError says what is wrong with a map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Piece = tuple[int, int]
"""Where stored bytes belong in the file, and how many they are."""
MOST_PIECES = 20_000
LARGEST = 1 << 40
_BLOCK = 512
_IN_HEADER, _IN_BLOCK, _PAIR = 4, 21, 24


def old_map(header: bytes, more: Callable[[], bytes], number: Callable[[bytes], int]) -> tuple[int, list[Piece]]:
    """(size of the file, pieces) of a member of type S. more: the tar's next block. number: reads a number field."""
    pieces = _pairs(header[386:482], number)
    goes_on = header[482:483] not in (b"\0", b"")
    while goes_on:
        block = more()
        pieces += _pairs(block[: _IN_BLOCK * _PAIR], number)
        if len(pieces) > MOST_PIECES:
            raise ValueError(f"more than {MOST_PIECES:,} pieces")
        goes_on = block[504:505] != b"\0"
    return number(header[483:495]), pieces


def listed_map(text: str) -> list[Piece]:
    """Of formats 0.0 and 0.1: offsets and sizes in turns, with commas between them."""
    words = text.split(",", 2 * MOST_PIECES) if text else []
    if len(words) > 2 * MOST_PIECES:
        raise ValueError(f"more than {MOST_PIECES:,} pieces")
    return _paired([_decimal(word) for word in words])


def leading_map(more: Callable[[], bytes]) -> tuple[int, list[Piece]]:
    """(blocks taken, pieces) of format 1.0: lines in front of the content, the first one says how many pairs follow."""
    buffer, blocks = b"", 0
    wanted = 1
    while True:
        while buffer.count(b"\n") < wanted:
            if blocks * _BLOCK > 44 * MOST_PIECES:
                raise ValueError("a map that has no end")
            buffer += more()
            blocks += 1
        lines = buffer.split(b"\n", wanted)[:wanted]
        if wanted > 1 or lines == [b"0"]:
            return blocks, _paired([_decimal(line.decode("ascii", "replace")) for line in lines[1:]])
        count = _decimal(lines[0].decode("ascii", "replace"))
        if count > MOST_PIECES:
            raise ValueError(f"more than {MOST_PIECES:,} pieces")
        wanted = 1 + 2 * count


def checked(size: int, pieces: Sequence[Piece], stored: int) -> tuple[Piece, ...]:
    """The pieces with bytes, once they rise, lie within the file, and are all that is stored."""
    end = 0
    for start, length in pieces:
        if start < end or start + length > size:
            raise ValueError("pieces that overlap or lie behind its end")
        end = start + length
    if size > LARGEST or sum(length for _, length in pieces) != stored:
        raise ValueError(f"{stored:,} bytes stored for a map of others")
    return tuple(piece for piece in pieces if piece[1])


def _pairs(data: bytes, number: Callable[[bytes], int]) -> list[Piece]:
    found = []
    for at in range(0, len(data), _PAIR):
        entry = data[at : at + _PAIR]
        if not entry.strip(b"\0"):
            break
        found.append((number(entry[:12]), number(entry[12:])))
    return found


def _paired(numbers: list[int]) -> list[Piece]:
    if len(numbers) % 2:
        raise ValueError("a map that is not readable")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        raise ValueError(f"a map with {text[:40]!r} for a number")
    return int(text)
