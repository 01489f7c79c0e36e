"""Recorded starts as a store keeps them, beside the manifests: written, and passed on to images that are like theirs.

A new version of an image has nearly all chunks of the one before under other numbers: names tell which they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from lading.lazy.fault import LazyFormatError, ObjectMissingError
from lading.lazy.keys import AccountKey
from lading.lazy.manifest import Manifest, identify, open_manifest
from lading.lazy.roots import ImageStore, Root
from lading.lazy.sealed_trace import open_trace, seal_trace

MOST_LOOKED_AT = 64
"""Images with a recorded start, of which the one most alike is taken."""
LEAST_SHARED = 0.5
"""Of the other image's chunks: with fewer in common its start says little about this one's."""
_AT_ONCE = 8


@dataclass(frozen=True)
class _Start:
    """A start of another image. `order`: its touched chunks in this image's numbers; `shared`: of all its chunks."""

    order: list[int]
    shared: float


def keep_trace(store: ImageStore, key: AccountKey, root: Root, manifest: Manifest, order: Sequence[int]) -> None:
    """In place of the one that the store has of this image."""
    sealed = seal_trace(order, len(manifest.data), identify(manifest), key)
    store.objects.put(root.trace(key.id, manifest.digest), sealed)


def pass_on(store: ImageStore, key: AccountKey, root: Root, manifest: Manifest) -> int:
    """Gives an image that has no recorded start that of the image of this account most like it. The chunks it then has.

    Raises ObjectStoreError.
    """
    own = root.trace(key.id, manifest.digest)
    if store.objects.size(own) is not None:
        return 0
    numbers = manifest.data.numbers()
    folder = own.rpartition("/")[0] + "/"
    digests = [f"sha256:{name.rpartition('/')[2]}" for name in islice(store.objects.list(folder), MOST_LOOKED_AT)]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lazy-starts") as threads:
        found = threads.map(lambda digest: _start(store, key, root, digest, numbers), digests)
        starts = [start for start in found if start is not None and start.shared >= LEAST_SHARED]
    best = max(starts, key=lambda start: start.shared, default=None)
    if best is None or not best.order:
        return 0
    keep_trace(store, key, root, manifest, best.order)
    return len(best.order)


def _start(store: ImageStore, key: AccountKey, root: Root, digest: str, numbers: dict[bytes, int]) -> _Start | None:
    """None where it can't be read: that costs the new image's first start some time and nothing else."""
    with contextlib.suppress(ObjectMissingError, LazyFormatError):
        other = open_manifest(store.objects.get(root.image(key.id, digest)), key)
        sealed = store.objects.get(root.trace(key.id, digest))
        touched = open_trace(sealed, len(other.data), identify(other), key)
        names = [other.data[index].name for index in touched]
        known = other.data.numbers()
        shared = sum(name in numbers for name in known) / max(1, len(known))
        return _Start([numbers[name] for name in names if name in numbers], shared)
    return None
