"""An OCI image layout folder: `oci-layout`, `index.json`, `blobs/sha256/…`. Trusts none it reads; writes one whole or not at all.

Source: OCI image specification 1.1, "image layout".
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lading.errors import StoreError
from lading.model.blobs import Blobs
from lading.oci import media
from lading.oci.descriptor import (
    Descriptor,
    ImageFormatError,
    Platform,
    decode,
    digest_of,
    encode,
    read_descriptor,
    read_document,
)
from lading.oci.image import Image, read_image
from lading.oci.leftovers import remove_left, unfinished

VERSION = b'{"imageLayoutVersion":"1.0.0"}'
NAME = "org.opencontainers.image.ref.name"
ATTACHED = "attached.json"
"""An index of our own beside index.json: manifests that refer to the images. In index.json itself they would keep
`skopeo copy oci:FOLDER`, which wants one image there, from working."""


class LayoutWriteError(StoreError):
    """The layout folder can't be written."""


@dataclass(frozen=True)
class Document:
    """A JSON blob that is no layer: an artifact's manifest or its content."""

    descriptor: Descriptor
    data: bytes

    @classmethod
    def of(cls, media_type: str, data: bytes, **more: Any) -> Document:
        return cls(Descriptor(media_type, digest_of(data), len(data), **more), data)


class Layout:
    """A layout folder as blobs by hex digest, and its index."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        return self.root / "blobs" / "sha256" / digest

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def open(self, digest: str) -> BinaryIO:
        """Raises ImageFormatError for a blob that is missing or not a plain file."""
        return _open_plain(self.path(digest), f"blob {digest[:16]}… of {self.root}")

    def manifests(self) -> tuple[Descriptor, ...]:
        """What index.json lists. Raises ImageFormatError."""
        with _open_plain(self.root / "index.json", f"index.json of {self.root}") as file:
            data = file.read(media.LARGEST_MANIFEST + 1)
        return read_index(data, f"index.json of {self.root}")

    def attached(self) -> tuple[Descriptor, ...]:
        """Manifests that refer to the images here (SBOMs); none in a layout of somebody else's."""
        if not (self.root / ATTACHED).is_file():
            return ()
        with _open_plain(self.root / ATTACHED, f"{ATTACHED} of {self.root}") as file:
            data = file.read(media.LARGEST_MANIFEST + 1)
        return read_index(data, f"{ATTACHED} of {self.root}")

    def document(self, descriptor: Descriptor) -> bytes:
        """A manifest or index listed here."""
        return read_document(self, descriptor, f"manifest {descriptor.digest}", limit=media.LARGEST_MANIFEST)

    def images(self) -> Iterator[Image]:
        """Every image, those of indexes within the index included."""
        yield from (self._image(descriptor) for descriptor in self._expand(self.manifests(), depth=0))

    def image(self, platform: Platform | None = None, name: str = "") -> Image:
        """The one image, or the one for a platform or of a name. Raises ImageFormatError when there is none, or a choice."""
        candidates = [
            descriptor for descriptor in self.manifests() if not name or descriptor.annotations.get(NAME) == name
        ]
        images = [self._image(descriptor) for descriptor in self._expand(candidates, depth=0)]
        fitting = choose(images, platform)
        if len(fitting) != 1:
            raise not_one(f"{self.root}", images, platform)
        return fitting[0]

    def _expand(self, descriptors: Iterable[Descriptor], depth: int) -> Iterator[Descriptor]:
        if depth > 4:
            raise ImageFormatError(f"{self.root} nests indexes more than four deep", hint="the layout is broken")
        for descriptor in descriptors:
            if descriptor.media_type in media.INDEXES:
                inner = read_index(self.document(descriptor), f"index {descriptor.digest}")
                yield from self._expand(inner, depth + 1)
            elif descriptor.media_type in media.MANIFESTS and not is_attached(descriptor):
                data = self.document(descriptor)
                if not is_artifact(data):
                    yield descriptor

    def _image(self, descriptor: Descriptor) -> Image:
        return read_image(self.document(descriptor), self, descriptor.media_type)


def choose(images: Sequence[Image], platform: Platform | None) -> list[Image]:
    """Those for a platform, or all; the same image listed twice counts once."""
    unique = {image.digest: image for image in images}
    if platform is None:
        return list(unique.values())
    wanted = (platform.os, platform.architecture)
    return [image for image in unique.values() if (image.platform.os, image.platform.architecture) == wanted]


def not_one(where: str, images: Sequence[Image], platform: Platform | None) -> ImageFormatError:
    """The error for a choice that is none."""
    found = ", ".join(sorted({str(image.platform) for image in images})) or "none"
    wanted = f" for {platform}" if platform else ""
    return ImageFormatError(f"{where} does not hold one image{wanted}; it holds: {found}", hint="name one platform")


def read_index(data: bytes, what: str) -> tuple[Descriptor, ...]:
    """The descriptors of an index. Raises ImageFormatError."""
    document = decode(data, what, limit=media.LARGEST_MANIFEST)
    entries = document.get("manifests")
    if not isinstance(entries, list) or len(entries) > media.MOST_MANIFESTS:
        raise ImageFormatError(f"{what} has no list of at most {media.MOST_MANIFESTS} manifests", hint="it is broken")
    return tuple(read_descriptor(entry, f"entry {number} of {what}") for number, entry in enumerate(entries))


def is_artifact(manifest: bytes) -> bool:
    """Whether a manifest is something attached to an image (an SBOM, a signature) and no image itself."""
    document = decode(manifest, "the manifest", limit=media.LARGEST_MANIFEST)
    config = document.get("config")
    config_type = config.get("mediaType") if isinstance(config, dict) else ""
    return bool(document.get("artifactType")) or "subject" in document or config_type not in media.CONFIGS


def is_attached(descriptor: Descriptor) -> bool:
    """BuildKit's attestations are listed as images of an unknown platform."""
    return descriptor.annotations.get("vnd.docker.reference.type") == "attestation-manifest"


def write_layout(root: Path, images: Sequence[Image], attached: Sequence[Document] = (), *, name: str = "") -> None:
    """Make the folder `root` hold these images, in place of what was there; several are listed in an index of their own.

    Blobs of a store on the same disk are linked, not copied. Raises LayoutWriteError, ImageFormatError for a blob
    that is missing; what stood there is untouched then.
    """
    with _replacing(root) as fresh:
        blobs = fresh / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for image in images:
            _write(blobs, image.digest, image.manifest)
            _write(blobs, image.config_descriptor.digest, image.config)
            for layer in image.layers:
                _link(blobs, layer.descriptor, layer.content)
        for document in attached:
            _write(blobs, document.descriptor.digest, document.data)
        entries = [_entry(image, name) for image in images]
        if len(images) > 1:
            index = index_of(images)
            _write(blobs, index.descriptor.digest, index.data)
            entries = [{**index.descriptor.as_dict(), **({"annotations": {NAME: name}} if name else {})}]
        (fresh / "index.json").write_bytes(_index(entries))
        referrers = [entry.descriptor for entry in attached if entry.descriptor.media_type in media.MANIFESTS]
        if referrers:
            (fresh / ATTACHED).write_bytes(_index([descriptor.as_dict() for descriptor in referrers]))
        (fresh / "oci-layout").write_bytes(VERSION)


def index_of(images: Sequence[Image]) -> Document:
    """An image index over images of several platforms."""
    document = {
        "schemaVersion": 2,
        "mediaType": media.OCI_INDEX,
        "manifests": [image.descriptor.as_dict() for image in images],
    }
    return Document.of(media.OCI_INDEX, encode(document))


def _index(entries: list[dict[str, Any]]) -> bytes:
    return encode({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries})


def _entry(image: Image, name: str) -> dict[str, Any]:
    entry = image.descriptor.as_dict()
    return {**entry, "annotations": {NAME: name}} if name else entry


def _write(blobs: Path, digest: str, data: bytes) -> None:
    (blobs / digest.removeprefix("sha256:")).write_bytes(data)


def _link(blobs: Path, descriptor: Descriptor, content: object) -> None:
    destination = blobs / descriptor.hex
    if destination.exists():
        return
    if isinstance(content, Layout):
        source = content.path(descriptor.hex)
        with content.open(descriptor.hex):
            pass
    else:
        source = _stored(content, descriptor)
    try:
        destination.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, destination)


def _stored(content: object, descriptor: Descriptor) -> Path:
    blobs: Blobs = content  # type: ignore[assignment]
    if not blobs.has(descriptor.hex):
        raise ImageFormatError(
            f"layer {descriptor.digest} is not at hand", hint="it was pruned meanwhile; run the command again"
        )
    return blobs.path(descriptor.hex)


def _open_plain(path: Path, what: str) -> BinaryIO:
    """A regular file, never a link, pipe or device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ImageFormatError(f"{what} can't be read: {error.strerror}", hint="the image is incomplete") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageFormatError(f"{what} is not a file", hint="the image is broken")
    return os.fdopen(descriptor, "rb")


@contextmanager
def _replacing(root: Path) -> Iterator[Path]:
    """A folder beside `root` that takes its place when the block ends well."""
    fresh = unfinished(root)
    old = fresh.with_name(f"{fresh.name}.old")
    try:
        fresh.mkdir(parents=True)
        remove_left(root)
        yield fresh
        with suppress(FileNotFoundError):
            root.rename(old)
        fresh.rename(root)
    except OSError as error:
        if old.exists() and not root.exists():
            old.rename(root)
        raise LayoutWriteError(
            f"can't write {root}: {error.strerror or error}", hint="free space or choose another folder with --output"
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
