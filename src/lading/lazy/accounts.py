"""One image for several accounts: each has a manifest of its own, sealed under its own key, and the chunks are the same.

For whoever holds the master key and knows that the other account may have the image: nothing is read or sent but a manifest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from lading.lazy.fault import LazyFormatError, ObjectMissingError
from lading.lazy.keys import AccountKey
from lading.lazy.manifest import Manifest, identify, open_manifest, seal_manifest
from lading.lazy.recorded import keep_trace
from lading.lazy.roots import ImageStore, Root
from lading.lazy.sealed_trace import open_trace


def give(store: ImageStore, digest: str, owners: Iterable[AccountKey], heir: AccountKey) -> bool:
    """Whether the heir has the image in the active root now, from one of the owners or before.

    Raises ObjectStoreError, LeaseLostError.
    """
    with store.writing() as lease:
        root = lease.root
        if store.objects.size(root.image(heir.id, digest)) is not None:
            return True
        for owner in owners:
            with contextlib.suppress(ObjectMissingError, LazyFormatError):  # who can't give it is passed over
                manifest = open_manifest(store.objects.get(root.image(owner.id, digest)), owner)
                store.name(lease, heir.id, digest, seal_manifest(manifest, heir))
                _give_start(store, root, manifest, owner, heir)
                return True
    return False


def _give_start(store: ImageStore, root: Root, manifest: Manifest, owner: AccountKey, heir: AccountKey) -> None:
    """What is missing or damaged of it costs the heir's first start some time and nothing else."""
    with contextlib.suppress(ObjectMissingError, LazyFormatError):
        sealed = store.objects.get(root.trace(owner.id, manifest.digest))
        order = open_trace(sealed, len(manifest.data), identify(manifest), owner)
        keep_trace(store, heir, root, manifest, order)
