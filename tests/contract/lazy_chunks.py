"""Spaces of chunks for tests of the lazy reader: content that anybody can make again, sealed into a folder."""

from __future__ import annotations

import random
from pathlib import Path

from lading.lazy.chunk import ChunkRecord, chunk_compressor, seal_chunk
from lading.lazy.manifest import ChunkTable, make_table

PLACE = "roots/R/chunks"
CHUNK = 512 << 10


def content(number: int, length: int = CHUNK) -> bytes:
    """Half of it compresses."""
    return random.Random(number).randbytes(length - length // 2) + bytes(length // 2)


def keep(store: Path, plain: bytes, offset: int = 0) -> ChunkRecord:
    """One chunk into the store."""
    sealed = seal_chunk(plain, b"salt", chunk_compressor())
    path = chunk_path(store, sealed.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sealed.data)
    return sealed.at(offset, len(plain))


def keep_file(store: Path, data: bytes, chunk: int = CHUNK) -> ChunkTable:
    """A space cut at fixed places; zeros are left out."""
    pieces = [(place, data[place : place + chunk]) for place in range(0, len(data), chunk)]
    return make_table(len(data), [keep(store, piece, place) for place, piece in pieces if piece.strip(b"\0")])


def chunk_path(store: Path, name: bytes) -> Path:
    return store / PLACE / name.hex()[:2] / name.hex()
