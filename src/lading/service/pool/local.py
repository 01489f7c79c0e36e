"""Runs a built function here without a service: what `lading invoke` does. Blocks until all invokes are through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lading.errors import LadingError
from lading.model.project import Source
from lading.model.target import Target
from lading.sandbox.spec import ColdStart, Isolation, Network, SandboxSpec
from lading.service.control.facts import facts
from lading.service.events import Event
from lading.service.pool.custom_runtime import CustomRuntime
from lading.service.pool.debugging import Address, find_debugger, free_port, path_pairs
from lading.service.pool.function import SNAP_START, Budgets, FunctionVersion, Outcome
from lading.service.pool.runtime_folder import find_parts, unpack_archive
from lading.service.pool.session import Session, run_in_loop

if TYPE_CHECKING:
    from lading.model.progress import Progress
    from lading.store import Store

ACCOUNT = "000000000000"


class ArtifactUnusableError(LadingError):
    """The artifact or layer to run isn't there, or a function could not read it."""

    exit_code = 2


class SnapStartRefusedError(LadingError):
    """A function that SnapStart isn't for."""

    exit_code = 2


class Settings(Protocol):
    """What every function to run here has, whatever it is packaged as. Sizes in MB, timeout in seconds (0: none)."""

    @property
    def name(self) -> str: ...

    @property
    def environment(self) -> Mapping[str, str]: ...

    @property
    def memory(self) -> int: ...

    @property
    def timeout(self) -> float: ...

    @property
    def ephemeral_storage(self) -> int: ...

    @property
    def log_format(self) -> str: ...


@dataclass(frozen=True)
class LocalFunction:
    """A function to run here. `artifact` is a folder or zip; sizes in MB, timeout in seconds (0: none)."""

    name: str
    artifact: Path
    handler: str
    target: Target | CustomRuntime
    layers: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    memory: int = 128
    timeout: float = 3.0
    ephemeral_storage: int = 512
    log_format: str = "Text"
    snap_start: bool = False
    source: Source | None = None
    """Its own files, where they are known: what the artifact was built from, or a folder that is run as it is."""
    layer_sources: tuple[Source, ...] = ()
    package_sources: tuple[Source, ...] = ()
    """Folders here of which packages in the artifact were built."""
    inputs: tuple[Path, ...] = ()
    """Files whose change asks for another build."""


@dataclass(frozen=True)
class LocalOptions:
    """How to run it: so many events in all, so many at once, behind which walls."""

    count: int = 1
    concurrency: int = 1
    isolation: Isolation = Isolation.ROOT
    cold_start: ColdStart = ColdStart.FORK
    network: Network = Network.NONE
    budgets: Budgets = field(default_factory=Budgets)
    debug: Address | None = None
    """Wait for a debugger there before each start; then there is no timeout."""


def prepare(function: LocalFunction, options: LocalOptions, store: Store, progress: Progress) -> FunctionVersion:
    """Everything on disk that an environment needs, and the value the pool takes. Raises SandboxError, DownloadError,
    SnapStartRefusedError."""
    if function.snap_start and options.isolation is Isolation.PROCESS:
        raise SnapStartRefusedError("no SnapStart under isolation process", hint="use another isolation")
    if function.snap_start:
        check_snap_start(function.target.runtime.name if isinstance(function.target, Target) else function.target.name,
                         function.ephemeral_storage)  # fmt: skip
    code, layers = _folder(function.artifact, store), tuple(_folder(layer, store) for layer in function.layers)
    parts = find_parts(function.target, (code, *layers), store, progress)
    debugger = None
    if options.debug:
        paths = path_pairs((function.source,) if function.source else (), function.layer_sources)
        debugger = find_debugger(function.target, parts, paths, store, progress)
        if options.isolation is Isolation.PROCESS:  # the port is this machine's, where the relay has another
            debugger = replace(debugger, port=free_port())
    spec = SandboxSpec(
        code=code,
        interpreter=parts.interpreter,
        client=parts.client,
        entry=parts.entry,
        layers=layers,
        debugger=debugger,
        runtime=parts.name,
        handler=function.handler,
    )
    version = local_version(function, options, spec)
    return restored_from_snapshots(version) if function.snap_start else version


def restored_from_snapshots(version: FunctionVersion) -> FunctionVersion:
    """As it is once published with SnapStart."""
    return replace(version, initialization_type=SNAP_START, version="1")


def local_version(function: Settings, options: LocalOptions, spec: SandboxSpec) -> FunctionVersion:
    """The value that the pool takes. `spec` says what runs; the rest of it follows from the others."""
    timeout = 0.0 if options.debug else function.timeout
    whole = replace(
        spec,
        environment=function.environment,
        memory=function.memory,
        ephemeral_storage=function.ephemeral_storage,
        network=options.network,
        isolation=options.isolation,
        cold_start=options.cold_start,
    )
    return FunctionVersion(
        arn=f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{function.name}",
        name=function.name,
        spec=whole,
        timeout=timeout,
        log_format=function.log_format,
        account_id=ACCOUNT,
        budgets=options.budgets if timeout else replace(options.budgets, init=0.0),
    )


def check_snap_start(runtime: str | None, storage: int) -> None:
    """Raises SnapStartRefusedError for what AWS wouldn't take a snapshot of. runtime: None for images."""
    known, most = facts()["snapstart_runtimes"], facts()["snapstart_storage"]
    if runtime is not None and runtime not in known:
        raise SnapStartRefusedError(f"no SnapStart for {runtime}", hint=f"use one of {', '.join(known)}")
    if storage > most:
        raise SnapStartRefusedError(
            f"no SnapStart with {storage} MB of ephemeral storage", hint=f"set ephemeral-storage to {most}"
        )


def invoke_local(
    version: FunctionVersion,
    events: Sequence[bytes],
    options: LocalOptions,
    follow: Callable[[Event], None] | None = None,
) -> list[Outcome]:
    """Invoke `options.count` times, with the events in turn, at most `options.concurrency` at once; outcomes in order."""
    if not events or options.count < 1 or options.concurrency < 1:
        raise ValueError("at least one event, one invoke and one at a time")
    return run_in_loop(_invoke_all(version, events, options, follow))


async def _invoke_all(
    version: FunctionVersion,
    events: Sequence[bytes],
    options: LocalOptions,
    follow: Callable[[Event], None] | None,
) -> list[Outcome]:
    async with Session(options.isolation, options.concurrency, follow, options.debug) as session:
        return await session.invoke(version, events, options.count)


def _folder(path: Path, store: Store) -> Path:
    path = path.resolve()
    if path.is_dir():
        if path.stat().st_mode & 0o005 != 0o005:
            raise ArtifactUnusableError(
                f"{path} is closed to other users, and a function runs as another one", hint=f"chmod o+rx {path}"
            )
        return path
    if not path.is_file():
        raise ArtifactUnusableError(f"{path} does not exist", hint="build it first: lading build")
    return unpack_archive(path, store)
