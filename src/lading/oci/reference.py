"""Names of images in registries: `[registry/]repository[:tag][@digest]`. Pure.

Source: the "distribution/reference" grammar; names without a registry are Docker Hub's, as every client reads them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lading.errors import UsageError
from lading.oci.descriptor import DIGEST

DOCKER_HUB = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::\d{1,5})?")
LONGEST_REPOSITORY = 255


class ImageReferenceError(UsageError):
    """Not the name of an image in a registry."""


@dataclass(frozen=True)
class Reference:
    """`registry` is "docker.io" or a host with an optional port; `tag` or `digest` may be empty, not both."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def target(self) -> str:
        """What the registry is asked for: the digest where there is one."""
        return self.digest or self.tag

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{'@' if self.digest else ''}{self.digest}"


def parse_reference(text: str) -> Reference:
    """A reference from what people write. Raises ImageReferenceError."""
    rest, _, digest = text.removeprefix("docker://").partition("@")
    first, slash, remainder = rest.partition("/")
    registry = DOCKER_HUB
    if slash and ("." in first or ":" in first or first == "localhost" or first.startswith("[")):
        registry, rest = first, remainder
    name, colon, tag = rest.rpartition(":")
    repository = name if colon else rest
    tag = tag if colon else ""
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    _check(text, Reference(registry, repository, tag, digest), has_digest="@" in text, has_tag=bool(colon))
    return Reference(registry, repository, tag if tag or digest else "latest", digest)


def _check(text: str, reference: Reference, *, has_digest: bool, has_tag: bool) -> None:
    why = ""
    if not _HOST.fullmatch(reference.registry):
        why = f"{reference.registry!r} is no host"
    elif not _REPOSITORY.fullmatch(reference.repository) or len(reference.repository) > LONGEST_REPOSITORY:
        why = f"{reference.repository!r} is no repository: small letters, digits, and . _ - / between them"
    elif has_tag and not _TAG.fullmatch(reference.tag):
        why = f"{reference.tag!r} is no tag"
    elif has_digest and not DIGEST.fullmatch(reference.digest):
        why = f"{reference.digest!r} is no sha256 digest"
    if why:
        raise ImageReferenceError(
            f"not an image reference: {text!r}", details=(why,), hint="such as ghcr.io/team/orders:v1"
        )
