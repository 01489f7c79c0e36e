"""Writes a layer into a store: a tar with fixed times and owners, compressed. Same entries in, same bytes out.

With gzip, content that is already deflated is not compressed again: each such file is a gzip member of its own (RFC 1952, 2.2),
so that its deflate stream is copied as it is. What is between two of them is deflated here. Reads no file itself.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from lading.model.blobs import Blobs, BlobWriter
from lading.oci import tar
from lading.oci.descriptor import Descriptor, ImageFormatError
from lading.oci.layer import Layer
from lading.oci.media import OCI_LAYER_GZIP, OCI_LAYER_ZSTD

if TYPE_CHECKING:
    from zstandard import ZstdCompressionObj

FORMAT = 1
"""Raise when the same entries would give other bytes."""
LEVEL = 6
ZSTD_LEVEL = 3
PIECE = 1 << 20
"""Bytes of plain tar that are deflated into one member."""
_MEMBER_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Deflate, no name, no time, no flags, unknown system: RFC 1952, 2.3."""
_MEMBER_TAIL = struct.Struct("<II")
MEDIA_TYPES = {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}


class Encoder(Protocol):
    """Turns tar bytes into layer bytes. `wants_deflated` says that ready deflate streams are of use."""

    wants_deflated: bool

    def plain(self, data: bytes) -> None: ...

    def begin(self) -> None: ...

    def deflated(self, packed: bytes | memoryview) -> None: ...

    def end(self, crc: int, size: int) -> None: ...

    def finish(self) -> None: ...


class GzipEncoder:
    """Members of two sorts: deflated here from what was gathered, or copied."""

    wants_deflated = True

    def __init__(self, output: BlobWriter) -> None:
        self._output = output
        self._gathered = bytearray()

    def plain(self, data: bytes) -> None:
        self._gathered += data
        while len(self._gathered) >= PIECE:
            self._member(bytes(self._gathered[:PIECE]))
            del self._gathered[:PIECE]

    def begin(self) -> None:
        self._flush()
        self._output.write(_MEMBER_HEAD)

    def deflated(self, packed: bytes | memoryview) -> None:
        self._output.write(packed)

    def end(self, crc: int, size: int) -> None:
        self._output.write(_MEMBER_TAIL.pack(crc, size & 0xFFFFFFFF))

    def finish(self) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._gathered:
            self._member(bytes(self._gathered))
            self._gathered.clear()

    def _member(self, data: bytes) -> None:
        deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -15)
        self._output.write(_MEMBER_HEAD + deflater.compress(data) + deflater.flush())
        self.end(zlib.crc32(data), len(data))


class ZstdEncoder:
    """One frame, one thread: more threads would cut the frame elsewhere."""

    wants_deflated = False

    def __init__(self, output: BlobWriter) -> None:
        import zstandard

        self._output = output
        self._compressor: ZstdCompressionObj = zstandard.ZstdCompressor(ZSTD_LEVEL, threads=0).compressobj()

    def plain(self, data: bytes) -> None:
        if packed := self._compressor.compress(data):
            self._output.write(packed)

    def begin(self) -> None:
        raise AssertionError("zstd has no use for deflate streams")

    def deflated(self, packed: bytes | memoryview) -> None:
        raise AssertionError("zstd has no use for deflate streams")

    def end(self, crc: int, size: int) -> None:
        raise AssertionError("zstd has no use for deflate streams")

    def finish(self) -> None:
        self._output.write(self._compressor.flush())


class LayerWriter:
    """Adds entries in the caller's order; `finish` publishes. Use inside `blobs.writer()`, see `write_layer`."""

    def __init__(self, output: BlobWriter, compression: str) -> None:
        self._counter = _Counter(output)
        self._encoder: Encoder = GzipEncoder(self._counter) if compression == "gzip" else ZstdEncoder(self._counter)
        self._compression = compression
        self._plain = hashlib.sha256()
        self.unpacked = 0
        """Bytes of tar so far."""

    def folder(self, name: str, mode: int = 0o755) -> None:
        self._add(tar.header(f"{name.rstrip('/')}/", tar.FOLDER, mode))

    def link(self, name: str, target: str) -> None:
        self._add(tar.header(name, tar.LINK, 0o777, link=target))

    def file(self, name: str, mode: int, content: bytes) -> None:
        """A file from its content."""
        self._add(tar.header(name, tar.FILE, mode, len(content)))
        self._add(content)
        self._add(tar.padding(len(content)))

    def begin(self, name: str, mode: int, size: int) -> None:
        """A file whose deflated content follows through `deflated`, then `end`."""
        self._add(tar.header(name, tar.FILE, mode, size))
        if self._encoder.wants_deflated and size:
            self._encoder.begin()

    def deflated(self, packed: bytes | memoryview, content: bytes) -> None:
        """The next bytes of the deflate stream, and what they inflate to (either may be empty)."""
        self._note(content)
        if self._encoder.wants_deflated:
            self._encoder.deflated(packed)
        else:
            self._encoder.plain(content)

    def end(self, crc: int, size: int) -> None:
        """Close what `begin` opened; CRC-32 and size of the content."""
        if self._encoder.wants_deflated and size:
            self._encoder.end(crc, size)
        self._add(tar.padding(size))

    def finish(self, content: Blobs, created_by: str) -> Layer:
        """End the tar and publish the blob."""
        self._add(tar.END)
        self._encoder.finish()
        digest = self._counter.commit()
        descriptor = Descriptor(MEDIA_TYPES[self._compression], f"sha256:{digest}", self._counter.size)
        return Layer(descriptor, f"sha256:{self._plain.hexdigest()}", content, created_by)

    def _add(self, data: bytes) -> None:
        if data:
            self._note(data)
            self._encoder.plain(data)

    def _note(self, content: bytes) -> None:
        self.unpacked += len(content)
        self._plain.update(content)


def compress(pieces: Iterable[bytes], blobs: Blobs, limit: int, created_by: str) -> tuple[Layer, int]:
    """A gzip layer of a finished tar, and the bytes of that tar. Raises ImageFormatError beyond `limit` bytes."""
    total, size = hashlib.sha256(), 0
    with blobs.writer() as output:
        counter = _Counter(output)
        encoder = GzipEncoder(counter)
        for piece in pieces:
            size += len(piece)
            if size > limit:
                raise ImageFormatError(f"a layer unpacks to more than {limit:,} bytes", hint="Lambda would refuse it")
            total.update(piece)
            encoder.plain(piece)
        encoder.finish()
        descriptor = Descriptor(OCI_LAYER_GZIP, f"sha256:{counter.commit()}", counter.size)
    return Layer(descriptor, f"sha256:{total.hexdigest()}", blobs, created_by), size


class _Counter:
    """A BlobWriter that knows how much was written."""

    def __init__(self, output: BlobWriter) -> None:
        self._output = output
        self.size = 0

    def write(self, data: bytes | memoryview, /) -> int:
        self.size += len(data)
        return self._output.write(data)

    def commit(self, *, expect: str = "") -> str:
        return self._output.commit(expect=expect)
