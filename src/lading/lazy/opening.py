"""From the digest of an image to what a mount needs: its manifest, where its chunks are, and a lease that keeps them there."""

from __future__ import annotations

from dataclasses import dataclass

from lading.lazy.images import ImageSource
from lading.lazy.keys import AccountKey
from lading.lazy.manifest import open_manifest
from lading.lazy.roots import ImageStore, Lease


@dataclass(frozen=True)
class Opening:
    """`lease` is to be kept (`Lease.keep`) while the image is mounted, and released afterwards."""

    source: ImageSource
    lease: Lease


def open_source(store: ImageStore, key: AccountKey, digest: str) -> Opening:
    """digest: "sha256:…" of the OCI manifest. Raises ObjectMissingError, WrongKeyError, ManifestError, ObjectStoreError."""
    root, sealed = store.find(key.id, digest)
    manifest = open_manifest(sealed, key)
    return Opening(ImageSource(manifest, root.key("chunks")), store.reading(root))
