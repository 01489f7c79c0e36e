"""Runs an image here without a service, as local.py does a zip or folder."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lading.model.progress import Progress
from lading.oci.descriptor import Platform
from lading.oci.find import find_image
from lading.oci.unpack import local_trees
from lading.sandbox.spec import SandboxSpec
from lading.service.pool.debugging import DebugError
from lading.service.pool.function import FunctionVersion
from lading.service.pool.image_function import Overrides, OwnedImage, UnpackedRoots, root_of
from lading.service.pool.local import ACCOUNT, LocalOptions, local_version
from lading.store import Store


@dataclass(frozen=True)
class LocalImage:
    """An image to run here: `source` is a layout folder, a docker-archive or a reference. Sizes in MB, timeout in seconds."""

    name: str
    source: str
    overrides: Overrides = field(default_factory=Overrides)
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    memory: int = 128
    timeout: float = 3.0
    ephemeral_storage: int = 512
    log_format: str = "Text"


def machine_platform() -> Platform:
    """The platform of images that this machine runs."""
    machine = platform.machine()
    return Platform("linux", {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64"}.get(machine, machine))


def prepare_image(function: LocalImage, options: LocalOptions, store: Store, progress: Progress) -> FunctionVersion:
    """The image found and unpacked, and the value the pool takes.

    Raises DebugError, NoImageHereError, RegistryError, ImageFormatError, ImageProcessError, StoreError.
    """
    if options.debug:
        raise DebugError("no debugger for images", hint="debug the project's zip: lading invoke --debug")
    image = find_image(function.source, machine_platform(), store.blobs, store.actions, progress)
    lease = UnpackedRoots(local_trees(store)).open(OwnedImage(image, ACCOUNT))
    spec = SandboxSpec(image=root_of(image, function.overrides, lease), runtime="")
    return replace(local_version(function, options, spec), revision=image.digest, root=lease)
