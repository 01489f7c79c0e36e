"""Removes blobs that no image is made of. What was asked for a short while ago stays: its image may be on its way.

A version of a function that runs an image keeps all of it, by the digest in its record's `_image`, whatever becomes of the
repository.
"""

from __future__ import annotations

from collections.abc import Iterator

from lading.errors import LadingError
from lading.service.registry.catalog import BLOB, IMAGE, Catalog, stored_as
from lading.service.registry.content import Content
from lading.service.registry.manifest import read_manifest
from lading.service.registry.names import Place

GRACE = 3600.0
"""Seconds that a blob without an image stays after it was last sent or asked for."""
_HEX = len("sha256:")


def collect(catalog: Catalog, content: Content) -> int:
    """Bytes freed. Blocks for as long as it takes to list the store; other requests go on."""
    content.give_up_idle()
    for place in list(catalog.everywhere()):
        _drop_unused(catalog, place)
    used = set(_used(catalog, content))
    freed = 0
    for digest, stat in content.blobs.list():
        if digest not in used and _delete(catalog, content, digest):
            freed += stat.st_size
    return freed


def _drop_unused(catalog: Catalog, place: Place) -> None:
    """A repository's blobs of which none of its images is made any more."""
    with catalog.state.transaction():
        in_images = {digest for record in catalog.images(place) for digest in record.document["blobs"]}
        for record in catalog.blobs(place):
            if record.key.name not in in_images and catalog.now() - record.document["used"] >= GRACE:
                catalog.drop_blob(place, record.key.name)


def _used(catalog: Catalog, content: Content) -> Iterator[str]:
    for kind in (BLOB, IMAGE):
        for document in catalog.state.documents(kind):
            yield stored_as(document)
    for document in catalog.state.documents("version"):
        for version in (document, document.get("_serving", {})):
            if "_image" in version:
                yield from _made_of(version["_image"], content)


def _made_of(digest: str, content: Content) -> Iterator[str]:
    """A manifest and the blobs of it."""
    yield digest[_HEX:]
    try:
        facts = read_manifest(content.blobs.read(digest[_HEX:]))
    except LadingError:
        return
    yield from (blob[_HEX:] for blob in facts.blobs)


def _delete(catalog: Catalog, content: Content, digest: str) -> bool:
    """Unless it has come into use since it was looked at."""
    with catalog.state.transaction():
        known = (("$.digest", f"sha256:{digest}"), ("$.stored", digest))
        found = any(catalog.state.find_everywhere(kind, *one) for kind in (BLOB, IMAGE) for one in known)
        if found or content.is_arriving(digest):
            return False
        content.blobs.delete(digest)
        return True
