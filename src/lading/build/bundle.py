"""A bundle: archive members prepared once, kept in the store, copied as one piece into every artifact that needs them.

Two blobs: `data`, the members with their local headers, back to back; and an index: names, positions, digests and the
members' central records. Format: docs/design/archive.md. Reads and writes the store; knows nothing of wheels or folders.
"""

from __future__ import annotations

import functools
import hashlib
import json
import struct
import sys
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from lading.build.records import (
    CENTRAL,
    DEFLATED,
    LIMIT32,
    LOCAL,
    STORED,
    Member,
    central_record,
    local_header,
)
from lading.errors import BuildError, StoreError
from lading.model.blobs import Actions, Blobs, BlobWriter

FORMAT = 1
"""Raise when a bundle of the same inputs would hold other bytes."""
MAGIC = b"LADING-BUNDLE-2" + sys.byteorder[:1].encode()
LEVEL = 6
"""zlib's level for what is deflated here: 9 gains 0.3 % on bytecode and takes twice as long."""
_SECTIONS = struct.Struct("=6Q")
DIGEST = 32


class DamagedBundleError(StoreError):
    """An index in the store is not what its name says."""


class MemberSizeError(BuildError):
    """A file, or its package, is larger than any Lambda artifact may be."""


@dataclass(frozen=True)
class Bundle:
    """Prepared members, sorted as they lie in `data`. `index` and `data` are blob digests, `size` the length of `data`."""

    kind: str
    """"wheel", "folder" or "bytecode"."""
    name: str
    """The distribution's normalized name, or the name of the user's own code."""
    version: str
    data: str
    size: int
    checksum: int
    """CRC-32 of `data`: what a copy is verified with, at thrice the speed of its sha256."""
    names: tuple[str, ...]
    offsets: array[int] = field(repr=False)
    """Where each member's local header begins in `data`, and one more: where the last one ends."""
    positions: array[int] = field(repr=False)
    """The same for its record in `central`."""
    sizes: array[int] = field(repr=False)
    """Unpacked sizes in bytes."""
    digests: bytes = field(repr=False)
    """sha256 of each member's content, 32 bytes each."""
    central: bytes = field(repr=False)
    origin: str = ""
    """For bytecode: the index digest of the bundle that was compiled."""
    facts: str = ""
    """For bytecode: digest of a JSON blob, what the import scanner saw in every source."""
    skipped: int = 0
    """For bytecode: how many sources did not compile."""
    index: str = ""

    @functools.cached_property
    def unzipped(self) -> int:
        """Bytes once unpacked."""
        return sum(self.sizes)

    @functools.cached_property
    def positions_by_name(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def digest(self, number: int) -> bytes:
        """sha256 of a member's content."""
        return self.digests[number * DIGEST : (number + 1) * DIGEST]

    def member(self, number: int) -> Member:
        """A member's facts, from its central record."""
        fields = CENTRAL.unpack_from(self.central, self.positions[number])
        return Member(self.names[number], fields[15] >> 16, fields[4], fields[7], fields[9], fields[8])

    def members(self) -> Iterator[Member]:
        return map(self.member, range(len(self.names)))

    def packed_size(self, number: int) -> int:
        """Bytes a member takes in an archive, its local header included."""
        return self.offsets[number + 1] - self.offsets[number]

    def span(self, number: int) -> tuple[int, int]:
        """Where a member's packed bytes are in `data`: offset and length."""
        member = self.member(number)
        return self.offsets[number + 1] - member.packed, member.packed


class BundleWriter:
    """Writes members one after another; `finish` publishes. Adding in the same order gives the same bundle."""

    def __init__(self, output: BlobWriter) -> None:
        self._output = output
        self._checksum = 0
        self._names: list[str] = []
        self._offsets = array("Q", [0])
        self._positions = array("I", [0])
        self._sizes = array("I")
        self._digests = bytearray()
        self._central = bytearray()

    def begin(self, member: Member) -> None:
        """Announce a member; its packed bytes follow through `write`, then `end`."""
        offset = self._offsets[-1]
        if max(member.size, offset + member.packed) >= LIMIT32 - (1 << 20):
            raise MemberSizeError(
                f"{member.name} ({member.size:,} bytes) makes its package larger than 4 GiB",
                hint="keep such files out of the package; an image or S3 can serve them",
            )
        self._names.append(member.name)
        self._sizes.append(member.size)
        self._central += central_record(member, offset)
        self._positions.append(len(self._central))
        self.write(local_header(member))
        self._offsets.append(offset + LOCAL.size + len(member.name.encode()) + member.packed)

    def write(self, packed: bytes | memoryview) -> None:
        self._checksum = zlib.crc32(packed, self._checksum)
        self._output.write(packed)

    def end(self, digest: bytes) -> None:
        """`digest` is the sha256 of the member's content."""
        self._digests += digest

    def add(self, member: Member, packed: bytes | memoryview, digest: bytes) -> None:
        """A member whose packed bytes are at hand."""
        self.begin(member)
        self.write(packed)
        self.end(digest)

    def add_content(self, name: str, mode: int, content: bytes) -> None:
        """A member from its content, deflated here."""
        member, packed = pack(name, mode, content)
        self.add(member, packed, hashlib.sha256(content).digest())

    def finish(
        self, kind: str, name: str, version: str, *, origin: str = "", facts: str = "", skipped: int = 0
    ) -> Bundle:
        """Publish `data` and return the bundle, its index not yet stored (see `keep`)."""
        return Bundle(
            kind=kind,
            name=name,
            version=version,
            data=self._output.commit(),
            size=self._offsets[-1],
            checksum=self._checksum,
            names=tuple(self._names),
            offsets=self._offsets,
            positions=self._positions,
            sizes=self._sizes,
            digests=bytes(self._digests),
            central=bytes(self._central),
            origin=origin,
            facts=facts,
            skipped=skipped,
        )


def pack(name: str, mode: int, content: bytes) -> tuple[Member, bytes]:
    """Deflate, or store where that is not smaller."""
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -15)
    packed = deflater.compress(content) + deflater.flush()
    method = DEFLATED
    if len(packed) >= len(content):
        packed, method = content, STORED
    return Member(name, mode, method, zlib.crc32(content), len(content), len(packed)), packed


def unpack(member: Member, packed: bytes) -> bytes:
    """The content of a member read from a bundle. Raises DamagedBundleError when it isn't what the record says."""
    try:
        content = packed if member.method == STORED else zlib.decompressobj(-15).decompress(packed, member.size + 1)
    except zlib.error:
        content = b""
    if len(content) != member.size or zlib.crc32(content) != member.crc:
        raise DamagedBundleError(f"{member.name} is damaged in the cache", hint="run the command again")
    return content


_FACTS = ("kind", "name", "version", "data", "size", "checksum", "origin", "facts", "skipped")


def encode(bundle: Bundle) -> bytes:
    """The index blob."""
    facts = {key: getattr(bundle, key) for key in _FACTS}
    sections = [
        json.dumps(facts, sort_keys=True).encode(),
        "\n".join(bundle.names).encode(),
        bundle.offsets.tobytes(),
        bundle.positions.tobytes() + bundle.sizes.tobytes(),
        bundle.digests,
        bundle.central,
    ]
    return MAGIC + _SECTIONS.pack(*map(len, sections)) + b"".join(sections)


def decode(blob: bytes) -> Bundle:
    """The bundle that an index blob describes. Raises DamagedBundleError for anything else."""
    try:
        return _decode(memoryview(blob))
    except (ValueError, struct.error, KeyError, TypeError) as error:
        raise DamagedBundleError(f"a bundle's index is not readable: {error}", hint="run the command again") from None


def _decode(blob: memoryview) -> Bundle:
    start = len(MAGIC)
    if blob[:start] != MAGIC:
        raise ValueError("unknown format")
    lengths = _SECTIONS.unpack_from(blob, start)
    sections: list[memoryview] = []
    position = start + _SECTIONS.size
    for length in lengths:
        sections.append(blob[position : position + length])
        position += length
    text, names, offsets, numbers, digests, central = sections
    facts = json.loads(bytes(text))
    every = tuple(str(names, "utf-8").split("\n")) if len(names) else ()
    head = (len(every) + 1) * 4
    if position != len(blob) or len(numbers) != head + len(every) * 4 or len(digests) != DIGEST * len(every):
        raise ValueError("lengths disagree")
    return Bundle(
        names=every,
        offsets=_array("Q", offsets),
        positions=_array("I", numbers[:head]),
        sizes=_array("I", numbers[head:]),
        digests=bytes(digests),
        central=bytes(central),
        **facts,
    )


def _array(code: str, data: memoryview) -> array[int]:
    values: array[int] = array(code)
    values.frombytes(data)
    return values


def keep(bundle: Bundle, key: str, blobs: Blobs, actions: Actions) -> Bundle:
    """Store the index and remember it under `key`."""
    index = blobs.put([encode(bundle)])
    actions.put("bundle", key, index.encode())
    return load(index, blobs)


def recall(key: str, blobs: Blobs, actions: Actions) -> Bundle | None:
    """What `keep` remembered; None where it never was, was pruned or is damaged."""
    known = actions.get("bundle", key)
    if known is None:
        return None
    try:
        bundle = load(known.decode("ascii", "replace"), blobs)
    except StoreError:
        return None
    return bundle if blobs.has(bundle.data) else None


def load(index: str, blobs: Blobs) -> Bundle:
    """The bundle of an index digest, verified. Raises StoreError."""
    if not blobs.has(index):
        raise DamagedBundleError(f"the cache has no bundle {index[:16]}…", hint="run the command again")
    with blobs.open(index) as file:
        blob = file.read()
    if hashlib.sha256(blob).hexdigest() != index:
        raise blobs.corrupt(index)
    bundle = decode(blob)
    object.__setattr__(bundle, "index", index)
    return bundle
