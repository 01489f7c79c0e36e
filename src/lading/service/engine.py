"""Runs the control plane's functions in the pool's environments: makes each version's value once, asks the pool, and
translates what comes back. The pool and the host are made at the first invoke, on the loop that invokes."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lading.errors import LadingError, SandboxError
from lading.model.progress import Silent
from lading.model.target import Target as RuntimeTarget
from lading.sandbox.host import Host
from lading.sandbox.spec import ColdStart, Isolation, Network, SandboxSpec
from lading.service.contract.errors import ApiError
from lading.service.control.configuration import has_snapshot
from lading.service.control.control import Control, Origin
from lading.service.control.images import is_image
from lading.service.control.invocation import InvokeRequest, InvokeResult, StreamedResult, Target, throttled
from lading.service.control.names import LATEST, FunctionReference, Scope
from lading.service.control.refusal import not_here
from lading.service.events import EventStream, Throttled
from lading.service.images import FunctionImages
from lading.service.pool.custom_runtime import CustomRuntime, find_any_target
from lading.service.pool.door import Door
from lading.service.pool.function import SNAP_START, Answer, FunctionVersion, Outcome, RootLease, StreamSink
from lading.service.pool.function import InvokeRequest as PoolRequest
from lading.service.pool.pool import Pool, Provisioned, ThrottledError
from lading.service.pool.runtime_folder import RuntimeParts, find_parts
from lading.service.pool.snapshots import RestoreError, SnapshotError
from lading.service.pool.streams import StreamBuffer
from lading.store import open_store

SPARES = 2
"""Walls per runtime that stand ready for the next cold start."""


@dataclass(frozen=True)
class Walls:
    """How environments are made."""

    isolation: Isolation = Isolation.ROOT
    cold_start: ColdStart = ColdStart.FORK
    network: Network = Network.OUTGOING


class PoolInvoker:
    """The `Invoker` over a pool. Use it from one event loop; close it there."""

    def __init__(
        self, control: Control, events: EventStream, walls: Walls, now: Callable[[], float] = time.monotonic
    ) -> None:
        """now: seconds that idle times of environments go by."""
        self._now = now
        self._control = control
        self._events = events
        self._walls = walls
        self._store = open_store()
        self._host: Host | None = None
        self._pool: Pool | None = None
        self._versions: dict[tuple[str, str], tuple[str, FunctionVersion]] = {}
        """(ARN, version) → (what it was made of, the pool's value)."""
        self._parts: dict[str, RuntimeParts] = {}
        self._reserved: dict[str, int | None] = {}
        """ARN → what the pool was told."""
        self.door: Door | None = None
        """How environments reach this service; to be set before the first invoke."""
        self.report: Callable[[FunctionVersion, Provisioned], None] | None = None
        """Who wants to know of provisioned environments."""
        self._lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._warming: set[asyncio.Future[None]] = set()
        self.images: FunctionImages | None = None
        """Where the roots of functions come from that are images; to be set before the first invoke."""
        control.watch(self._changed)

    async def invoke(self, request: InvokeRequest) -> InvokeResult:
        """Raises ApiError: throttled, or no environment could be made."""
        if request.log_tail:
            ended = await self._begin(request)
            ended.add_done_callback(lambda ended: self._note(ended, request))
            outcome = await self._ended(ended)
            return InvokeResult(outcome.answer.payload, outcome.answer.function_error, outcome.log)
        first: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def answer(value: Answer) -> None:
            if not first.done():
                first.set_result(value)

        def end(ended: asyncio.Future[Outcome]) -> None:
            self._note(ended, request)
            if not first.done():
                if error := _failure(ended):
                    first.set_exception(error)
                else:
                    first.set_result(ended.result().answer)

        (await self._begin(request, answer)).add_done_callback(end)
        try:
            got = await first
        except _REFUSALS as error:
            raise _refusal(error) from error
        return InvokeResult(got.payload, got.function_error, content_type=got.content_type)

    async def stream(self, request: InvokeRequest) -> StreamedResult:
        """The pieces as the function sends them; the whole in one piece where it doesn't stream."""
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        pieces = StreamBuffer()
        sink = StreamSink(lambda kind: None if started.done() else started.set_result(kind), pieces.put, pieces.hold)
        ended = await self._begin(request, sink=sink)
        ended.add_done_callback(lambda _: pieces.put(None))
        ended.add_done_callback(lambda ended: self._note(ended, request))
        await asyncio.wait((ended, started), return_when=asyncio.FIRST_COMPLETED)
        whole = None if started.done() else (await self._ended(ended)).answer
        content_type = whole.content_type if whole is not None else started.result()

        async def flow() -> AsyncIterator[bytes]:
            try:
                while (piece := await pieces.get()) is not None:
                    yield piece
            finally:
                pieces.abandon()
            answer = (await self._ended(ended)).answer
            if not answer.streamed and not answer.error_type and answer.payload:
                yield answer.payload

        async def end() -> InvokeResult:
            outcome = await self._ended(ended)
            log = outcome.log if request.log_tail else ""
            payload = outcome.answer.payload if outcome.answer.error_type else b""
            return InvokeResult(payload, outcome.answer.function_error, log)

        return StreamedResult(content_type, flow(), end, failed=whole is not None and bool(whole.error_type))

    async def provision(self, target: Target, wanted: int) -> None:
        """Environments a version has at all times; `report` hears how it goes. Raises ApiError where none can be made."""
        if not wanted and (target.arn, target.version) not in self._versions:
            return
        function = await self._version(target)
        assert self._pool is not None
        self._reserve(target, function)
        self._pool.provision(function, wanted)

    async def take_snapshot(self, target: Target) -> None:
        """The init of a version with SnapStart. Raises SnapshotError where it fails, ApiError where nothing can be run."""
        function = await self._version(target)
        assert self._pool is not None
        self._reserve(target, function)
        try:
            await self._pool.take_snapshot(function)
        except SandboxError as error:
            raise ApiError("ServiceException", f"no snapshot could be taken: {error.message}") from error

    def folders(self) -> set[Path]:
        """Code and layers that environments stand on."""
        specs = self._pool.specs() if self._pool is not None else ()
        return {folder for spec in specs for folder in (spec.code, *spec.layers) if folder is not None}

    def leave_root(self, folders: tuple[Path, ...]) -> None:
        """Nothing stands ready any more on an image's root that nobody needs. Blocks; from any thread."""
        if self._host is not None:
            self._host.leave(folders)

    async def start(self) -> None:
        """On the loop that will invoke."""
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        self._loop = None
        for task in self._warming:
            task.cancel()
        await asyncio.gather(*self._warming, return_exceptions=True)
        if self._pool is not None:
            await self._pool.close()
        if self._host is not None:
            await asyncio.to_thread(self._host.close)

    async def _begin(
        self, request: InvokeRequest, answered: Callable[[Answer], None] | None = None, sink: StreamSink | None = None
    ) -> asyncio.Future[Outcome]:
        """The invoke under way; it goes on when the caller leaves, as on AWS."""
        function = await self._version(request.target)
        assert self._pool is not None
        self._reserve(request.target, function)
        call = PoolRequest(
            request.request_id,
            request.event,
            invoked_arn=request.invoked_arn,
            trace_id=request.trace_id,
            client_context=request.client_context,
            asynchronous=request.asynchronous,
            sink=sink,
        )
        return self._pool.begin(function, call, answered)

    def _note(self, ended: asyncio.Future[Outcome], request: InvokeRequest) -> None:
        """Of every invoke: its failure is taken note of, whether a caller is still there or not."""
        if isinstance(error := _failure(ended), ThrottledError):
            self._events.append(Throttled(time.time(), request.target.arn, request.request_id, error.reason.value))

    def expire(self, arn: str) -> None:
        """End a function's environments, those at work after their request: the next invoke is a cold start."""
        self._forget(arn)

    async def _ended(self, outcome: asyncio.Future[Outcome]) -> Outcome:
        """What an invoke came to. Raises ApiError for what kept it from running."""
        try:
            return await asyncio.shield(outcome)
        except _REFUSALS as error:
            raise _refusal(error) from error

    # Versions

    async def _version(self, target: Target) -> FunctionVersion:
        """The pool's value of a version; made anew, and the old one's environments retired, when it changed."""
        key, identity = (target.arn, target.version), target.identity
        known = self._versions.get(key)
        if known is not None and known[0] == identity:
            return known[1]
        async with self._lock:
            known = self._versions.get(key)
            if known is not None and known[0] == identity:
                return known[1]
            try:
                pool = await self._opened()
                function = await asyncio.to_thread(self._make, target)
            except ApiError:
                raise
            except LadingError as error:
                message = f"no execution environment could be made: {error.message}"
                raise ApiError("ServiceException", f"{message}; {error.hint}" if error.hint else message) from error
            if known is not None:
                pool.retire(known[1])
                _let_go(known[1])
            self._versions[key] = identity, function
            return function

    def _told(self, function: FunctionVersion, provisioned: Provisioned) -> None:
        if self.report is not None:
            self.report(function, provisioned)

    def _reserve(self, target: Target, function: FunctionVersion) -> None:
        """The reservation as the call's target has it: a function's, so that it holds for all versions at once."""
        if self._reserved.get(target.arn) != target.reserved:
            assert self._pool is not None
            self._pool.reserve(function, target.reserved)
            self._reserved[target.arn] = target.reserved

    async def _opened(self) -> Pool:
        if self._pool is None:
            self._loop = asyncio.get_running_loop()
            services = self.door is not None
            self._host = await asyncio.to_thread(lambda: Host(self._walls.isolation, spares=SPARES, services=services))
            self._pool = Pool(self._host, self._events, report=self._told, door=self.door, now=self._now)
        return self._pool

    def _make(self, target: Target) -> FunctionVersion:
        configuration = target.configuration
        _check_machine(configuration["Architectures"][0])
        contents, lease = self._contents(target)
        assert self._host is not None
        outgoing = self._walls.network is Network.OUTGOING and self._host.capabilities.outgoing
        spec = replace(
            contents,
            environment=configuration.get("Environment", {}).get("Variables", {}),
            memory=configuration["MemorySize"],
            ephemeral_storage=configuration["EphemeralStorage"]["Size"],
            network=Network.OUTGOING if outgoing else Network.NONE,
            isolation=self._walls.isolation,
            cold_start=self._walls.cold_start,
        )
        logging = configuration["LoggingConfig"]
        return FunctionVersion(
            arn=target.arn,
            name=target.name,
            spec=spec,
            version=target.version,
            revision=target.identity,
            timeout=float(configuration["Timeout"]),
            log_format=logging["LogFormat"],
            log_group=logging["LogGroup"],
            region=target.scope.region,
            account_id=target.scope.account,
            initialization_type=SNAP_START if has_snapshot(dict(configuration)) else "on-demand",
            role=configuration["Role"],
            root=lease,
        )

    def _contents(self, target: Target) -> tuple[SandboxSpec, RootLease | None]:
        """What is in a version's environments, and what holds it."""
        configuration = target.configuration
        if is_image(configuration):
            if self.images is None:
                raise not_here("running a container image", "serve it with its registry: lading serve")
            root, lease = self.images.open(configuration, target.scope.account)
            return SandboxSpec(image=root, runtime=""), lease
        runtime = find_any_target(configuration["Runtime"], configuration["Architectures"][0])
        trees = (self._tree(target.package), *(self._tree(digest) for digest in target.layers))
        parts = self._find_parts(runtime, trees)
        spec = SandboxSpec(
            code=trees[0],
            interpreter=parts.interpreter,
            client=parts.client,
            entry=parts.entry,
            layers=trees[1:],
            runtime=parts.name,
            handler=configuration["Handler"],
        )
        return spec, None

    def _find_parts(self, runtime: RuntimeTarget | CustomRuntime, trees: tuple[Path, ...]) -> RuntimeParts:
        """A managed runtime's are looked for once, which takes as long as a function's walls: until they are gone."""
        if isinstance(runtime, CustomRuntime):
            return find_parts(runtime, trees, self._store, Silent())
        known = self._parts.get(runtime.key)
        if known is None or not all(folder and folder.is_dir() for folder in (known.interpreter, known.client)):
            known = self._parts[runtime.key] = find_parts(runtime, trees, self._store, Silent())
        return known

    def _tree(self, digest: str) -> Path:
        return self._control.packages.tree(digest)

    def _changed(self, scope: Scope, name: str) -> None:
        """Environments of functions and versions that are gone end now; those of changed ones when they are next invoked."""
        if self._loop is None or not name:
            return
        arn = scope.function_arn(name)
        if not self._control.exists(scope, name):
            self._loop.call_soon_threadsafe(self._forget, arn)
            return
        for version in [version for known, version in list(self._versions) if known == arn and version != LATEST]:
            if not self._control.has_version(scope, name, version):
                self._loop.call_soon_threadsafe(self._forget_version, arn, version)
        if self._control.runs_image(scope, name):
            self._loop.call_soon_threadsafe(self._warm_soon, scope, name)

    def _warm_soon(self, scope: Scope, name: str) -> None:
        task = asyncio.ensure_future(self._warm(scope, name))
        self._warming.add(task)
        task.add_done_callback(self._warming.discard)

    async def _warm(self, scope: Scope, name: str) -> None:
        """An image brings its own interpreter: it is started before the first invoke asks for it, as a runtime's is."""
        with contextlib.suppress(LadingError, ApiError):  # the invoke itself will say what is wrong
            choice = await self._control.choose(Origin(scope, ""), FunctionReference(name, None))
            target = choice.pick()
            known = self._versions.get((target.arn, target.version))
            if target.configuration["State"] == "Active" and (known is None or known[0] != target.identity):
                function = await self._version(target)
                assert self._host is not None
                await asyncio.to_thread(self._host.warm, function.spec)

    def _forget(self, arn: str) -> None:
        for key in [key for key in self._versions if key[0] == arn]:
            _, function = self._versions.pop(key)
            if self._pool is not None:
                self._pool.reserve(function, None)
                self._pool.retire(function)
            _let_go(function)
        self._reserved.pop(arn, None)

    def _forget_version(self, arn: str, version: str) -> None:
        known = self._versions.pop((arn, version), None)
        if known is not None:
            if self._pool is not None:
                self._pool.retire(known[1])
            _let_go(known[1])


_REFUSALS = (ThrottledError, RestoreError, SnapshotError, SandboxError)
"""What keeps an invoke from running."""


def _failure(ended: asyncio.Future[Outcome]) -> BaseException | None:
    return asyncio.CancelledError() if ended.cancelled() else ended.exception()


def _refusal(error: ThrottledError | RestoreError | SnapshotError | SandboxError) -> ApiError:
    """The same as the API says it."""
    if isinstance(error, ThrottledError):
        return throttled(error.reason.value)
    if isinstance(error, RestoreError | SnapshotError):
        return _not_restored(error)
    return ApiError("ServiceException", f"no execution environment could be made: {error.message}")


def _not_restored(error: RestoreError | SnapshotError) -> ApiError:
    """As the API words it (Lambda API reference, "Invoke": the SnapStart exceptions)."""
    if isinstance(error, SnapshotError):
        return ApiError("SnapStartRegenerationFailureException", "Lambda couldn't regenerate the SnapStart snapshot for the "
                        f"function. {error.message}")  # fmt: skip
    if error.fault.status == "timeout":
        return ApiError("SnapStartTimeoutException", "Lambda couldn't restore the snapshot within the timeout limit.")
    return ApiError("SnapStartException", "The afterRestore() runtime hook encountered an error. For more information, check "
                    "the Amazon CloudWatch logs.")  # fmt: skip


def _let_go(function: FunctionVersion) -> None:
    """No new environment will be made of it; those that live hold what they need themselves."""
    if function.root is not None:
        function.root.release()


def _check_machine(architecture: str) -> None:
    """Raises ApiError for a function whose code this machine's processor doesn't run."""
    here = {"aarch64": "arm64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    if architecture != here:
        hint = f"create the function for {here}, or serve it on such a machine"
        raise not_here(f"running {architecture} functions on a machine of {here}", hint)
