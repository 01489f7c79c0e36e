"""One chunk: packed, encrypted under a key made of its own content, named by what is stored. No I/O.

The same bytes under the same salt give the same object, whoever writes it (docs/design/lazy-format.md, "Chunks").
After Brooker et al., On-demand Container Loading in AWS Lambda, USENIX ATC 2023, section 3.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lading.lazy.fault import ChunkError, CryptographyMissingError

if TYPE_CHECKING:
    from zstandard import ZstdCompressor

BLOCK = 4096
LARGEST_CHUNK = 512 << 10
"""Bytes of a data chunk before packing. The paper's size (section 3.1)."""
LARGEST_METADATA_CHUNK = 4 << 20
"""Bytes of a metadata chunk: metadata is fetched whole, so fewer and larger ones serve it better."""
LEVEL = 1
_KEY_CONTEXT = b"lading lazy chunk 1\0"
_WORTH = 16
"""Packed bytes are kept if they are smaller by at least a 16th: less is not worth a decompression at each read."""


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """A manifest's line on one chunk: `offset` and `length` in the image's space, `stored` the object's size, in bytes.

    `name` is the SHA-256 of the object, `key` decrypts it, `compressed` says whether zstd is inside.
    """

    offset: int
    length: int
    stored: int
    name: bytes
    key: bytes
    compressed: bool

    @property
    def hex(self) -> str:
        return self.name.hex()

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class SealedChunk:
    """A chunk as it goes to the store."""

    name: bytes
    key: bytes
    compressed: bool
    data: bytes

    def at(self, offset: int, length: int) -> ChunkRecord:
        """Its record, for content of `length` bytes at `offset`."""
        return ChunkRecord(offset, length, len(self.data), self.name, self.key, self.compressed)


def seal_chunk(plain: bytes | memoryview, salt: bytes, compressor: ZstdCompressor) -> SealedChunk:
    """Pack, encrypt and name. `compressor` is one thread's own, from `chunk_compressor`."""
    packed: bytes | memoryview = compressor.compress(plain)
    compressed = len(packed) <= len(plain) - len(plain) // _WORTH - 1
    if not compressed:
        packed = plain
    digest = hashlib.sha256(_KEY_CONTEXT + salt + (b"\1" if compressed else b"\0"))
    digest.update(packed)
    key = digest.digest()
    data = _crypt(key, packed)
    return SealedChunk(hashlib.sha256(data).digest(), key, compressed, data)


def decode_chunk(record: ChunkRecord, ciphertext: bytes) -> bytes:
    """The content, verified: size and digest of what was stored, and the length inside. Raises ChunkError."""
    if len(ciphertext) != record.stored:
        raise _wrong(record, f"has {len(ciphertext):,} bytes instead of {record.stored:,}")
    if hashlib.sha256(ciphertext).digest() != record.name:
        raise _wrong(record, "has another digest than its name")
    packed = _crypt(record.key, ciphertext)
    plain = _unpack(record, packed) if record.compressed else packed
    if len(plain) != record.length:
        raise _wrong(record, f"holds {len(plain):,} bytes instead of {record.length:,}")
    return plain


def chunk_compressor() -> ZstdCompressor:
    """A compressor with the format's settings; not to be shared between threads."""
    from zstandard import ZstdCompressor

    return ZstdCompressor(level=LEVEL, write_content_size=True, write_checksum=False)


def load() -> None:
    """Brings into memory what opening a chunk needs: the first one needn't wait for it. Raises CryptographyMissingError."""
    import zstandard

    zstandard.ZstdDecompressor()
    _crypt(bytes(32), b"")


def _unpack(record: ChunkRecord, packed: bytes) -> bytes:
    from zstandard import ZstdDecompressor, ZstdError, frame_content_size

    try:
        # The size in the frame is checked first: what is decompressed is never larger than the manifest says.
        if frame_content_size(packed) != record.length:
            raise _wrong(record, "is compressed from another length")
        return ZstdDecompressor().decompress(packed, max_output_size=record.length)
    except ZstdError as error:
        raise _wrong(record, f"can't be decompressed: {error}") from None


def _crypt(key: bytes, data: bytes | memoryview) -> bytes:
    """AES-256-CTR from counter 0. A key belongs to one content, so the counter never meets a key twice."""
    cipher, algorithms, modes = _ciphers()
    return bytes(cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(data))


@functools.cache
def _ciphers() -> tuple[Any, Any, Any]:
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError:
        raise cryptography_missing() from None
    return Cipher, algorithms, modes


def cryptography_missing() -> CryptographyMissingError:
    return CryptographyMissingError(
        "lazy images need the package cryptography, which is not installed",
        hint="install it: pip install 'lading[lazy]'",
    )


def _wrong(record: ChunkRecord, why: str) -> ChunkError:
    return ChunkError(
        f"chunk {record.hex[:16]}… {why}",
        hint="the copy is damaged: fetch it again, or convert the image anew",
    )
