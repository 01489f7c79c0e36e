"""An OCI image into a store of lazy images: flatten, place, cut, seal, send what is missing, publish the manifest.

Streams: in memory are the tree of files and a few chunks for each thread. Several may convert one image at once.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lading.lazy.chunk import BLOCK, LARGEST_METADATA_CHUNK, ChunkRecord, chunk_compressor, seal_chunk
from lading.lazy.erofs_image import MetadataImage
from lading.lazy.fault import ObjectMissingError, ObjectStoreError
from lading.lazy.flatten import flatten
from lading.lazy.keys import AccountKey, MasterKey
from lading.lazy.manifest import Manifest, make_table, open_manifest, seal_manifest
from lading.lazy.place import Layout, Plan
from lading.lazy.recorded import pass_on
from lading.lazy.roots import ImageStore, Lease, Root
from lading.lazy.spool import Tar, check_layers, spooled
from lading.model.progress import Progress
from lading.oci.image import Image
from lading.oci.tar import Entry

if TYPE_CHECKING:
    from zstandard import ZstdCompressor

Item = TypeVar("Item")
Result = TypeVar("Result")
_ZEROS = bytes(LARGEST_METADATA_CHUNK)


@dataclass(frozen=True)
class Settings:
    """`account` owns the manifest. `first`: paths of a start-up trace, to be packed together. `workshop`: for layers
    unpacked meanwhile. `threads` seal and send. `again`: also when the store has the image already."""

    master: MasterKey
    account: str
    workshop: Path
    threads: int = 4
    first: Sequence[str] = ()
    again: bool = False

    @property
    def key(self) -> AccountKey:
        return self.master.account(self.account)


@dataclass
class Tally:
    """Chunks of one space: new to the store, there already, elsewhere in this image, left out as zeros; bytes unpacked."""

    unique: int = 0
    shared: int = 0
    repeated: int = 0
    zero: int = 0
    unique_bytes: int = 0
    shared_bytes: int = 0
    sent: int = 0
    """Bytes of objects that were sent."""

    @property
    def total(self) -> int:
        return self.unique + self.shared + self.repeated

    @property
    def share(self) -> float:
        """Of the chunks, those that were new."""
        return self.unique / self.total if self.total else 0.0


@dataclass(frozen=True)
class Conversion:
    """What became of an image. `known`: the store had it, and nothing was read. `inherited`: chunks that its first start
    will fetch ahead, since one of a like image touched them."""

    digest: str
    root: Root
    manifest: Manifest
    manifest_bytes: int
    data: Tally = field(default_factory=Tally)
    metadata: Tally = field(default_factory=Tally)
    known: bool = False
    inherited: int = 0

    @property
    def image_bytes(self) -> int:
        return self.manifest.data.content_bytes + self.manifest.metadata.content_bytes

    @property
    def share(self) -> float:
        """New chunks among all of the image."""
        total = self.data.total + self.metadata.total
        return (self.data.unique + self.metadata.unique) / total if total else 0.0


def convert(image: Image, store: ImageStore, settings: Settings, progress: Progress) -> Conversion:
    """Raises ImageRefusedError, ImageFormatError, StoreError, ObjectStoreError: what was sent by then isn't sent again."""
    check_layers(image.layers)
    with store.writing() as lease:
        known = None if settings.again else _known(image, store, lease.root, settings.key)
        if known is not None:
            return known
        with spooled(image, settings.workshop, progress) as layers:
            made = _Converter(image, store, lease, settings).run(layers, progress)
        # The unpacked layers are gone by now: making the chunks safe must not write those to the disk as well.
        sealed = seal_manifest(made.manifest, settings.key)
        store.publish(lease, settings.key.id, image.digest, sealed)
        inherited = 0
        with suppress(ObjectStoreError):  # the image is there; its first start takes longer
            inherited = pass_on(store, settings.key, lease.root, made.manifest)
        return replace(made, manifest_bytes=len(sealed), inherited=inherited)


def _known(image: Image, store: ImageStore, root: Root, key: AccountKey) -> Conversion | None:
    with suppress(ObjectMissingError):
        sealed = store.objects.get(root.image(key.id, image.digest))
        manifest = open_manifest(sealed, key)
        data = Tally(shared=len(manifest.data), shared_bytes=manifest.data.content_bytes)
        metadata = Tally(shared=len(manifest.metadata), shared_bytes=manifest.metadata.content_bytes)
        return Conversion(image.digest, root, manifest, len(sealed), data, metadata, known=True)
    return None


class _Converter:
    def __init__(self, image: Image, store: ImageStore, lease: Lease, settings: Settings) -> None:
        self._image, self._store, self._lease, self._settings = image, store, lease, settings
        self._salt = settings.master.salt(lease.root.salt_id)
        self._own = threading.local()
        self._seen: set[bytes] = set()
        self._lock = threading.Lock()

    def run(self, layers: Iterator[Tar], progress: Progress) -> Conversion:
        """`layers` come while the next ones are still being unpacked."""
        tars: list[Tar] = []

        def entries() -> Iterator[Iterator[tuple[Entry, int]]]:
            for tar in layers:
                self._lease.keep()
                tars.append(tar)
                yield tar.entries()

        root = flatten(entries())
        first = [os.fsencode(path).strip(b"/") for path in self._settings.first]
        layout = Layout(root, first)
        task = progress.start("seal chunks", sum(tar.size for tar in tars))
        with ThreadPoolExecutor(self._settings.threads, thread_name_prefix="convert") as threads:

            def table(sources: Iterable[tuple[int, int, Callable[[], bytes]]], tally: Tally) -> list[ChunkRecord]:
                records = []
                for record in in_order(threads, lambda source: self._chunk(*source, tally), sources, self._window):
                    self._lease.keep()
                    if record is not None:
                        records.append(record)
                        progress.advance(task, record.length)
                return records

            data, metadata = Tally(), Tally()
            data_records = table(((plan.offset, plan.length, _reader(plan, tars)) for plan in layout.plans()), data)
            size = max(layout.size, BLOCK)
            image = MetadataImage(root, self._uuid(first), size // BLOCK)
            pieces = _recut(image.pieces(lambda node: tars[node.layer].content(node, 0, node.size)))
            metadata_records = table(
                ((offset, len(piece), partial(bytes, piece)) for offset, piece in pieces), metadata
            )
        progress.finish(task)
        manifest = Manifest(
            bytes.fromhex(self._image.digest.removeprefix("sha256:")),
            self._lease.root.salt_id,
            make_table(image.size, metadata_records),
            make_table(size, data_records),
            self._annex(image.inodes, layout),
        )
        return Conversion(self._image.digest, self._lease.root, manifest, 0, data, metadata)

    @property
    def _window(self) -> int:
        """Chunks on their way at once: a slow one must not stop the others."""
        return self._settings.threads * 3

    def _annex(self, inodes: int, layout: Layout) -> dict[str, object]:
        annex: dict[str, object] = {"process": dict(self._image.process), "inodes": inodes}
        for name, pieces in (("together", layout.together), ("first", layout.first)):
            annex[name] = [[start // BLOCK, -(-end // BLOCK)] for start, end in pieces]
        if self._image.platform.architecture:
            annex["platform"] = self._image.platform.as_dict()
        return annex

    def _uuid(self, first: Sequence[bytes]) -> bytes:
        """Of what the bytes depend on: equal layers in equal order, equal image."""
        digest = hashlib.sha256(b"lading lazy image 1\0")
        for layer in self._image.layers:
            digest.update(layer.diff_id.encode() + b"\0")
        for path in first:
            digest.update(path + b"\0")
        return digest.digest()[:16]

    def _chunk(self, offset: int, length: int, read: Callable[[], bytes], tally: Tally) -> ChunkRecord | None:
        """Seal a chunk and send it if the store lacks it; None for zeros."""
        plain = read()
        assert len(plain) == length
        if plain == _ZEROS[:length]:
            with self._lock:
                tally.zero += 1
            return None
        sealed = seal_chunk(plain, self._salt, self._compressor())
        with self._lock:
            repeated = sealed.name in self._seen
            self._seen.add(sealed.name)
        if repeated:
            with self._lock:
                tally.repeated += 1
            return sealed.at(offset, length)
        # A size that differs is what a power cut left of an object: it is written again.
        key = self._lease.root.chunk(sealed.name)
        there = self._store.objects.size(key) == len(sealed.data)
        if not there:
            self._store.objects.put(key, sealed.data)
        with self._lock:
            tally.shared += there
            tally.unique += not there
            tally.shared_bytes += length if there else 0
            tally.unique_bytes += 0 if there else length
            tally.sent += 0 if there else len(sealed.data)
        return sealed.at(offset, length)

    def _compressor(self) -> ZstdCompressor:
        if not hasattr(self._own, "compressor"):
            self._own.compressor = chunk_compressor()
        own: ZstdCompressor = self._own.compressor
        return own


def _reader(plan: Plan, tars: Sequence[Tar]) -> Callable[[], bytes]:
    """Reads a chunk's content."""

    def read() -> bytes:
        if len(plan.pieces) == 1:
            piece = plan.pieces[0]
            return tars[piece.node.layer].content(piece.node, piece.start, piece.length)
        content = bytearray(plan.length)
        for piece in plan.pieces:
            part = tars[piece.node.layer].content(piece.node, piece.start, piece.length)
            content[piece.at : piece.at + piece.length] = part
        return bytes(content)

    return read


def _recut(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The metadata in chunks, each with its offset."""
    offset, buffer = 0, bytearray()
    for piece in pieces:
        buffer += piece
        while len(buffer) >= LARGEST_METADATA_CHUNK:
            yield offset, bytes(buffer[:LARGEST_METADATA_CHUNK])
            del buffer[:LARGEST_METADATA_CHUNK]
            offset += LARGEST_METADATA_CHUNK
    if buffer:
        yield offset, bytes(buffer)


def in_order(
    threads: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], window: int
) -> Iterator[Result]:
    """Results in the items' order, at most `window` under way. The first failure ends it, once those under way are done."""
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            if len(pending) >= window:
                yield pending.popleft().result()
            pending.append(threads.submit(function, item))
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
