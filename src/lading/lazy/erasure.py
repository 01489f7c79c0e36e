"""4-of-5 erasure coding by exclusive-or: a chunk as stored in four shards and a parity, any four of which give it back. No I/O.

After Brooker et al. (USENIX ATC 2023), section 4.1: a fifth more to ask for, and the slowest of five never counts.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from isal import isal_zlib

DATA = 4
SHARDS = 5
LARGEST_SHARD = (1 << 20) + 64
"""Bytes, header included: a quarter of the largest chunk there is."""
_HEADER = struct.Struct("<8s32sB3xII")
_MAGIC = b"LDLZSHD1"


@dataclass(frozen=True)
class Shard:
    """One of five. length: of the whole, in bytes."""

    index: int
    length: int
    content: bytes


def split(name: bytes, stored: bytes) -> list[bytes]:
    """The five shards of a chunk, each with a header by which damage shows."""
    size = -(-len(stored) // DATA)
    parts = [stored[size * index : size * (index + 1)].ljust(size, b"\0") for index in range(DATA)]
    parts.append(_exclusive_or(parts))
    return [
        _HEADER.pack(_MAGIC, name, index, len(stored), isal_zlib.crc32(part, index)) + part
        for index, part in enumerate(parts)
    ]


def read_shard(name: bytes, index: int, data: bytes) -> Shard | None:
    """What a peer sent, if it is this shard and whole."""
    if len(data) < _HEADER.size:
        return None
    magic, found, number, length, check = _HEADER.unpack_from(data)
    content = data[_HEADER.size :]
    right = (magic, found, number, len(content)) == (_MAGIC, name, index, -(-length // DATA))
    return Shard(index, length, content) if right and isal_zlib.crc32(content, index) == check else None


def join(shards: Mapping[int, Shard]) -> bytes:
    """The chunk, of any four of its shards. Raises ValueError for fewer, or for those of different chunks."""
    lengths = {shard.length for shard in shards.values()}
    if len(shards) < DATA or len(lengths) != 1:
        raise ValueError(f"{len(shards)} shards of {len(lengths)} lengths")
    parts = {index: shard.content for index, shard in shards.items()}
    lacking = [index for index in range(DATA) if index not in parts]
    if lacking:
        parts[lacking[0]] = _exclusive_or(list(parts.values()))
    return b"".join(parts[index] for index in range(DATA))[: lengths.pop()]


def _exclusive_or(parts: list[bytes]) -> bytes:
    total = 0
    for part in parts:
        total ^= int.from_bytes(part, "little")
    return total.to_bytes(len(parts[0]), "little")
