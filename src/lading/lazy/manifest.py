"""The manifest: which chunks an image is made of, where each lies, its name and key. Sealed for one account. No I/O.

docs/design/lazy-format.md, "Manifest", is the specification. Everything read is checked before it is used.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lading.lazy.chunk import BLOCK, LARGEST_CHUNK, LARGEST_METADATA_CHUNK, ChunkRecord
from lading.lazy.fault import LazyFormatError, ManifestError
from lading.lazy.keys import AccountKey
from lading.lazy.sealing import Kind, seal, unseal

VERSION = 1
MAGIC = b"LDLZMANI"
LARGEST_MANIFEST = 64 << 20
LARGEST_ANNEX = 4 << 20
LARGEST_SPACE = BLOCK << 32
MOST_PIECES = 4096
LARGEST_FIRST = 64 << 20
"""Bytes that a reader fetches of an image because the manifest asks it to."""
_HEAD = struct.Struct("<8sHH16s32sQQIII")
_COMPRESSED = 1 << 31
_KIND = Kind(b"LDLZSEAL", "manifest", LARGEST_MANIFEST, ManifestError, "convert the image anew")


class ChunkTable(Sequence[ChunkRecord]):
    """The chunks of one space, by offset. Between and after them the space reads as zeros."""

    def __init__(self, size: int, columns: _Columns) -> None:
        self.size = size
        """Bytes of the space."""
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns.offsets)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        columns, place = self._columns, index * 32
        stored = columns.stored[index]
        return ChunkRecord(
            columns.offsets[index] * BLOCK,
            columns.lengths[index],
            stored & ~_COMPRESSED,
            columns.names[place : place + 32],
            columns.keys[place : place + 32],
            bool(stored & _COMPRESSED),
        )

    def find(self, offset: int) -> int:
        """The index of the chunk that holds the byte at `offset`, or -1 where the space reads as zeros."""
        index = bisect.bisect_right(self._columns.offsets, offset // BLOCK) - 1
        if index < 0 or offset >= self._columns.offsets[index] * BLOCK + self._columns.lengths[index]:
            return -1
        return index

    def first_at(self, offset: int) -> int:
        """The index of the first chunk that ends behind `offset`; len(self) when there is none."""
        index = bisect.bisect_right(self._columns.offsets, offset // BLOCK) - 1
        if index >= 0 and offset < self._columns.offsets[index] * BLOCK + self._columns.lengths[index]:
            return index
        return index + 1

    def within(self, start: int, end: int) -> Iterator[tuple[int, ChunkRecord]]:
        """Every chunk with bytes in [start, end), with its index."""
        index = self.first_at(start)
        while index < len(self) and self._columns.offsets[index] * BLOCK < end:
            yield index, self[index]
            index += 1

    @property
    def stored_bytes(self) -> int:
        """Of all objects, one that stands here twice counted twice."""
        return sum(value & ~_COMPRESSED for value in self._columns.stored)

    @property
    def content_bytes(self) -> int:
        """Of content, zeros between chunks left out."""
        return sum(self._columns.lengths)

    def names(self) -> set[bytes]:
        """The objects' names."""
        data = self._columns.names
        return {data[place : place + 32] for place in range(0, len(data), 32)}

    def numbers(self) -> dict[bytes, int]:
        """The index of each object, the first of one that stands here twice."""
        data = self._columns.names
        return {data[index * 32 : index * 32 + 32]: index for index in reversed(range(len(self)))}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChunkTable) and (self.size, self._columns) == (other.size, other._columns)

    __hash__ = None  # type: ignore[assignment]


@dataclass
class _Columns:
    """A table's columns, in the order they are written."""

    offsets: array[int]
    lengths: array[int]
    stored: array[int]
    names: bytes
    keys: bytes


@dataclass(frozen=True)
class Manifest:
    """An image: the file of metadata and the device of data, both as chunks.

    `source` is the digest of the OCI manifest it was made of, `annex` what else is known: the process's config, counts.
    """

    source: bytes
    salt_id: bytes
    metadata: ChunkTable
    data: ChunkTable
    annex: Mapping[str, Any] = field(default_factory=dict, compare=False)
    _plain: bytes = field(default=b"", init=False, compare=False, repr=False)
    """What it was read from: to pack it again takes time, and another version of zstd would give other bytes."""

    def find(self, offset: int) -> int:
        """The index in `data` of the chunk with the byte at `offset`, or -1 where zeros are read."""
        return self.data.find(offset)

    @property
    def digest(self) -> str:
        """ "sha256:…" of the OCI manifest it was made of."""
        return f"sha256:{self.source.hex()}"

    @property
    def process(self) -> Mapping[str, Any]:
        """Entrypoint, Cmd, Env, WorkingDir … of the image, in Docker's spelling."""
        value = self.annex.get("process")
        return value if isinstance(value, Mapping) else {}

    @property
    def together(self) -> list[tuple[int, int]]:
        """Pieces of the data, from byte to byte: a start that reads some of one will read the rest."""
        return self._pieces("together")

    @property
    def first(self) -> list[int]:
        """Indices of the chunks in `data` that nearly every start reads, in the order of a start."""
        found: dict[int, None] = {}
        left = LARGEST_FIRST
        for start, end in self._pieces("first"):
            for index, record in self.data.within(start, end):
                left -= record.length
                if left < 0:
                    return list(found)
                found[index] = None
        return list(found)

    def _pieces(self, name: str) -> list[tuple[int, int]]:
        value = self.annex.get(name)
        pairs = value[:MOST_PIECES] if isinstance(value, list) else []
        return [(pair[0] * BLOCK, pair[1] * BLOCK) for pair in pairs if _is_piece(pair)]

    def names(self) -> set[bytes]:
        """Every object that the image needs."""
        return self.metadata.names() | self.data.names()


def _is_piece(pair: object) -> bool:
    return isinstance(pair, list) and [type(number) for number in pair] == [int, int] and 0 <= pair[0] < pair[1]


def make_table(size: int, records: Sequence[ChunkRecord]) -> ChunkTable:
    """A table of records in order of their offsets."""
    return ChunkTable(
        size,
        _Columns(
            array("I", [record.offset // BLOCK for record in records]),
            array("I", [record.length for record in records]),
            array("I", [record.stored | (_COMPRESSED if record.compressed else 0) for record in records]),
            b"".join(record.name for record in records),
            b"".join(record.key for record in records),
        ),
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """The plain bytes: equal manifests, equal bytes. Of one that was read, those."""
    if manifest._plain:
        return manifest._plain
    annex = _pack(json.dumps(manifest.annex, sort_keys=True, separators=(",", ":")).encode())
    head = _HEAD.pack(
        MAGIC, VERSION, 0, manifest.salt_id, manifest.source, manifest.metadata.size, manifest.data.size,
        len(manifest.metadata), len(manifest.data), len(annex),
    )  # fmt: skip
    return b"".join([head, _write_table(manifest.metadata), _write_table(manifest.data), annex])


def identify(manifest: Manifest) -> str:
    """What readers keep traces and counts under: another salt or order of data is another image to them."""
    return hashlib.sha256(encode_manifest(manifest)).hexdigest()


def decode_manifest(data: bytes) -> Manifest:
    """Read plain bytes; every number checked. Raises ManifestError."""
    if len(data) < _HEAD.size or data[:8] != MAGIC:
        raise _broken("it is cut short or not a manifest")
    (_, version, _, salt_id, source, metadata_size, data_size, metadata_count, data_count, annex_size) = _HEAD.unpack(
        data[: _HEAD.size]
    )
    if version != VERSION:
        raise ManifestError(
            f"the manifest has version {version}; this lading reads version {VERSION}", hint="update lading"
        )
    rows = metadata_count + data_count
    if len(data) != _HEAD.size + rows * _ROW + annex_size:
        raise _broken(f"{rows:,} chunks don't fit its {len(data):,} bytes")
    start = _HEAD.size
    metadata = _read_table(data, start, metadata_count, metadata_size)
    _check(metadata, metadata_size, LARGEST_METADATA_CHUNK)
    start += metadata_count * _ROW
    table = _read_table(data, start, data_count, data_size)
    _check(table, data_size, LARGEST_CHUNK)
    annex = _read_annex(data[start + data_count * _ROW :])
    read = Manifest(source, salt_id, ChunkTable(metadata_size, metadata), ChunkTable(data_size, table), annex)
    object.__setattr__(read, "_plain", data)
    return read


def seal_manifest(manifest: Manifest, key: AccountKey) -> bytes:
    """Encrypted and authenticated for the account: equal manifests, equal bytes."""
    return seal(_KIND, encode_manifest(manifest), key)


def open_manifest(data: bytes, key: AccountKey) -> Manifest:
    """Verify, decrypt, read. Raises WrongKeyError, ManifestError for anything else that is wrong."""
    return decode_manifest(unseal(_KIND, data, key))


_ROW = 4 + 4 + 4 + 32 + 32
"""Bytes of one chunk in a table."""


def _write_table(table: ChunkTable) -> bytes:
    columns = table._columns
    numbers = [_little(column).tobytes() for column in (columns.offsets, columns.lengths, columns.stored)]
    return b"".join([*numbers, columns.names, columns.keys])


def _read_table(data: bytes, start: int, count: int, size: int) -> _Columns:
    numbers = []
    for _ in range(3):
        column = array("I")
        column.frombytes(data[start : start + 4 * count])
        numbers.append(_little(column))
        start += 4 * count
    names = data[start : start + 32 * count]
    return _Columns(numbers[0], numbers[1], numbers[2], names, data[start + 32 * count : start + 64 * count])


def _check(columns: _Columns, size: int, largest: int) -> None:
    """Chunks in order, apart, within the space, none larger than allowed nor stored larger than it is."""
    if size > LARGEST_SPACE:
        raise _broken(f"a space of {size:,} bytes")
    end = 0
    for offset, length, stored in zip(columns.offsets, columns.lengths, columns.stored, strict=True):
        start = offset * BLOCK
        if start < end or not 0 < length <= largest:
            raise _broken(f"a chunk at {start:,} of {length:,} bytes overlaps, is empty or too large")
        if not 0 < stored & ~_COMPRESSED <= length:
            raise _broken(f"a chunk at {start:,} is stored in {stored & ~_COMPRESSED:,} bytes")
        end = start + length
    if end > size:
        raise _broken(f"a chunk ends at {end:,} in a space of {size:,} bytes")


def _little(column: array[int]) -> array[int]:
    """Swapped where the machine is big-endian."""
    import sys

    assert column.itemsize == 4
    if sys.byteorder == "big":
        column = array("I", column)
        column.byteswap()
    return column


def _pack(data: bytes) -> bytes:
    from zstandard import ZstdCompressor

    return ZstdCompressor(level=9, write_content_size=True).compress(data)


def _read_annex(packed: bytes) -> Mapping[str, Any]:
    from zstandard import ZstdDecompressor, ZstdError, frame_content_size

    try:
        if not 0 <= frame_content_size(packed) <= LARGEST_ANNEX:
            raise _broken("its annex is too large")
        document = json.loads(ZstdDecompressor().decompress(packed, max_output_size=LARGEST_ANNEX))
    except (ZstdError, ValueError, RecursionError):
        raise _broken("its annex is not readable") from None
    if not isinstance(document, dict):
        raise _broken("its annex is not a table")
    return document


def _broken(why: str) -> LazyFormatError:
    return _KIND.broken(why)
