"""Small images made in memory or in a store, sound and broken ones, for the tests of oci."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from lading.oci import media
from lading.oci.descriptor import Descriptor, Platform, digest_of
from lading.oci.image import Image, empty
from lading.oci.layer import Layer

AMD64 = Platform("linux", "amd64")


class MemoryContent:
    """Blobs in a dictionary."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def add(self, data: bytes) -> str:
        digest = digest_of(data)
        self.blobs[digest.removeprefix("sha256:")] = data
        return digest

    def has(self, digest: str) -> bool:
        return digest in self.blobs

    def path(self, digest: str) -> Path:
        raise NotImplementedError

    def open(self, digest: str) -> BinaryIO:
        return io.BytesIO(self.blobs[digest])


def tar_of(members: Iterable[tuple[str, dict[str, Any], bytes]]) -> bytes:
    """A tar by Python's own writer: (name, TarInfo attributes, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, attributes, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def layer_of(content: MemoryContent, tar: bytes, **changes: Any) -> Layer:
    """A gzip layer; `changes` make it lie: digest, size, diff_id, media_type, blob."""
    blob = changes.get("blob", gzip.compress(tar, 1, mtime=0))
    digest = changes.get("digest") or digest_of(blob)
    content.blobs[digest.removeprefix("sha256:")] = blob
    descriptor = Descriptor(changes.get("media_type", media.OCI_LAYER_GZIP), digest, changes.get("size", len(blob)))
    return Layer(descriptor, changes.get("diff_id", f"sha256:{hashlib.sha256(tar).hexdigest()}"), content, "test")


def image_of(*layers: Layer) -> Image:
    return empty(AMD64).append(layers).configure({"Entrypoint": ["/run"]})


FILE = ("var/task/app.py", {"mode": 0o644}, b"print('hello')\n" * 50)
