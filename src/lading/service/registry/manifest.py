"""What a registry has to know of a manifest: what it refers to, and what it is. Pure; a manifest is hostile input."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lading.oci import media
from lading.oci.descriptor import (
    REGISTERED,
    Descriptor,
    ImageFormatError,
    digest_of,
    read_annotations,
    read_descriptor,
)
from lading.service.registry.refusals import unsupported_manifest

KINDS = media.MANIFESTS | media.INDEXES


@dataclass(frozen=True)
class ManifestFacts:
    """A manifest's digest and size in bytes, and the descriptors in it. `stored`: its name in the content store."""

    digest: str
    stored: str
    size: int
    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    """The manifests of an index."""
    subject: Descriptor | None
    artifact_type: str
    annotations: Mapping[str, str]

    @property
    def blobs(self) -> tuple[str, ...]:
        """Digests of the blobs that the repository must have; layers that live elsewhere by contract are none of them."""
        own = [self.config] if self.config else []
        own += [layer for layer in self.layers if not _is_foreign(layer)]
        return tuple(dict.fromkeys(one.digest for one in own))

    @property
    def image_size(self) -> int:
        """Bytes of config and layers, as ECR counts an image's size."""
        return sum({one.digest: one.size for one in (*([self.config] if self.config else ()), *self.layers)}.values())


def _is_foreign(layer: Descriptor) -> bool:
    return "nondistributable" in layer.media_type or ".foreign." in layer.media_type


def read_manifest(data: bytes, stated: str = "", algorithm: str = "sha256") -> ManifestFacts:
    """`stated` is the media type that its sender gives, `algorithm` that of the digest it will go by.

    Raises ApiError for what is no manifest that a registry keeps.
    """
    if len(data) > media.LARGEST_MANIFEST:
        raise unsupported_manifest(f"it has {len(data)} bytes, more than {media.LARGEST_MANIFEST}")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise unsupported_manifest("it is not JSON") from None
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise unsupported_manifest("its schemaVersion is not 2")
    kind = _kind(document, stated.partition(";")[0].strip())
    try:
        facts = _facts(data, document, kind)
    except ImageFormatError as error:
        raise unsupported_manifest(error.message) from None
    return (
        facts
        if algorithm == "sha256"
        else replace(facts, digest=f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")
    )


def _kind(document: Mapping[str, Any], stated: str) -> str:
    own = document.get("mediaType")
    if own is not None and (not isinstance(own, str) or (stated and own != stated)):
        raise unsupported_manifest(f"its mediaType is {str(own)[:200]!r}, and {stated[:200]!r} was said")
    kind = own or stated or (media.OCI_INDEX if "manifests" in document else media.OCI_MANIFEST)
    if kind not in KINDS:
        raise unsupported_manifest(f"its media type {kind[:200]!r} is not known")
    if ("manifests" in document) != (kind in media.INDEXES) or ("layers" in document) != (kind in media.MANIFESTS):
        raise unsupported_manifest(f"it is not of the media type {kind!r}")
    return kind


def _facts(data: bytes, document: Mapping[str, Any], kind: str) -> ManifestFacts:
    config = _descriptor(document.get("config"), "its config") if kind in media.MANIFESTS else None
    subject = document.get("subject")
    artifact_type = document.get("artifactType")
    if not artifact_type and config is not None:
        artifact_type = config.media_type
    return ManifestFacts(
        digest=digest_of(data),
        stored=digest_of(data).removeprefix("sha256:"),
        size=len(data),
        media_type=kind,
        config=config,
        layers=_descriptors(document, "layers", media.MOST_LAYERS),
        children=_descriptors(document, "manifests", media.MOST_MANIFESTS),
        subject=_descriptor(subject, "its subject") if subject is not None else None,
        artifact_type=artifact_type if isinstance(artifact_type, str) else "",
        annotations=read_annotations(document.get("annotations"), "it"),
    )


def _descriptors(document: Mapping[str, Any], name: str, most: int) -> tuple[Descriptor, ...]:
    entries = document.get(name, [])
    if not isinstance(entries, list) or len(entries) > most:
        raise unsupported_manifest(f"its {name} are no list of at most {most}")
    return tuple(_descriptor(entry, f"{name} {number}") for number, entry in enumerate(entries))


def _descriptor(value: object, what: str) -> Descriptor:
    return read_descriptor(value, what, REGISTERED)
