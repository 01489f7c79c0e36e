"""`lading serve`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lading.cli.options import cold_start, listening
from lading.errors import UsageError

if TYPE_CHECKING:
    from lading.service.embed import Settings

MODULES = ("botocore", "cryptography", "httptools", "moto", "starlette", "uvicorn", "uvloop")


@click.command(name="serve")
@listening(4566)
@click.option(
    "--state", metavar="DIR", help="Folder that everything is kept in, or :memory:.  [default: the user's state folder]"
)
@click.option(
    "--keys",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of ACCESS_KEY_ID:SECRET lines: verify signatures. Required beyond loopback.",
)
@click.option(
    "--isolation",
    type=click.Choice(["root", "user", "process"]),
    default="root",
    show_default=True,
    help="Walls of the environments; `process` has none.",
)
@cold_start
@click.option(
    "--neighbours/--no-neighbours",
    default=True,
    show_default=True,
    help="S3, IAM, SQS and others beside Lambda (in memory), roles checked; or Lambda alone, which takes any role.",
)
@click.option(
    "--neighbour",
    "elsewhere",
    multiple=True,
    metavar="SERVICE=URL",
    help="Use another endpoint for a service, in place of the one in this process (s3=http://127.0.0.1:9000).",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Of the lines on stderr, one a request and event.",
)
@click.option(
    "--images",
    type=click.Choice(["lazy", "unpack"]),
    help="Image functions load what they touch, or are unpacked first.  [default: lazy where this machine can]",
)
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A further name that requests may be for.")
def command(
    host: str,
    port: int,
    state: str | None,
    keys: Path | None,
    isolation: str,
    cold_start: str,
    neighbours: bool,
    elsewhere: tuple[str, ...],
    log_format: str,
    images: str | None,
    hosts: tuple[str, ...],
) -> None:
    """A local AWS endpoint: Lambda on this machine, for unmodified clients (AWS_ENDPOINT_URL=http://127.0.0.1:4566)."""
    require_extra()
    from lading.sandbox.spec import ColdStart, Isolation
    from lading.service.control.control import MEMORY
    from lading.service.embed import Settings
    from lading.service.engine import Walls
    from lading.service.roots import ImageWay

    folder = MEMORY if state == MEMORY else str(Path(state).expanduser().absolute() if state else default_state())
    walls = Walls(Isolation(isolation), ColdStart(cold_start))
    settings = Settings(host, port, folder, read_keys(keys) if keys else None, frozenset(hosts), walls)
    settings = replace(settings, images=ImageWay(images) if images else None)
    if neighbours:
        settings = replace(settings, neighbours=read_neighbours(elsewhere))
    elif elsewhere:
        raise UsageError("--neighbour says where a neighbour is, --no-neighbours that there is none", hint="choose one")
    serve(settings, as_json=log_format == "json")


def serve(settings: Settings, *, as_json: bool) -> None:
    """Until a signal ends it."""
    import contextlib
    import gc
    import logging
    import resource
    import sys

    from lading.cli.service_log import ServiceLog
    from lading.service.control.control import open_control
    from lading.service.embed import make_front
    from lading.service.front.server import bind, make_server, prefer_loop

    # an environment holds ten descriptors: the customary 1,024 are soon used up
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):  # macOS says it allows more than it does
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logger = logging.getLogger("lading")
    with contextlib.closing(bind(settings.host, settings.port)) as listener, contextlib.ExitStack() as stack:
        log = stack.enter_context(contextlib.closing(ServiceLog(sys.stderr, as_json=as_json)))
        logger.addHandler(log)
        stack.callback(logger.removeHandler, log)
        control = stack.enter_context(contextlib.closing(open_control(settings.state)))
        server = make_server(make_front(control, replace(settings, note=log.note)))
        name = f"[{settings.host}]" if ":" in settings.host else settings.host
        prefer_loop()
        gc.freeze()  # models and modules stay: the collector need not look at them in the middle of requests
        click.echo(f"lading serve: http://{name}:{listener.getsockname()[1]} (state: {settings.state})")
        click.echo(tell_kept(settings))
        server.run(sockets=[listener])


def tell_kept(settings: Settings) -> str:
    """What a restart finds again, and what not."""
    from lading.service.control.control import MEMORY
    from lading.service.neighbours.moto import SERVICES

    if settings.state == MEMORY:
        return "  nothing is kept: all of it ends with this process"
    kept = "  kept: functions, layers, images, queued events, logs"
    here = [name for name in SERVICES if settings.neighbours is not None and name not in settings.neighbours]
    if not here:
        return kept
    more = f" and {len(here) - 4} more" if len(here) > 4 else ""
    gone = f"not kept, in this process's memory: what is in {', '.join(here[:4])}{more}"
    return f"{kept}; {gone} (--neighbour SERVICE=URL uses another)"


def require_extra() -> None:
    """Raises UsageError where the packages of the extra `serve` are missing."""
    import importlib.util

    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            "`lading serve` needs packages that aren't installed", details=missing, hint="pip install 'lading[serve]'"
        )


def read_neighbours(texts: tuple[str, ...]) -> dict[str, str]:
    """Service → URL. Raises UsageError for what isn't SERVICE=URL of a service that can be a neighbour."""
    from lading.service.neighbours.moto import SERVICES

    found = {}
    for text in texts:
        name, _, url = text.partition("=")
        if name not in SERVICES or not url.startswith(("http://", "https://")):
            raise UsageError(f"{text!r} is not SERVICE=URL", hint=f"services: {', '.join(SERVICES)}")
        found[name] = url
    return found


def default_state() -> Path:
    """`lading/serve` under $XDG_STATE_HOME (~/.local/state)."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state").absolute() / "lading" / "serve"


def read_keys(file: Path) -> dict[str, str]:
    """Access key id → secret. Raises UsageError for a file that isn't one."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read the keys in {file}: {error}", hint="name a readable file: --keys FILE") from error
    pairs: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        key, colon, secret = line.strip().partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not colon or not key or not secret:
            raise UsageError(
                f"line {number} of {file} is not ACCESS_KEY_ID:SECRET", hint="one pair a line, a colon between"
            )
        pairs[key] = secret
    if not pairs:
        raise UsageError(f"{file} names no keys", hint="one ACCESS_KEY_ID:SECRET a line")
    return pairs
