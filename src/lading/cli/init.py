"""`lading init`: a minimal project that builds and runs as it is. Overwrites nothing unless asked."""

from __future__ import annotations

from pathlib import Path

import click

from lading.config.assembly import valid_name
from lading.config.versions import DEFAULT_RUNTIME
from lading.errors import ConfigError, UsageError
from lading.model.target import find_target


class ExistsError(UsageError):
    """Files of a new project are there already."""


@click.command(name="init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--name", help="Name of the function (default: the folder's).")
@click.option("--runtime", default=DEFAULT_RUNTIME, show_default=True, help="Lambda runtime.")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
def command(folder: Path, name: str | None, runtime: str, force: bool) -> None:
    """Make a minimal project in FOLDER (default: here): a function, its requirements, an event."""
    folder = folder.resolve()
    name = valid_name(folder.name) if name is None else name
    if name != valid_name(name):
        raise UsageError(f"{name!r} is not a name that AWS takes", hint=f"such as {valid_name(name)!r}")
    version = find_target(runtime, "x86_64").runtime.python_version
    files = {path: text.format(name=name, runtime=runtime, version=version) for path, text in FILES.items()}
    write(folder, files, force=force)
    for path in files:
        click.echo(f"made {folder / path}")
    where = "" if folder == Path.cwd() else f"cd {folder} && "
    click.echo(f"next: {where}lading build && lading invoke -e event.json")


def write(folder: Path, files: dict[str, str], *, force: bool) -> None:
    """All the files or, where one is there and `force` isn't given, none. Raises ExistsError or ConfigError."""
    there = [path for path in files if (folder / path).exists() or (folder / path).is_symlink()]
    if there and not force:
        raise ExistsError(
            f"{folder} has {', '.join(there)} already", hint="choose another folder, or `--force` to overwrite"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            (folder / path).unlink(missing_ok=True)
            (folder / path).write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"can't write to {folder}: {error.strerror}", hint="choose another folder") from error


FILES = {
    "pyproject.toml": """\
[project]
name = "{name}"
version = "0.1.0"
requires-python = ">={version}"
dependencies = ["requests"]

[tool.lading]
runtime = "{runtime}"

[tool.lading.functions.{name}]
handler = "lambda_function.lambda_handler"
memory = 256
timeout = 10
""",
    "lambda_function.py": '''\
import requests


def lambda_handler(event, context):
    """Says hello, and with what."""
    return {{"hello": event.get("name", "world"), "requests": requests.__version__}}
''',
    "event.json": """\
{{"name": "Lambda"}}
""",
    ".gitignore": """\
.lading/
.venv/
__pycache__/
dist/
""",
}
"""Path → content, with {{name}}, {{runtime}} and {{version}} to fill in."""
