"""A layer as a value: digest of what is stored, digest of the tar inside, and both as streams. Reads blobs, writes none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from lading.oci.descriptor import Content, Descriptor, ImageFormatError
from lading.oci.media import COMPRESSION

CHUNK = 1 << 20
_GZIP = 31
"""zlib's window bits for a gzip member."""
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Layer:
    """One layer. `size` is that of the stored (compressed) blob in bytes, `diff_id` the digest of the plain tar."""

    descriptor: Descriptor
    diff_id: str
    content: Content = field(repr=False, compare=False)
    created_by: str = ""
    """For the image's history: what made it."""

    @property
    def digest(self) -> str:
        return self.descriptor.digest

    @property
    def size(self) -> int:
        return self.descriptor.size

    @property
    def media_type(self) -> str:
        return self.descriptor.media_type

    def compressed(self) -> BinaryIO:
        """The blob as it is stored and sent; the caller closes it."""
        return self.content.open(self.descriptor.hex)

    def uncompressed(self) -> Iterator[bytes]:
        """The tar in pieces of a few MiB at most. Raises ImageFormatError for a damaged or unknown compression."""
        kind = COMPRESSION.get(self.media_type)
        if kind is None:
            raise ImageFormatError(
                f"layer {self.digest} has the unknown media type {self.media_type!r}",
                hint="convert the image: skopeo copy --format oci",
            )
        with closing(self.compressed()) as stream:
            yield from _DECODERS[kind](stream, self.digest)


class Readable(Protocol):
    """What decoders read from: at most so many bytes, none at the end."""

    def read(self, size: int, /) -> bytes: ...


class Pieces:
    """Pieces as something to read from, one at a time."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._buffer = b""

    def read(self, size: int, /) -> bytes:
        if not self._buffer:
            self._buffer = next(self._pieces, b"")
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


class _Inflater(Protocol):
    def __call__(self, stream: BinaryIO, what: str) -> Iterator[bytes]: ...


def plain(stream: Readable, what: str) -> Iterator[bytes]:
    while data := stream.read(CHUNK):
        yield data


def gunzip(stream: Readable, what: str) -> Iterator[bytes]:
    """All members of a gzip stream, each piece at most CHUNK × 4 bytes: a bomb costs time, not memory.

    By Intel's ISA-L, which takes half of zlib's time.
    """
    from isal import isal_zlib

    inflater = isal_zlib.decompressobj(_GZIP)
    fresh = begins = True
    try:
        while data := stream.read(CHUNK):
            if begins and not _GZIP_MAGIC.startswith(data[:2]):  # ISA-L says nothing of what is shorter than a header
                raise _damaged(what, f"not gzip: it begins with {data[:2]!r}")
            begins = False
            while data:
                fresh = False
                if content := inflater.decompress(data, CHUNK * 4):
                    yield content
                data = inflater.unconsumed_tail
                if inflater.eof:
                    data = inflater.unused_data
                    inflater, fresh = isal_zlib.decompressobj(_GZIP), True
                    if not data.strip(b"\0"):
                        data = b""  # padding after the last member, as RFC 1952 tools allow
        while not fresh and (content := inflater.decompress(inflater.unconsumed_tail, CHUNK * 4)):
            yield content
    except isal_zlib.error as error:  # type: ignore[misc]  # its stub calls the class an instance
        raise _damaged(what, f"not gzip: {error}") from None
    if not fresh and not inflater.eof:
        raise _damaged(what, "it ends in the middle of a gzip member")


def unzstd(stream: BinaryIO, what: str) -> Iterator[bytes]:
    """All frames of a zstd stream, with a window of at most 128 MiB."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    try:
        with decompressor.stream_reader(stream, read_across_frames=True, closefd=False) as reader:
            while data := reader.read(CHUNK):
                yield data
    except zstandard.ZstdError as error:
        raise _damaged(what, f"not zstd: {error}") from None


_DECODERS: dict[str, _Inflater] = {"": plain, "gzip": gunzip, "zstd": unzstd}


def _damaged(what: str, why: str) -> ImageFormatError:
    return ImageFormatError(f"layer {what} is damaged: {why}", hint="pull or build the image anew")
