"""The tars inside layers as files to read at any place: a plain layer's own blob, else a temporary file that goes away.

Bounded by what an image may hold; each layer's digest is verified.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from lading.lazy.tree import Node
from lading.model.progress import Progress
from lading.oci.descriptor import ImageFormatError
from lading.oci.image import Image
from lading.oci.layer import CHUNK, Layer
from lading.oci.media import COMPRESSION
from lading.oci.tar import Entry, Walker
from lading.oci.validate import LARGEST_IMAGE
from lading.store.folder import disk_errors

THREADS = 2
"""Layers spooled at once: decompression and hashing leave Python's lock, more than this waits for the disk."""


class Tar:
    """A layer's tar. `read` may be called by several threads at once."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size

    def read(self, position: int, size: int) -> bytes:
        """Exactly so many bytes. Raises ImageFormatError where the file lacks them."""
        parts: list[bytes] = []
        while size:
            part = os.pread(self._file.fileno(), size, position)
            if not part:
                raise ImageFormatError("a layer's file became shorter while it was read", hint="run the command again")
            parts.append(part)
            position, size = position + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def content(self, node: Node, start: int, size: int) -> bytes:
        """Of a file of this layer; the holes of a sparse one are zeros."""
        if node.pieces is None:
            return self.read(node.position + start, size)
        found, position, end = bytearray(size), node.position, start + size
        for place, length in node.pieces:
            first, last = max(place, start), min(place + length, end)
            if first < last:
                found[first - start : last - start] = self.read(position + first - place, last - first)
            position += length
        return bytes(found)

    def entries(self) -> Iterator[tuple[Entry, int]]:
        """Every entry and where its content begins."""
        walker = Walker(self._pieces())
        for entry in walker:
            yield entry, walker.position

    def _pieces(self) -> Iterator[bytes]:
        for position in range(0, self.size, CHUNK):
            yield self.read(position, min(CHUNK, self.size - position))


@contextmanager
def spooled(image: Image, folder: Path, progress: Progress) -> Iterator[Iterator[Tar]]:
    """The tars of an image's layers, the lowest first, each as soon as it is there; usable until the end of the block.

    Raises ImageFormatError, StoreError for a full disk.
    """
    budget = _Budget(LARGEST_IMAGE)
    with ExitStack() as stack, ThreadPoolExecutor(THREADS, thread_name_prefix="spool") as threads:
        try:
            jobs = [threads.submit(_spool, layer, _file(layer, folder, stack), budget) for layer in image.layers]
            yield _ready(image.layers, jobs, progress)
        except BaseException:
            budget.stop()
            threads.shutdown(wait=True, cancel_futures=True)
            raise


def _ready(layers: Sequence[Layer], jobs: Sequence[Future[Tar]], progress: Progress) -> Iterator[Tar]:
    task = progress.start("read layers", sum(layer.size for layer in layers))
    for layer, job in zip(layers, jobs, strict=True):
        yield job.result()
        progress.advance(task, layer.size)
    progress.finish(task)


class _Budget:
    """Bytes that all layers together may still unpack to."""

    def __init__(self, limit: int) -> None:
        self._sizes: list[int] = []
        self._limit = limit

    def spend(self, size: int) -> None:
        self._sizes.append(size)  # one operation for Python: needs no lock
        if len(self._sizes) > 1000:
            self._sizes = [sum(self._sizes)]
        if sum(self._sizes) > self._limit:
            raise ImageFormatError(
                f"the image unpacks to more than {LARGEST_IMAGE:,} bytes",
                hint="Lambda takes no larger one; leave out what the function does not need",
            )

    def stop(self) -> None:
        self._limit = -1


def _file(layer: Layer, folder: Path, stack: ExitStack) -> BinaryIO:
    """What will hold the tar: the blob itself where it is one."""
    if COMPRESSION.get(layer.media_type) == "":
        return stack.enter_context(layer.compressed())
    with disk_errors(f"can't make a temporary file in {folder}"):
        return stack.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))


def _spool(layer: Layer, file: BinaryIO, budget: _Budget) -> Tar:
    plain = COMPRESSION.get(layer.media_type) == ""
    digest, size = hashlib.sha256(), 0
    for piece in layer.uncompressed():
        budget.spend(len(piece))
        digest.update(piece)
        size += len(piece)
        if not plain:
            with disk_errors("can't unpack a layer to the temporary folder"):
                _write(file, piece)
    if f"sha256:{digest.hexdigest()}" != layer.diff_id:
        raise ImageFormatError(
            f"layer {layer.digest} unpacks to sha256:{digest.hexdigest()}, not {layer.diff_id}",
            hint="the image is damaged; pull or build it anew",
        )
    return Tar(file, size)


def _write(file: BinaryIO, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]


def check_layers(layers: Sequence[Layer]) -> None:
    """Raises ImageFormatError for a compression that nobody here knows."""
    for layer in layers:
        if layer.media_type not in COMPRESSION:
            raise ImageFormatError(
                f"layer {layer.digest} has the unknown media type {layer.media_type!r}",
                hint="convert the image: skopeo copy --format oci",
            )
