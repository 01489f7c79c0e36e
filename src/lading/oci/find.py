"""The image that a user names: a layout folder, a docker-archive, or a reference in a registry. Nothing is remembered of tags."""

from __future__ import annotations

from pathlib import Path

from lading.errors import UsageError
from lading.model.blobs import Actions, Blobs
from lading.model.progress import Progress
from lading.oci.descriptor import ImageFormatError, Platform
from lading.oci.docker_archive import read_docker_archive
from lading.oci.image import Image
from lading.oci.layout import Layout
from lading.oci.reference import parse_reference


class NoImageHereError(UsageError):
    """A path that is no image."""


def is_layout(path: Path) -> bool:
    return (path / "oci-layout").is_file()


def find_image(text: str, platform: Platform, blobs: Blobs, actions: Actions, progress: Progress) -> Image:
    """The image for a platform, all its blobs at hand.

    Raises NoImageHereError, ImageReferenceError, RegistryError, ImageFormatError.
    """
    path = Path(text.removeprefix("oci:").removeprefix("docker-archive:"))
    if path.is_dir():
        if not is_layout(path):
            raise NoImageHereError(
                f"{path} is a folder without oci-layout", hint="give an OCI layout, such as dist/NAME.oci"
            )
        image = Layout(path).image(platform)
    elif path.is_file():
        image = read_docker_archive(path.resolve(), blobs, actions)
    else:
        from lading.oci.pull import pull

        image = pull(parse_reference(text), platform, blobs, progress)
    if image.platform.architecture != platform.architecture:
        raise ImageFormatError(
            f"{text} is for {image.platform}, not {platform}", hint="build it for this machine, or run it on such a one"
        )
    return image
