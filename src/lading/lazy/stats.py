"""What a store of lazy images holds: each image, what it shares with others, what all take. Reads manifests, no chunk."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lading.lazy.keys import AccountKey
from lading.lazy.manifest import Manifest, identify, open_manifest
from lading.lazy.roots import ImageStore


@dataclass(frozen=True)
class ImageLine:
    """`content` bytes of metadata and data, `own` of them in chunks that no other image has. `reader`: its name for readers.

    `key`: the id of its account's key, in hex. An image that two accounts have is a line for each.
    """

    digest: str
    root: str
    chunks: int
    content: int
    own: int
    stored: int
    manifest: int
    reader: str
    key: str


@dataclass(frozen=True)
class StoreStats:
    """`content` is the sum of all images, `distinct` that of their different chunks, `stored` what these take in the store."""

    images: tuple[ImageLine, ...]
    content: int
    distinct: int
    stored: int
    chunks: int
    foreign: int
    """Images of other accounts, which can't be read with these keys."""

    @property
    def factor(self) -> float:
        """How many times smaller the store is than its images."""
        return self.content / self.stored if self.stored else 0.0


def measure(store: ImageStore, *keys: AccountKey) -> StoreStats:
    """Of these accounts' images; an image in several roots counts once, as the newest has it."""
    known = {key.id: key for key in keys}
    found: dict[tuple[str, bytes], tuple[str, Manifest, int]] = {}
    foreign: set[tuple[bytes, str]] = set()
    for root in store.roots():
        if root.expired is not None:
            continue
        for key_id, digest in store.images(root):
            if key_id not in known:
                foreign.add((key_id, digest))
                continue
            sealed = store.objects.get(root.image(key_id, digest))
            found[digest, key_id] = (root.id, open_manifest(sealed, known[key_id]), len(sealed))
    users: Counter[bytes] = Counter()
    lengths: dict[bytes, tuple[int, int]] = {}
    for _, manifest, _ in found.values():
        users.update(manifest.names())
        for table in (manifest.metadata, manifest.data):
            lengths.update((record.name, (record.length, record.stored)) for record in table)
    lines = [
        ImageLine(
            digest,
            root,
            len(manifest.metadata) + len(manifest.data),
            manifest.metadata.content_bytes + manifest.data.content_bytes,
            sum(lengths[name][0] for name in manifest.names() if users[name] == 1),
            manifest.metadata.stored_bytes + manifest.data.stored_bytes,
            size,
            identify(manifest),
            key_id.hex(),
        )
        for (digest, key_id), (root, manifest, size) in sorted(found.items(), key=lambda one: one[0])
    ]
    return StoreStats(
        tuple(lines),
        sum(line.content for line in lines),
        sum(length for length, _ in lengths.values()),
        sum(stored for _, stored in lengths.values()) + sum(line.manifest for line in lines),
        len(lengths),
        len(foreign),
    )
