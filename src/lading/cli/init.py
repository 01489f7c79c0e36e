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
@click.option(
    "--package",
    type=click.Choice(["zip", "image"]),
    default="zip",
    show_default=True,
    help="Kind of artifact; an image gets a Dockerfile.",
)
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
def command(folder: Path, name: str | None, runtime: str, package: str, force: bool) -> None:
    """Make a minimal project in FOLDER (default: here): a function, its requirements, an event."""
    folder = folder.resolve()
    name = valid_name(folder.name) if name is None else name
    if name != valid_name(name):
        raise UsageError(f"{name!r} is not a name that AWS takes", hint=f"such as {valid_name(name)!r}")
    version = find_target(runtime, "x86_64").runtime.python_version
    texts = FILES | IMAGE_FILES if package == "image" else FILES
    files = {path: text.format(name=name, runtime=runtime, version=version) for path, text in texts.items()}
    write(folder, files, force=force)
    for path in files:
        click.echo(f"made {folder / path}")
    where = "" if folder == Path.cwd() else f"cd {folder} && "
    then = "lading run" if package == "image" else "lading invoke -e event.json"
    click.echo(f"next: {where}lading build && {then}")


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
IMAGE_FILES = {
    "pyproject.toml": """\
[tool.lading]
runtime = "{runtime}"

[tool.lading.functions.{name}]
handler = "lambda_function.lambda_handler"
package = "image"
memory = 256
timeout = 10
""",
    "requirements.txt": """\
requests
""",
    "Dockerfile": """\
# Python, Lambda's client and the AWS SDK.
FROM public.ecr.aws/lambda/python:{version}

# What changes rarely comes first: this layer is made anew only when the requirements change.
COPY requirements.txt ${{LAMBDA_TASK_ROOT}}/
RUN pip install --no-cache-dir --requirement requirements.txt

COPY lambda_function.py ${{LAMBDA_TASK_ROOT}}/

CMD ["lambda_function.lambda_handler"]
""",
    ".dockerignore": """\
*
!requirements.txt
!lambda_function.py
""",
}
"""The same for an image, in place of those above or beside them."""
