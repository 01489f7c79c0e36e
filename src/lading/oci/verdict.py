"""Would Lambda take an image, and its function import? Of whatever a user names: a layout, a docker-archive, a reference."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lading.model.blobs import Blobs
from lading.model.finding import Finding
from lading.model.progress import Progress
from lading.oci import media
from lading.oci.descriptor import Platform
from lading.oci.docker_archive import GZIP_MAGIC, read_docker_archive
from lading.oci.image import Image
from lading.oci.layout import Layout
from lading.oci.reference import parse_reference
from lading.oci.validate import validate, validate_manifest
from lading.store import Store

if TYPE_CHECKING:
    from lading.oci.imports import ImageAudit

_TAR = slice(257, 262)
_DAMAGE = frozenset(
    {
        "image-digest",
        "image-size",
        "image-diff-id",
        "image-entry",
        "image-too-large",
        "image-document",
        "image-media-type",
    }
)
"""Codes of images whose layers are not worth looking into."""


@dataclass(frozen=True)
class Verdict:
    """What was found, the images that were looked at, and what was not looked into."""

    images: tuple[Image, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()


def is_image(text: str) -> bool:
    """Whether a text names an image rather than a folder or zip: by what is there, or as a reference where nothing is."""
    path = Path(text)
    if path.is_dir():
        return (path / "oci-layout").is_file()
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(512)
        return head[_TAR] == b"ustar" or head[:2] == GZIP_MAGIC
    first, slash, _ = text.partition("/")
    return bool(slash) and not text.startswith((".", "/")) and ("." in first or ":" in first or first == "localhost")


def judge(text: str, platform: Platform | None, store: Store, progress: Progress) -> Verdict:
    """Reads every layer. `platform`: the one that the function has; None takes what is there.

    Raises ImageFormatError, ImageReferenceError, RegistryError, StoreError.
    """
    found = _find(text, platform, store, progress)
    audits = [assess(image, store.temporary) for image in found.images if not is_unreadable(found.findings)]
    findings = dict.fromkeys((*found.findings, *(finding for one in audits for finding in one.findings)))
    return Verdict(found.images, tuple(findings), tuple(dict.fromkeys(note for one in audits for note in one.notes)))


def assess(image: Image, scratch: Path) -> ImageAudit:
    """The audit of an image's imports; the modules for that are loaded now."""
    from lading.oci.imports import audit_image

    return audit_image(image, scratch)


def is_unreadable(findings: tuple[Finding, ...]) -> bool:
    """Whether what `validate` found leaves nothing to audit."""
    return not _DAMAGE.isdisjoint(finding.code for finding in findings)


def _find(text: str, platform: Platform | None, store: Store, progress: Progress) -> Verdict:
    blobs, actions = store.blobs, store.actions
    path = Path(text)
    if path.is_dir():
        layout = Layout(path)
        listed = [
            finding
            for descriptor in layout.manifests()
            for finding in validate_manifest(layout.document(descriptor), descriptor.media_type)
        ]
        return _verdict(list(layout.images()), platform, listed)
    if path.is_file():
        return _verdict([read_docker_archive(path.resolve(), blobs, actions)], platform, [])
    return _pulled(text, platform, blobs, progress)


def _pulled(text: str, platform: Platform | None, blobs: Blobs, progress: Progress) -> Verdict:
    from lading.oci.pull import pull
    from lading.oci.registry import ACCEPT, Registry

    reference = parse_reference(text)
    with closing(Registry(reference)) as registry:
        answer = registry.request("GET", f"/manifests/{reference.target}", headers={"Accept": ACCEPT})
        if answer.status != 200:
            raise registry.refuse(answer, f"manifest {reference.target}")
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    listed = list(validate_manifest(answer.read(), kind))
    if listed and kind not in media.INDEXES:
        return Verdict((), tuple(listed))
    wanted = platform or (Platform("linux", "amd64") if listed else None)
    return _verdict([pull(reference, wanted, blobs, progress)], platform, listed)


def _verdict(images: list[Image], platform: Platform | None, listed: list[Finding]) -> Verdict:
    """An index counts as a fault of its own; its images are looked at all the same."""
    own = [image for image in images if not listed or platform is None or image.platform == platform]
    found = [finding for image in own for finding in validate(image, platform)]
    return Verdict(tuple(own), tuple(dict.fromkeys((*listed, *found))))
