"""Runs a built function here without a service: what `lading invoke` does. Blocks until all invokes are through."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lading.errors import LadingError
from lading.model.target import Target
from lading.sandbox.host import Host
from lading.sandbox.spec import ColdStart, Isolation, Network, SandboxSpec
from lading.service.events import Event, EventStream
from lading.service.pool.assign import Settings
from lading.service.pool.custom_runtime import CustomRuntime
from lading.service.pool.function import Budgets, FunctionVersion, InvokeRequest, Outcome
from lading.service.pool.pool import Pool
from lading.service.pool.runtime_folder import find_parts, unpack_archive

if TYPE_CHECKING:
    from lading.model.progress import Progress
    from lading.store import Store

ACCOUNT = "000000000000"
SPARES = 4
"""Walls that stand ready for the next cold starts."""


class ArtifactUnusableError(LadingError):
    """The artifact or layer to run isn't there, or a function could not read it."""

    exit_code = 2


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


@dataclass(frozen=True)
class LocalOptions:
    """How to run it: so many events in all, so many at once, behind which walls."""

    count: int = 1
    concurrency: int = 1
    isolation: Isolation = Isolation.ROOT
    cold_start: ColdStart = ColdStart.FORK
    network: Network = Network.NONE
    budgets: Budgets = field(default_factory=Budgets)


def prepare(function: LocalFunction, options: LocalOptions, store: Store, progress: Progress) -> FunctionVersion:
    """Everything on disk that an environment needs, and the value the pool takes. Raises SandboxError, DownloadError."""
    code, layers = _folder(function.artifact, store), tuple(_folder(layer, store) for layer in function.layers)
    parts = find_parts(function.target, (code, *layers), store, progress)
    spec = SandboxSpec(
        code=code,
        interpreter=parts.interpreter,
        client=parts.client,
        entry=parts.entry,
        layers=layers,
        runtime=parts.name,
        handler=function.handler,
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
        spec=spec,
        timeout=function.timeout,
        log_format=function.log_format,
        account_id=ACCOUNT,
        budgets=options.budgets if function.timeout else replace(options.budgets, init=0.0),
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
    return _run(_invoke_all(version, events, options, follow))


async def _invoke_all(
    version: FunctionVersion,
    events: Sequence[bytes],
    options: LocalOptions,
    follow: Callable[[Event], None] | None,
) -> list[Outcome]:
    stream = EventStream()
    if follow is not None:
        stream.follow(follow)
    host = await asyncio.to_thread(lambda: Host(options.isolation, spares=min(options.concurrency, SPARES)))
    pool = Pool(host, stream, Settings(account=max(1000, options.concurrency), burst=max(1000, options.concurrency)))
    try:
        await asyncio.to_thread(host.warm, version.spec)
        pool.reserve(version, options.concurrency)
        return list(await asyncio.gather(*(
            pool.invoke(version, InvokeRequest(str(uuid.uuid4()), events[number % len(events)], trace_id=_trace()), queue=True)
            for number in range(options.count)
        )))  # fmt: skip
    finally:
        await pool.close()
        await asyncio.to_thread(host.close)


def _run(work: Coroutine[Any, Any, list[Outcome]]) -> list[Outcome]:
    """In a loop of uvloop's where it is installed: half the time per warm invoke."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


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


def _trace() -> str:
    """A trace id as X-Ray's, not sampled."""
    identity = uuid.uuid4().hex
    return f"Root=1-{int(time.time()):08x}-{identity[:24]};Parent={identity[16:]};Sampled=0"
