"""`lading push`: an image into a registry, only what it lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lading.oci.push import Pushed


@click.command(name="push")
@click.argument("image", type=click.Path(path_type=Path, exists=True))
@click.argument("reference")
@click.option("--mount-from", metavar="REPOSITORY", default="", help="A repository of the registry that has the base.")
@click.option("--docker", is_flag=True, help="Push Docker's manifest form (schema 2) in place of OCI's.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(image: Path, reference: str, mount_from: str, docker: bool, as_json: bool) -> None:
    """Push IMAGE, a layout folder or docker-archive, to REFERENCE, such as ghcr.io/team/orders:v1.

    Logins come from podman's and docker's files and credential helpers.
    """
    pushed = push_image(image, reference, mount_from=mount_from, docker=docker)
    if as_json:
        click.echo(json.dumps(pushed_as_dict(reference, pushed)))
    else:
        print_pushed(reference, pushed)


def push_image(image: Path, reference: str, *, mount_from: str = "", docker: bool = False) -> Pushed:
    """What a layout or a docker-archive holds, and what is attached to it."""
    from lading.cli.progress import choose_progress
    from lading.oci.layout import Layout
    from lading.oci.push import push, read_attached
    from lading.oci.reference import parse_reference

    target = parse_reference(reference)
    if image.is_dir():
        layout = Layout(image)
        images, attached = list(layout.images()), read_attached(layout, layout.attached())
    else:
        from lading.oci.docker_archive import read_docker_archive
        from lading.store import open_store

        store = open_store()
        images, attached = [read_docker_archive(image.absolute(), store.blobs, store.actions)], []
    if docker:
        # What is attached refers to the OCI form by its digest.
        images, attached = [one.convert(docker=True) for one in images], []
    with choose_progress() as progress:
        return push(images, attached, target, progress, mount_from=mount_from)


def pushed_as_dict(reference: str, pushed: Pushed) -> dict[str, Any]:
    from lading.oci.reference import parse_reference

    result = {"reference": str(parse_reference(reference)), "digest": pushed.digest, "sent": pushed.sent}
    return {**result, "blobs": pushed.blobs, "present": pushed.present, "mounted": pushed.mounted}


def print_pushed(reference: str, pushed: Pushed) -> None:
    """The reference by digest to stdout, what was sent to stderr."""
    from lading.cli.text import count, size
    from lading.oci.reference import parse_reference

    click.echo(f"{parse_reference(reference).name}@{pushed.digest}")
    kept = f"{pushed.present} there already, {pushed.mounted} mounted"
    click.echo(f"sent {size(pushed.sent)} in {count(pushed.blobs, 'blob')}; {kept}", err=True)
