"""Names of registries and images: whose repository a host or an image URI means. Pure.

Source: Amazon ECR user guide, "Private registry"; OCI distribution specification 1.1, "Pulling manifests" (names, tags).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from lading.oci.reference import parse_reference
from lading.service.control.names import Scope
from lading.service.front.gate import is_loopback

_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)\."
    r"(?P<suffix>amazonaws\.com|amazonaws\.com\.cn|on\.aws|on\.amazonwebservices\.com\.cn|localhost)",
    re.ASCII,
)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
LONGEST_REPOSITORY = 256
"""ECR's; the specification has clients keep registry and repository together below 255."""


@dataclass(frozen=True)
class Place:
    """A repository: whose it is, and its name."""

    scope: Scope
    name: str

    @property
    def arn(self) -> str:
        return f"arn:{self.scope.partition}:ecr:{self.scope.region}:{self.scope.account}:repository/{self.name}"


@dataclass(frozen=True)
class Asked:
    """An image that a URI names; either a tag or a digest."""

    place: Place
    tag: str = ""
    digest: str = ""


def host_scope(netloc: str) -> Scope | None:
    """Whose registry a host with one of ECR's names is, whatever its port; None for any other host."""
    match = _ECR.fullmatch(_host(netloc))
    return Scope(match["account"], match["region"]) if match else None


def _host(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def is_repository(name: str) -> bool:
    return len(name) <= LONGEST_REPOSITORY and REPOSITORY.fullmatch(name) is not None


def read_image_uri(uri: str, scope: Scope, endpoint: str) -> Asked | None:
    """What an image URI means to a caller of `scope` who reached the service at `endpoint`; None when it is elsewhere.

    A name of AWS's for a private registry means the local repository of that account and region; the service's own address
    means the caller's. Raises ImageReferenceError for what is no image reference.
    """
    reference = parse_reference(uri)
    owner = host_scope(reference.registry)
    if owner is None:
        if not _is_here(reference.registry, endpoint):
            return None
        owner = scope
    tag = "" if reference.digest else reference.tag
    return Asked(Place(owner, reference.repository), tag, reference.digest)


def _is_here(registry: str, endpoint: str) -> bool:
    own = urlsplit(endpoint)
    try:
        other = urlsplit(f"//{registry}")
        same_port = (other.port or 80) == (own.port or 80)
    except ValueError:
        return False
    return same_port and (other.hostname == own.hostname or is_loopback(other.hostname or ""))


def read_reference(text: str) -> tuple[str, str]:
    """(tag, digest) of the last part of a manifest's path: one of them is empty; both for what is neither."""
    from lading.oci.descriptor import REGISTERED

    if REGISTERED.fullmatch(text):
        return "", text
    return (text, "") if TAG.fullmatch(text) else ("", "")
