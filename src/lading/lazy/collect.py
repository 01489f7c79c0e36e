"""Garbage collection by roots: what is wanted is copied to a new root, and the old one goes once nobody can be using it.

Deletes only roots that have been expired for the grace, have no live lease and no image that isn't elsewhere. Safe beside
converters, readers and other collectors (docs/design/lazy-format.md, "Roots").
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lading.lazy.chunk import ChunkRecord, chunk_compressor, decode_chunk, seal_chunk
from lading.lazy.fault import LazyFormatError, ObjectMissingError
from lading.lazy.keys import AccountKey, MasterKey
from lading.lazy.manifest import ChunkTable, Manifest, make_table, open_manifest, seal_manifest
from lading.lazy.roots import Clock, ImageStore, Lease, Root

GRACE_SECONDS = 24 * 3600.0


@dataclass
class Collected:
    """What a collection did: roots by id; images and chunks moved to the active root; objects deleted."""

    made: str = ""
    images: int = 0
    chunks: int = 0
    deleted: int = 0
    expired: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    """Why a root stays for now, in words."""


class Collector:
    """`accounts` are all whose images the store may hold: a root with an image of another one is left alone."""

    def __init__(
        self, store: ImageStore, master: MasterKey, accounts: Iterable[str], *, grace: float = GRACE_SECONDS,
        clock: Clock = time.time,
    ) -> None:  # fmt: skip
        self._store, self._master, self._grace, self._clock = store, master, grace, clock
        self._keys: Mapping[bytes, AccountKey] = {key.id: key for key in map(master.account, accounts)}
        self._compressor = chunk_compressor()

    def collect(self, *, new_salt: bool = False) -> Collected:
        """One round; the next one does what had to wait."""
        done = Collected()
        roots = self._store.roots()
        if not roots:
            return done
        if new_salt or self.garbage(roots[-1]):
            done.made = self._store.new_root(None if new_salt else roots[-1].salt_id).id
            roots = self._store.roots()
        for root in roots[:-1]:
            if root.expired is None:
                self._empty(root, done)
            elif self._clock() - root.expired >= self._grace:
                self._remove(root, done)
            else:
                done.waiting += (f"root {root.id} has expired and is kept for the grace",)
        return done

    def garbage(self, root: Root) -> bool:
        """Whether a root holds a chunk that none of its images needs; what an upload brings at the moment looks like one."""
        needed: set[str] = set()
        for key_id, digest in self._store.images(root):
            key = self._keys.get(key_id)
            if key is None:
                return False
            with contextlib.suppress(ObjectMissingError):
                sealed = self._store.objects.get(root.image(key_id, digest))
                needed |= {root.chunk(name) for name in open_manifest(sealed, key).names()}
        return any(key not in needed for key in self._store.objects.list(root.key("chunks") + "/"))

    def _empty(self, root: Root, done: Collected) -> None:
        """Copy a retired root's images to the active one; it has expired then."""
        if self._store.leases(root, "writer"):
            done.waiting += (f"root {root.id} is being written to",)
            return
        # No writer is left and none can come: the list is complete from here on.
        for key_id, digest in self._store.images(root):
            if not self._try_move(root, key_id, digest, done):
                return
        self._store.objects.put(
            root.end, f"{int(self._clock())}\n".encode()
        )  # never ahead: a grace of 0 is over at once
        done.expired += (root.id,)

    def _try_move(self, root: Root, key_id: bytes, digest: str, done: Collected) -> bool:
        """Whether the root can do without an image; why not is noted."""
        if key_id not in self._keys:
            done.waiting += (f"root {root.id} has an image of the unknown account key {key_id.hex()}",)
            return False
        try:
            self._move(root, key_id, digest, done)
        except LazyFormatError as error:
            done.waiting += (f"root {root.id}: image {digest} can't be copied: {error.message}",)
            return False
        except ObjectMissingError as error:
            if self._store.objects.size(root.image(key_id, digest)) is not None:
                done.waiting += (f"root {root.id}: image {digest} is incomplete: {error.message}",)
                return False
        return True

    def _move(self, root: Root, key_id: bytes, digest: str, done: Collected) -> None:
        objects, key = self._store.objects, self._keys[key_id]
        with self._store.writing() as lease:
            target = lease.root
            if objects.size(target.image(key_id, digest)) is not None:
                return
            manifest = open_manifest(objects.get(root.image(key_id, digest)), key)
            if target.salt_id == root.salt_id:
                done.chunks += self._copy_chunks(manifest, root, lease)
            else:
                manifest = self._seal_anew(manifest, root, lease)
                done.chunks += len(manifest.metadata) + len(manifest.data)
            with contextlib.suppress(ObjectMissingError):
                objects.copy(root.trace(key_id, digest), target.trace(key_id, digest))
            if objects.size(root.image(key_id, digest)) is None:
                return  # removed by its owner meanwhile
            self._store.publish(lease, key_id, digest, seal_manifest(manifest, key))
            done.images += 1

    def _copy_chunks(self, manifest: Manifest, root: Root, lease: Lease) -> int:
        objects, copied = self._store.objects, 0
        for record in _records(manifest):
            lease.keep()
            if objects.size(lease.root.chunk(record.name)) != record.stored:
                objects.copy(root.chunk(record.name), lease.root.chunk(record.name))
                copied += 1
        return copied

    def _seal_anew(self, manifest: Manifest, root: Root, lease: Lease) -> Manifest:
        salt = self._master.salt(lease.root.salt_id)

        def table(old: ChunkTable) -> ChunkTable:
            return make_table(old.size, [self._reseal(record, root, lease, salt) for record in old])

        return replace(
            manifest, salt_id=lease.root.salt_id, metadata=table(manifest.metadata), data=table(manifest.data)
        )

    def _reseal(self, record: ChunkRecord, root: Root, lease: Lease, salt: bytes) -> ChunkRecord:
        lease.keep()
        objects = self._store.objects
        plain = decode_chunk(record, objects.get(root.chunk(record.name)))
        sealed = seal_chunk(plain, salt, self._compressor)
        key = lease.root.chunk(sealed.name)
        if objects.size(key) != len(sealed.data):
            objects.put(key, sealed.data)
        return sealed.at(record.offset, record.length)

    def _remove(self, root: Root, done: Collected) -> None:
        """Delete an expired root that nobody uses. What a killed collector left half deleted goes the same way."""
        if self._store.leases(root):
            done.waiting += (f"root {root.id} has expired but is still being read",)
            return
        kept = [one for one in self._store.roots() if one.expired is None]
        for key_id, digest in self._store.images(root):
            # One that is here only was published by a converter that had been stopped for longer than its lease.
            if not self._has_one(kept, key_id, digest) and not self._try_move(root, key_id, digest, done):
                return
        objects = self._store.objects
        for folder in ("images", "traces", "chunks", "leases"):
            for key in list(objects.list(root.key(folder) + "/")):
                objects.delete(key)
                done.deleted += 1
        objects.delete(root.record)
        objects.delete(root.end)
        done.removed += (root.id,)

    def _has_one(self, roots: Sequence[Root], key_id: bytes, digest: str) -> bool:
        return any(self._store.objects.size(root.image(key_id, digest)) is not None for root in roots)


def _records(manifest: Manifest) -> list[ChunkRecord]:
    return [*manifest.metadata, *manifest.data]
