"""What points at a blob: media type, digest, size; and how documents from strangers are read. Bounded, no I/O of its own."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from lading.errors import AuditError

DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
"""Of images that are made and run here, as of all that AWS takes."""
REGISTERED = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
"""What OCI has registries know. Source: OCI image specification 1.1, "Registered algorithms"."""
LARGEST_BLOB = 1 << 40
MOST_ANNOTATIONS = 1000


class ImageFormatError(AuditError):
    """An image's manifest, index or config is not what the specification says."""


class Content(Protocol):
    """Where blobs are read from, by the hex part of their digest: the store, a layout folder."""

    def open(self, digest: str) -> BinaryIO: ...

    def has(self, digest: str) -> bool: ...


@dataclass(frozen=True)
class Platform:
    """GOOS and GOARCH, as images name them."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def as_dict(self) -> dict[str, str]:
        own = {"architecture": self.architecture, "os": self.os}
        return {**own, "variant": self.variant} if self.variant else own


@dataclass(frozen=True)
class Descriptor:
    """A reference to a blob: `digest` is "sha256:" and 64 hex digits, `size` in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str = ""

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")

    def as_dict(self) -> dict[str, Any]:
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform:
            document["platform"] = self.platform.as_dict()
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        return document


def digest_of(data: bytes) -> str:
    """ "sha256:…" of bytes at hand."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encode(document: Mapping[str, Any]) -> bytes:
    """JSON in the one form that lading writes: sorted keys, no spaces, so that equal documents have equal digests."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode(data: bytes, what: str, *, limit: int) -> dict[str, Any]:
    """A JSON object of at most `limit` bytes. Raises ImageFormatError naming `what`."""
    if len(data) > limit:
        raise ImageFormatError(f"{what} has {len(data):,} bytes, more than {limit:,}", hint="no registry takes it")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageFormatError(f"{what} is not JSON: {error}", hint="the image is broken; make it anew") from None
    if not isinstance(document, dict):
        raise ImageFormatError(f"{what} is not a JSON object", hint="the image is broken; make it anew")
    return document


def read_descriptor(value: object, what: str, digests: re.Pattern[str] = DIGEST) -> Descriptor:
    """A checked descriptor, its digest of this form. Raises ImageFormatError."""
    if not isinstance(value, Mapping):
        raise _bad(what, "is not a descriptor")
    media_type, digest, size = value.get("mediaType", ""), value.get("digest"), value.get("size")
    if not isinstance(digest, str) or not digests.fullmatch(digest):
        known = "sha256 with 64 hex digits" + (" and sha512 with 128 are" if digests is REGISTERED else " is")
        raise _bad(what, f"has the digest {str(digest)[:80]!r}; only {known} known")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LARGEST_BLOB:
        raise _bad(what, f"has the size {str(size)[:40]!r}")
    if not isinstance(media_type, str) or len(media_type) > 255:
        raise _bad(what, "has no media type")
    artifact_type = value.get("artifactType", "")
    return Descriptor(
        media_type,
        digest,
        size,
        read_platform(value.get("platform")),
        read_annotations(value.get("annotations"), what),
        artifact_type if isinstance(artifact_type, str) else "",
    )


def read_platform(value: object) -> Platform | None:
    if not isinstance(value, Mapping):
        return None
    os, architecture, variant = (value.get(key, "") for key in ("os", "architecture", "variant"))
    if isinstance(os, str) and isinstance(architecture, str) and isinstance(variant, str) and architecture:
        return Platform(os, architecture, variant)
    return None


def read_annotations(value: object, what: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > MOST_ANNOTATIONS:
        raise _bad(what, "has annotations that aren't a table, or too many")
    if not all(isinstance(key, str) and isinstance(text, str) for key, text in value.items()):
        raise _bad(what, "has annotations that aren't strings")
    return dict(value)


def read_document(content: Content, descriptor: Descriptor, what: str, *, limit: int) -> bytes:
    """A small blob, its size and digest verified. Raises ImageFormatError."""
    if descriptor.size > limit:
        raise _bad(what, f"has {descriptor.size:,} bytes, more than {limit:,}")
    with content.open(descriptor.hex) as file:
        data = file.read(limit + 1)
    if len(data) != descriptor.size or digest_of(data) != descriptor.digest:
        raise ImageFormatError(
            f"{what} is not what its descriptor says",
            details=(
                f"expected {descriptor.digest}, {descriptor.size:,} bytes",
                f"found {digest_of(data)}, {len(data):,} bytes",
            ),
            hint="the image is damaged; pull or build it anew",
        )
    return data


def _bad(what: str, why: str) -> ImageFormatError:
    return ImageFormatError(f"{what} {why}", hint="the image is broken; make it anew")
