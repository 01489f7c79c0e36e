"""`lading invoke`: run a function here in a real execution environment; its result on stdout, its log on stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lading.cli.deployment import place_options
from lading.cli.options import cold_start
from lading.cli.remote import invoke_remote, refuse_without_remote
from lading.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.model.project import FunctionConfig, LayerConfig, Project
    from lading.sandbox.spec import Isolation, Network
    from lading.service.events import Event
    from lading.service.pool.debugging import Address
    from lading.service.pool.function import Outcome
    from lading.service.pool.local import LocalFunction, LocalOptions

LARGEST_EVENT = 6_291_556
LARGEST_COUNT = 1_000_000
DEBUG_ADDRESS = "127.0.0.1:5678"
INPUTS = ("pyproject.toml", "requirements*.txt", "constraints*.txt", "Pipfile", "*.lock", "pylock*.toml")
"""What stands beside a file of requirements and may be part of it."""


@click.command(name="invoke")
@click.argument("name", required=False)
@click.option(
    "-e", "--event", "event", default="{}", metavar="FILE|-|JSON", help="The event: a file, - for stdin, or JSON."
)
@click.option(
    "-C", "--project", "path", type=click.Path(path_type=Path), default=Path(), help="Folder or file of the project."
)
@click.option(
    "--count", type=click.IntRange(1, LARGEST_COUNT), default=1, help="Invoke so many times and print a table."
)
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, help="So many at once.")
@cold_start
@click.option(
    "--isolation",
    type=click.Choice(["root", "user", "process"]),
    help="Which walls; default: all with root, else a user namespace's.",
)
@click.option(
    "--network",
    type=click.Choice(["none", "outgoing"]),
    help="What the function reaches; default: outgoing where this machine can give it.",
)
@click.option(
    "--artifact",
    type=click.Path(path_type=Path, exists=True),
    help="Run this zip, folder or OCI layout, in place of the project's build.",
)
@click.option("--handler", metavar="MODULE.FUNCTION", help="The handler, whatever the project says.")
@click.option("--runtime", metavar="RUNTIME", help="The runtime, such as python3.13, whatever the project says.")
@click.option("--memory", type=click.IntRange(128, 10_240), help="MB, in place of the function's.")
@click.option("--timeout", type=click.FloatRange(0.001, 900), help="Seconds, in place of the function's.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="An environment variable (repeatable).")
@click.option("--json-logs", is_flag=True, help="The log as JSON (LogFormat=JSON).")
@click.option("--no-build", is_flag=True, help="Run what was built last.")
@click.option("-v", "--verbose", is_flag=True, help="With --count: every result and log as well.")
@click.option("--debug", is_flag=True, help="Wait for a debugger (debugpy) before the function is loaded; no timeout.")
@click.option(
    "--debug-address", default=DEBUG_ADDRESS, show_default=True, metavar="HOST:PORT", help="Where it connects to."
)
@click.option(
    "--snap-start/--no-snap-start",
    "snap_start",
    default=None,
    help="Run its init once and restore environments from that, as SnapStart does; default: as the project says.",
)
@click.option("--watch", is_flag=True, help="Invoke again whenever the code, the requirements or the event change.")
@click.option("--remote", is_flag=True, help="Invoke the deployed function, on AWS or another endpoint.")
@click.option("--qualifier", metavar="NAME", help="With --remote: version or alias; default: the project's alias.")
@place_options
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Run function NAME of the project here, in an isolated execution environment as Lambda's.

    Exit code 1 when the function failed.
    """
    refuse_without_remote(given)
    if given["remote"]:
        refuse_beside_remote(given)
        invoke_remote(ctx, given["name"], read_event(given["event"]), given)
        return
    refuse_beside_debug(given)
    refuse_beside_snap_start(given)
    if given["watch"]:
        refuse_beside_watch(given)
        watch_for_changes(given)
        return
    event = read_event(given["event"])
    function = chosen_function(given)
    outcomes, seconds = run(function, event, given)
    if given["count"] == 1 or given["verbose"]:
        for outcome in outcomes:
            print_result(outcome)
    if given["count"] > 1:
        from lading.cli.measure import print_table

        print_table(outcomes, function, seconds)
    if any(outcome.answer.error_type for outcome in outcomes):
        ctx.exit(1)


def refuse_beside_remote(given: dict[str, Any]) -> None:
    """Raises UsageError for what is said of environments here."""
    for wrong, nothing in (("count", 1), ("concurrency", 1), ("debug", False), ("watch", False), ("artifact", None)):
        if given[wrong] != nothing:
            raise UsageError(f"--{wrong} together with --remote", hint="leave one of them out: it is for invokes here")


def refuse_beside_debug(given: dict[str, Any]) -> None:
    """Raises UsageError for what has no meaning with --debug."""
    for wrong, nothing in (("concurrency", 1), ("timeout", None)):
        if given["debug"] and given[wrong] != nothing:
            raise UsageError(f"--{wrong} together with --debug", hint="leave one of them out: debugging takes its time")


def refuse_beside_snap_start(given: dict[str, Any]) -> None:
    """Raises UsageError for what needs an init of its own."""
    for wrong in ("debug", "watch"):
        if given["snap_start"] and given[wrong]:
            raise UsageError(
                f"--{wrong} together with --snap-start", hint="leave one of them out: a snapshot's init is over"
            )


def refuse_beside_watch(given: dict[str, Any]) -> None:
    """Raises UsageError for what has no meaning with --watch."""
    for wrong in ("count", "concurrency"):
        if given[wrong] != 1:
            raise UsageError(f"--{wrong} together with --watch", hint="leave one of them out: a change invokes once")
    if given["no_build"]:
        raise UsageError("--no-build together with --watch", hint="leave one of them out: a change may need a build")


def watch_for_changes(given: dict[str, Any]) -> None:
    from lading.cli.watch import Request, watch

    request = Request(
        function=lambda: chosen_function(given),
        event=lambda: read_event(given["event"]),
        event_file=event_file(given["event"]),
        options=options_of(given),
        follow=print_log,
        show=print_result,
    )
    watch(request)


def print_result(outcome: Outcome) -> None:
    sys.stdout.write(outcome.answer.payload.decode("utf-8", "replace") + "\n")


def run(function: LocalFunction, event: bytes, given: dict[str, Any]) -> tuple[list[Outcome], float]:
    """The outcomes, and the seconds that all of them took."""
    import time

    from lading.cli.progress import choose_progress
    from lading.service.pool.local import invoke_local
    from lading.service.pool.local_any import prepare
    from lading.store import open_store

    options = options_of(given)
    with choose_progress() as progress:
        version = prepare(function, options, open_store(), progress)
    begin = time.monotonic()
    follow = print_log if given["count"] == 1 or given["verbose"] else None
    outcomes = invoke_local(version, [event], options, follow=follow)
    return outcomes, time.monotonic() - begin


def options_of(given: dict[str, Any]) -> LocalOptions:
    import os

    from lading.sandbox.spec import ColdStart, Isolation
    from lading.service.pool.local import LocalOptions

    isolation = given["isolation"] or ("root" if os.geteuid() == 0 else "user")
    if isolation == "process":
        click.secho(
            "warning: --isolation=process has no walls: the code can read and change your files", fg="yellow", err=True
        )
    return LocalOptions(
        count=given["count"],
        concurrency=given["concurrency"],
        isolation=Isolation(isolation),
        cold_start=ColdStart(given["cold_start"]),
        network=network_of(given["network"], Isolation(isolation)),
        debug=address_of(given["debug_address"]) if given["debug"] else None,
    )


def address_of(text: str) -> Address:
    """Where a debugger connects to; says what it has to be told. Raises UsageError."""
    from lading.service.pool.debugging import Address

    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise UsageError(f"not an address: {text!r}", hint="write it as 127.0.0.1:5678")
    if host not in ("127.0.0.1", "::1", "localhost"):
        click.secho(f"warning: whoever reaches {text} can run any code in the function", fg="yellow", err=True)
    click.echo(f"waiting for a debugger at {text}", err=True)
    return Address(host.strip("[]"), int(port))


def network_of(asked: str | None, isolation: Isolation) -> Network:
    """What was asked for; else outgoing, or none with a note where this machine can't give that."""
    from lading.sandbox.capabilities import find_capabilities, find_hierarchies
    from lading.sandbox.spec import Network

    if asked is not None:
        return Network(asked)
    missing = find_capabilities(find_hierarchies(), isolation).missing.get("outgoing")
    if missing is None:
        return Network.OUTGOING
    click.echo(f"note: the function has no network: {missing} (--network none says so too)", err=True)
    return Network.NONE


def print_log(event: Event) -> None:
    from lading.service.events import LogLine

    if isinstance(event, LogLine):
        click.echo(event.text, err=True)


def read_event(given: str) -> bytes:
    """The event's bytes: inline JSON, stdin or a file. Raises UsageError for what isn't JSON or is too large."""
    import json

    path = event_file(given)
    if path is not None:
        data = _read_file(path)
    elif given == "-":
        data = sys.stdin.buffer.read(LARGEST_EVENT + 1)
    else:
        data = given.encode()
    if len(data) > LARGEST_EVENT:
        raise UsageError(
            f"the event is larger than {LARGEST_EVENT} bytes", hint="Lambda would refuse it: send a smaller one"
        )
    try:
        json.loads(data)
    except ValueError as error:
        raise UsageError(f"the event is not JSON: {error}", hint="""try: -e '{"key": "value"}'""") from None
    return data


def event_file(given: str) -> Path | None:
    """The file that -e names; None for JSON and stdin."""
    text = given.lstrip()
    inline = text[:1] in ("{", "[", '"') or text[:1].isdigit() or text in ("null", "true", "false")
    return None if given == "-" or inline else Path(given)


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_EVENT + 1)
    except OSError as error:
        raise UsageError(f"can't read the event {path}: {error.strerror}", hint="give a file, - or JSON") from None


def chosen_function(given: dict[str, Any]) -> LocalFunction:
    """What to run, from an artifact or from the project."""
    from dataclasses import replace

    function = function_of_artifact(given) if given["artifact"] else function_of_project(given)
    changes: dict[str, Any] = {key: given[key] for key in ("memory", "timeout") if given[key] is not None}
    if given["json_logs"]:
        changes["log_format"] = "JSON"
    if given["snap_start"] is not None:
        changes["snap_start"] = given["snap_start"]
    elif given["debug"] or given["watch"]:
        changes["snap_start"] = False
    variables = dict(parse_variable(text) for text in given["variables"])
    return replace(function, **changes, environment={**function.environment, **variables})


def function_of_artifact(given: dict[str, Any]) -> LocalFunction:
    import platform

    from lading.model.project import Source
    from lading.oci.find import is_layout
    from lading.service.pool.custom_runtime import find_any_target
    from lading.service.pool.local import LocalFunction

    artifact: Path = given["artifact"].resolve()
    architecture = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    return LocalFunction(
        name=given["name"] or artifact.stem,
        artifact=artifact,
        handler=given["handler"] or ("" if is_layout(artifact) else "lambda_function.lambda_handler"),
        target=find_any_target(given["runtime"] or "python3.13", architecture),
        source=Source(artifact) if artifact.is_dir() else None,
        inputs=() if artifact.is_dir() else (artifact,),
    )


def function_of_project(given: dict[str, Any]) -> LocalFunction:
    from lading.config import load
    from lading.model.project import Source
    from lading.service.pool.local import LocalFunction

    project = load(given["path"], runtime=given["runtime"], handler=given["handler"])
    function = choose(project, given["name"])
    folders: tuple[Path, ...] = ()
    if given["no_build"]:
        artifacts = existing(project, function)
    else:
        artifacts, folders = build(project, function)
    layers = [layer for layer in map(project.layer, (reference.name for reference in function.layers)) if layer]
    return LocalFunction(
        name=function.name,
        artifact=artifacts[function.name],
        handler=function.handler,
        target=function.target,
        layers=tuple(artifacts[layer.name] for layer in layers),
        source=function.source,
        layer_sources=tuple(layer.content for layer in layers if layer.content),
        package_sources=tuple(Source(folder) for folder in folders),
        inputs=tuple(inputs_of(project, function, layers)),
        environment=function.environment,
        memory=function.memory,
        timeout=function.timeout,
        ephemeral_storage=function.ephemeral_storage,
        snap_start=function.snap_start,
    )


def inputs_of(project: Project, function: FunctionConfig, layers: list[LayerConfig]) -> Iterator[Path]:
    """The files that decide what a build makes, beside the code: the project's own, requirements, locks."""
    from lading.model.requirements import RequirementKind

    yield from (project.root / "pyproject.toml", *([project.origin] if project.origin.suffix != ".py" else []))
    for requirements in (function.requirements, *(layer.requirements for layer in layers)):
        if requirements.path is None:
            continue
        yield requirements.path
        if requirements.kind is not RequirementKind.SCRIPT:
            folder = requirements.path.parent
            yield from (path for pattern in INPUTS for path in folder.glob(pattern))


def choose(project: Project, name: str | None) -> FunctionConfig:
    """The function of that name, or the only one. Raises UsageError."""
    from lading.model.suggest import did_you_mean

    names = [function.name for function in project.functions]
    if name is None:
        if len(names) == 1:
            return project.functions[0]
        raise UsageError(f"the project has {len(names)} functions", hint=f"name one: {', '.join(names)}")
    found = project.function(name)
    if found is None:
        raise UsageError(f"no function {name!r} in {project.origin}", hint=did_you_mean(name, names))
    return found


def build(project: Project, function: FunctionConfig) -> tuple[dict[str, Path], tuple[Path, ...]]:
    """Build it and the layers it uses: paths by name, and the folders whose packages are in there.

    Raises AuditError when it would not import on Lambda.
    """
    from lading.build.run import BuildOptions, build_project
    from lading.cli.progress import choose_progress
    from lading.errors import AuditError
    from lading.store import open_store

    with choose_progress() as progress:
        report = build_project(project, open_store(), BuildOptions(names=(function.name,)), progress)
    if report.failed:
        findings = [str(finding) for artifact in report.artifacts if artifact.failed for finding in artifact.findings]
        raise AuditError(f"{function.name} would fail on Lambda", details=findings, hint="see: lading build")
    return {artifact.manifest.name: artifact.path for artifact in report.artifacts}, report.folders


def existing(project: Project, function: FunctionConfig) -> dict[str, Path]:
    names = [function.name, *(layer.name for layer in function.layers if layer.name)]
    ending = ".oci" if function.package == "image" else ".zip"
    paths = {name: project.output / f"{name}{ending if name == function.name else '.zip'}" for name in names}
    missing = [str(path) for path in paths.values() if not path.exists()]
    if missing:
        raise UsageError(f"not built yet: {', '.join(missing)}", hint="run it without --no-build")
    return paths


def parse_variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"not a variable: {text!r}", hint="write it as NAME=VALUE")
    return name, value
