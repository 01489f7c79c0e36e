"""`lading push`: an image into a registry, only what it lacks."""

from __future__ import annotations

import json
from pathlib import Path

import click


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
    from lading.cli.progress import choose_progress
    from lading.cli.text import count, size
    from lading.oci.docker_archive import read_docker_archive
    from lading.oci.layout import Layout
    from lading.oci.push import push, read_attached
    from lading.oci.reference import parse_reference
    from lading.store import open_store

    target = parse_reference(reference)
    if image.is_dir():
        layout = Layout(image)
        images, attached = list(layout.images()), read_attached(layout, layout.attached())
    else:
        store = open_store()
        images, attached = [read_docker_archive(image.absolute(), store.blobs, store.actions)], []
    if docker:
        # What is attached refers to the OCI form by its digest.
        images, attached = [one.convert(docker=True) for one in images], []
    with choose_progress() as progress:
        pushed = push(images, attached, target, progress, mount_from=mount_from)
    if as_json:
        result = {"reference": str(target), "digest": pushed.digest, "sent": pushed.sent, "blobs": pushed.blobs}
        click.echo(json.dumps({**result, "present": pushed.present, "mounted": pushed.mounted}))
        return
    click.echo(f"{target.name}@{pushed.digest}")
    kept = f"{pushed.present} there already, {pushed.mounted} mounted"
    click.echo(f"sent {size(pushed.sent)} in {count(pushed.blobs, 'blob')}; {kept}", err=True)
