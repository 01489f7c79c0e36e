"""`lading base build`: a minimal Lambda-like base image from this machine's interpreter."""

from __future__ import annotations

from pathlib import Path

import click


@click.group(name="base")
def command() -> None:
    """Make a base image where AWS's can't be pulled."""


@command.command()
@click.argument("runtime")
@click.option("--architecture", metavar="ARCH", default="x86_64", show_default=True, help="x86_64 or arm64.")
@click.option("--output", type=click.Path(path_type=Path), help="Layout folder to write. [default: RUNTIME-ARCH.oci]")
@click.option("--offline", is_flag=True, help="Use the cache only, never the network.")
def build(runtime: str, architecture: str, output: Path | None, offline: bool) -> None:
    """Make a base for RUNTIME, such as python3.13, as an OCI layout folder.

    It has Lambda's folders, variables, entry point, client and SDK, on this machine's own Python and C library:
    good for building and trying images, not a copy of Amazon Linux.
    """
    from lading.build.base import build_base
    from lading.cli.progress import choose_progress
    from lading.cli.text import size
    from lading.model.target import find_target
    from lading.oci.layout import write_layout
    from lading.resolve import Policy
    from lading.store import open_store

    target = find_target(runtime, architecture)
    folder = output or Path(f"{runtime}-{target.architecture.value}.oci")
    with choose_progress() as progress:
        image = build_base(target, open_store(), Policy(offline=offline), progress)
    write_layout(folder.absolute(), [image], name="latest")
    click.echo(f"{folder}  {image.digest}  {size(image.size)}")
