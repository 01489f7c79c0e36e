"""`lading base build`: a minimal Lambda-like base image from this machine's interpreter."""

from __future__ import annotations

from pathlib import Path

import click

from lading.errors import UsageError


@click.group(name="base")
def command() -> None:
    """Make a base image where AWS's can't be pulled."""


@command.command()
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("lading-rie"), show_default=True, help="File to write."
)
@click.option(
    "--python", "interpreter", default="/usr/bin/env python3", show_default=True, help="What starts it, in the image."
)
def rie(output: Path, interpreter: str) -> None:
    """Write the emulator for an image of your own: one file for its Python 3.9 or later.

    In a Dockerfile: COPY lading-rie /usr/local/bin/, then ENTRYPOINT ["lading-rie", "python", "-m", "awslambdaric"].
    It serves port 8080, as AWS's emulator does, and steps aside where the Runtime API is.
    """
    from lading.build.base import emulator_source
    from lading.store.folder import disk_errors

    if "\n" in interpreter or not interpreter.startswith("/"):
        raise UsageError(
            f"{interpreter!r} can't start a program", hint="give an absolute path, such as /usr/local/bin/python3"
        )
    with disk_errors(f"can't write {output}"):
        output.write_text(emulator_source(interpreter), "utf-8")
        output.chmod(0o755)
    click.echo(output)


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
