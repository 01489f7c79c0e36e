"""`lading export`: a project for those who deploy with another tool."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lading.cli.deployment import build, built
from lading.errors import UsageError

if TYPE_CHECKING:
    from lading.deploy.export.portable import Exported

FORMATS = ("terraform", "cloudformation", "sam", "cdk")


@click.command(name="export")
@click.argument("format_name", metavar="FORMAT", type=click.Choice(FORMATS))
@click.argument("path", type=click.Path(path_type=Path), default=Path())
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Where to write.  [default: FORMAT in the project's output folder]",
)  # fmt: skip
@click.option("--stage", default="", metavar="STAGE", help="As [tool.lading.stages.STAGE] has it.")
@click.option("--no-build", is_flag=True, help="Refer to what was built last.")
@click.option("--offline", is_flag=True, help="Build from the cache only.")
@click.option("--frozen", is_flag=True, help="Fail when the kept lock would change.")
def command(format_name: str, path: Path, output: Path | None, **given: Any) -> None:
    """Build, and write files for Terraform, CloudFormation, SAM or the CDK that refer to the artifacts and their digests."""
    from lading.config import load
    from lading.deploy.export.portable import make_portable

    project = load(path, stage=given["stage"])
    if not project.functions:
        raise UsageError(f"{project.origin} has no functions to export", hint="lading init makes one")
    packages = built(project, ()) if given["no_build"] else build(project, {**given, "names": ()})
    folder = (output or project.output / format_name).absolute()
    exporter = importlib.import_module(f"lading.deploy.export.{format_name}")
    exported: Exported = exporter.export(make_portable(project, packages), folder)
    write(exported, folder)
    for note in exported.notes:
        click.echo(f"note: {note}", err=True)


def write(exported: Exported, folder: Path) -> None:
    """Each file whole or not at all. Raises UsageError."""
    import os

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in exported.files.items():
            temporary = folder / f".{name}.{os.getpid()}"
            temporary.write_text(text, "utf-8")
            temporary.replace(folder / name)
            click.echo(folder / name)
    except OSError as error:
        raise UsageError(
            f"can't write to {folder}: {error.strerror}", hint="name another folder: --output DIR"
        ) from error
