"""Finds the image that others stand on: a layout folder, a docker-archive, or a registry's; each once per run.

A registry's answer for a tag is remembered, so that a build does not change by itself: `--upgrade` asks anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from lading.build.plan import Unit
from lading.errors import BuildError
from lading.model.blobs import Actions, Blobs
from lading.model.progress import Progress
from lading.model.target import Architecture, Target
from lading.oci.descriptor import Platform, read_descriptor
from lading.oci.image import Image, read_image
from lading.oci.layout import Layout
from lading.oci.reference import Reference, parse_reference
from lading.oci.registry import RegistryError
from lading.resolve import Policy
from lading.store import Store

AWS_BASE = "public.ecr.aws/lambda/python:{version}-{architecture}"
"""Source: the Amazon ECR public gallery, "lambda/python"."""


class BaseImageError(BuildError):
    """The base is not there, or is none for this function."""


class ForeignLayersError(BuildError):
    """Lambda takes no layers for a function that is an image, and published ones can't be packed from here."""


def platform_of(target: Target) -> Platform:
    """The platform that images of a target have."""
    return Platform("linux", "arm64" if target.architecture is Architecture.ARM64 else "amd64")


def base_reference(unit: Unit) -> str:
    """The base that the user chose, or AWS's."""
    target = unit.target
    version, architecture = target.runtime.python_version, target.architecture.value
    return unit.base or AWS_BASE.format(version=version, architecture=architecture)


class BaseImages:
    """Base images by what the user wrote; paths start at `root`."""

    def __init__(self, root: Path, store: Store, policy: Policy, progress: Progress) -> None:
        self._root = root
        self._blobs: Blobs = store.blobs
        self._actions: Actions = store.actions
        self._policy = policy
        self._progress = progress
        self._found: dict[tuple[str, Platform], Image] = {}

    def of(self, unit: Unit) -> Image:
        """The base of a function that is an image. Raises ForeignLayersError, and as `find`."""
        if unit.foreign_layers:
            raise ForeignLayersError(
                f"function {unit.name!r} is an image and uses the published layer {unit.foreign_layers[0]}",
                hint='Lambda takes no layers with an image: pack what the layer holds, or set package = "zip"',
            )
        return self.find(base_reference(unit), platform_of(unit.target))

    def parts(self, unit: Unit, labels: Mapping[str, str]) -> dict[str, str]:
        """What an image's bytes follow from beside what a zip's do."""
        described = sorted(f"{name}={value}" for name, value in {**dict(unit.labels), **labels}.items())
        return {"base": self.of(unit).digest, "image": json.dumps([unit.compression, described])}

    def find(self, text: str, platform: Platform) -> Image:
        """The base for a platform. Raises BaseImageError, ImageFormatError, RegistryError."""
        key = (text, platform)
        if key not in self._found:
            self._found[key] = self._find(text, platform)
        return self._found[key]

    def _find(self, text: str, platform: Platform) -> Image:
        path = self._root / text
        if path.is_dir():
            if not (path / "oci-layout").is_file():
                raise BaseImageError(f"the base {text!r} is a folder without oci-layout", hint="give an OCI layout")
            return Layout(path).image(platform)
        if path.is_file():
            from lading.oci.docker_archive import read_docker_archive

            image = read_docker_archive(path, self._blobs, self._actions)
            if image.platform.architecture != platform.architecture:
                raise BaseImageError(
                    f"the base {text!r} is for {image.platform}, the function for {platform}",
                    hint="save the image of that platform, or change the architecture",
                )
            return image
        return self._pulled(text, platform)

    def _pulled(self, text: str, platform: Platform) -> Image:
        """The image that this reference meant here before, unless asked to look anew."""
        reference = parse_reference(text)
        key = f"{reference}|{platform}"
        known = None if self._policy.upgrade else self._remembered(key)
        if known is not None:
            return known
        if self._policy.offline:
            raise BaseImageError(f"the base {reference} is not in the cache", hint="build once without --offline")
        image = self._pull(reference, platform)
        self._blobs.put([image.manifest])
        entry = {"digest": image.digest, "media_type": image.media_type}
        self._actions.put("base-image", key, json.dumps(entry).encode())
        return image

    def _pull(self, reference: Reference, platform: Platform) -> Image:
        from lading.oci.pull import pull

        try:
            return pull(reference, platform, self._blobs, self._progress)
        except RegistryError as error:
            raise BaseImageError(
                f"the base {reference} can't be pulled: {error.message}",
                details=error.details,
                hint=f"{error.hint}; or make a base on this machine: lading base build RUNTIME",
            ) from error

    def _remembered(self, key: str) -> Image | None:
        known = self._actions.get("base-image", key)
        if known is None:
            return None
        entry = json.loads(known)
        digest = entry["digest"].removeprefix("sha256:")
        if not self._blobs.has(digest):
            return None
        with self._blobs.open(digest) as file:
            manifest = file.read()
        config = read_descriptor(json.loads(manifest)["config"], "the base's config")
        if not self._blobs.has(config.hex):
            return None
        image = read_image(manifest, self._blobs, entry["media_type"])
        return image if all(self._blobs.has(layer.descriptor.hex) for layer in image.layers) else None
