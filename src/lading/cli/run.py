"""`lading run`: one function behind the path of AWS's Runtime Interface Emulator."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lading.cli.options import cold_start, listening
from lading.errors import UsageError

if TYPE_CHECKING:
    from lading.service.pool.function import FunctionVersion

TIMEOUT, MEMORY, NAME = 300, 3008, "test_function"
"""What AWS's emulator assumes."""


@click.command(name="run")
@click.argument("source", metavar="PATH|IMAGE")
@listening(9000)
@click.option("--function", "name", metavar="NAME", help="Of a project with several functions.")
@click.option("--handler", metavar="MODULE.FUNCTION", help="The handler; of an image, what follows its ENTRYPOINT.")
@click.option("--runtime", metavar="RUNTIME", help="The runtime of a folder or zip, such as python3.13.")
@click.option("--entrypoint", metavar="PROGRAM", help="Of an image, in place of its ENTRYPOINT.")
@click.option("--workdir", metavar="FOLDER", help="Of an image, in place of its WORKDIR.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="An environment variable (repeatable).")
@click.option(
    "--memory", type=click.IntRange(128, 10_240), help="MB.  [default: $AWS_LAMBDA_FUNCTION_MEMORY_SIZE or 3008]"
)
@click.option(
    "--timeout", type=click.FloatRange(0.001, 900), help="Seconds.  [default: $AWS_LAMBDA_FUNCTION_TIMEOUT or 300]"
)
@click.option(
    "--isolation",
    type=click.Choice(["root", "user"]),
    help="Which walls; default: all with root, else a user namespace's.",
)
@cold_start
@click.option(
    "--network",
    type=click.Choice(["none", "outgoing"]),
    help="What the function reaches; default: outgoing where possible.",
)
def command(source: str, **given: Any) -> None:
    """Serve one function as AWS's Runtime Interface Emulator does, one request at a time.

    PATH is a project's folder, a zip, an OCI layout or the file that `docker save` writes; IMAGE a reference in a registry.

    curl "http://localhost:9000/2015-03-31/functions/function/invocations" -d '{}'
    """
    from lading.cli.invoke import print_log
    from lading.service.pool.emulator import PATH
    from lading.service.pool.local_emulator import Listening, bind, serve_function

    version = prepared(source, given)
    with bind(given["host"], given["port"]) as listener:
        host = f"[{given['host']}]" if ":" in given["host"] else given["host"]
        url = f"http://{host}:{listener.getsockname()[1]}{PATH}"
        listening = Listening(given["host"], listener, print_log)
        serve_function(version, listening, lambda: click.echo(f"lading run: {url} (^C ends it)", err=True))


def prepared(source: str, given: Mapping[str, Any]) -> FunctionVersion:
    """What to run, ready to be started."""
    from lading.cli.invoke import options_of
    from lading.cli.progress import choose_progress
    from lading.service.pool.local_any import prepare
    from lading.service.pool.local_image import prepare_image
    from lading.store import open_store

    options = options_of({"count": 1, "concurrency": 1, "debug": False, **given})
    with choose_progress() as progress:
        if is_image(source):
            function = image_function(source, given)
            return with_own_limits(prepare_image(function, options, open_store(), progress), given)
        return prepare(zip_function(source, given), options, open_store(), progress)


def is_image(source: str) -> bool:
    """A layout, an archive of docker's, or no path at all: then it is a reference."""
    import zipfile

    from lading.oci.find import is_layout

    path = Path(source)
    if path.is_dir():
        return is_layout(path)
    if not path.exists():
        return not source.startswith(("./", "/", "../"))
    return path.suffix not in (".py", ".toml", ".yaml", ".yml", ".json") and not zipfile.is_zipfile(path)


def image_function(source: str, given: Mapping[str, Any]) -> Any:
    from lading.service.pool.image_function import Overrides
    from lading.service.pool.local_image import LocalImage

    overrides = Overrides(
        entry=(given["entrypoint"],) if given["entrypoint"] else None,
        command=(given["handler"],) if given["handler"] else None,
        folder=given["workdir"],
    )
    return LocalImage(
        os.environ.get("AWS_LAMBDA_FUNCTION_NAME", NAME), source, overrides, environment=variables_of(given)
    )


def with_own_limits(version: FunctionVersion, given: Mapping[str, Any]) -> FunctionVersion:
    """An image's ENV sets the emulator's limits, as it does where the emulator runs inside."""
    from dataclasses import replace

    assert version.spec.image is not None, "it is an image"
    seen = {**os.environ, **version.spec.image.process.variables, **version.spec.environment}
    memory, timeout = limits_of(given, seen)
    return replace(version, timeout=timeout, spec=replace(version.spec, memory=memory))


def zip_function(source: str, given: Mapping[str, Any]) -> Any:
    """A zip as it is; of a folder or a project's file what is built of it."""
    from dataclasses import replace

    from lading.cli.invoke import function_of_artifact, function_of_project

    path = Path(source)
    if not path.exists():
        raise UsageError(
            f"{source} does not exist", hint="give a project's folder, a zip, an OCI layout or an image's name"
        )
    asked = {**given, "artifact": path, "path": path, "no_build": False}
    is_zip = path.is_file() and path.suffix not in (".py", ".toml", ".yaml", ".yml", ".json")
    function = function_of_artifact(asked) if is_zip else function_of_project(asked)
    environment = {**function.environment, **variables_of(given)}
    memory, timeout = limits_of(given, {**os.environ, **environment})
    return replace(function, environment=environment, memory=memory, timeout=timeout)


def variables_of(given: Mapping[str, Any]) -> dict[str, str]:
    from lading.cli.invoke import parse_variable

    return dict(parse_variable(text) for text in given["variables"])


def limits_of(given: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[int, float]:
    """Memory in MB and the timeout in seconds. Raises UsageError for a variable that says none."""
    found: list[float] = []
    for option, variable, usual in (
        ("memory", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY),
        ("timeout", "AWS_LAMBDA_FUNCTION_TIMEOUT", TIMEOUT),
    ):
        text = environment.get(variable) or str(usual)
        if given[option] is None and not (text.isascii() and text.isdigit() and len(text) < 7 and int(text)):
            raise UsageError(f"{variable} is {text!r}", hint=f"set it to a whole number, or give --{option}")
        found.append(float(text) if given[option] is None else given[option])
    return int(found[0]), found[1]
