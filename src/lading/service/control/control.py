"""The control plane: runs operations one after the other beside the event loop, each in a transaction, and what they ask
for afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from lading.model.value import value
from lading.service.contract.errors import ApiError
from lading.service.control.call import Call, Outside, Parameters, Result
from lading.service.control.event_sources import KIND as SOURCE
from lading.service.control.garbage import collect
from lading.service.control.images import PIN, Images, image_uri, is_image
from lading.service.control.invocation import Choice, find_choice
from lading.service.control.names import LATEST, FunctionReference, Scope, read_reference
from lading.service.control.operations import OPERATIONS
from lading.service.control.packages import Packages
from lading.service.control.preparation import finish, prepare, unfinished
from lading.service.control.reach import UrlTarget, find_url
from lading.service.control.refusal import named, not_here
from lading.service.state import Key, State, open_state

MEMORY = ":memory:"


@value
class Origin:
    """Whose request it is, and under which address the client reached the service ("http://127.0.0.1:4566")."""

    scope: Scope
    endpoint: str
    request_id: str = ""


class Control:
    """The service's functions and all that belongs to them. Close it when done."""

    def __init__(self, state: State, packages: Packages, *, now: Callable[[], float] = time.time) -> None:
        self.state = state
        self.packages = packages
        self.now = now
        self.outside: Outside | None = None
        self.images: Images | None = None
        self._operations = ThreadPoolExecutor(1, "control")
        self._preparations = ThreadPoolExecutor(1, "preparation")
        self._images_aside = ThreadPoolExecutor(4, "images")
        """Fetching and unpacking images, which may take long."""
        self._pins = ThreadPoolExecutor(4, "pins")
        """Asking registries what a name means now."""
        self._on_close = contextlib.ExitStack()
        self._choices: dict[tuple[Scope, FunctionReference], Choice] = {}
        self._urls: dict[str, UrlTarget] = {}
        self._generation = 0
        self._watchers: list[Callable[[Scope, str], None]] = []
        self._source_watchers: list[Callable[[Key], None]] = []
        self._snapshots: Callable[[Key], None] | None = None
        self._unsnapped: list[Key] = []
        """Versions that wait for somebody who takes snapshots."""
        self._lock = threading.Lock()
        collect(state, packages)
        for key in unfinished(state):
            self._prepare(key)

    async def call(self, operation: str, parameters: Parameters, origin: Origin) -> Result:
        """Run an operation. Raises ApiError for what it refuses."""
        loop = asyncio.get_running_loop()
        uri = image_uri(operation, parameters)
        if uri and self.images is not None:  # another registry may be slow: no other operation waits for it
            images = self.images
            pin = await loop.run_in_executor(self._pins, images.pin, uri, origin.scope, origin.endpoint)
            parameters = parameters | {PIN: pin}
        return await loop.run_in_executor(self._operations, self.run, operation, parameters, origin)

    def run(self, operation: str, parameters: Parameters, origin: Origin) -> Result:
        """The same from any thread."""
        run = OPERATIONS.get(operation)
        if run is None:
            raise not_here(operation)
        later: list[Key] = []
        call = Call(
            origin.scope, self.state, self.packages, origin.endpoint, later.append, self.now, self.outside, self.images
        )
        try:
            with self.state.transaction():
                result = run(call, parameters)
        except ApiError as error:
            raise named(error, operation) from None
        if not operation.startswith(("Get", "List")):
            self._changed(origin.scope, _function_named(origin.scope, parameters))
        for key in later:
            if key.kind == SOURCE:
                for watcher in self._source_watchers:
                    watcher(key)
            else:
                self._prepare(key)
        return result

    def serve_images(self, images: Images) -> None:
        """From now on there are images, and those whose preparation a stop interrupted are prepared."""
        self.images = images
        for key in unfinished(self.state):
            if is_image(self.state.get(key) or {}):
                self._prepare(key)

    async def run_beside(self, action: Callable[[], None]) -> None:
        """Something that is no operation, in turn with them."""
        await asyncio.get_running_loop().run_in_executor(self._operations, action)

    async def choose(self, origin: Origin, reference: FunctionReference) -> Choice:
        """What an invocation of a function means today; remembered until something changes. Raises ApiError."""
        known = self._choices.get((origin.scope, reference))
        if known is not None:
            return known
        generation = self._generation
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._operations, find_choice, self.state, origin.scope, reference)
        if generation == self._generation:
            self._choices[origin.scope, reference] = found
        return found

    async def find_url(self, identity: str) -> UrlTarget | None:
        """The function behind a URL; remembered until something changes."""
        known = self._urls.get(identity)
        if known is not None:
            return known
        generation = self._generation
        found = await asyncio.get_running_loop().run_in_executor(self._operations, find_url, self.state, identity)
        if found is not None and generation == self._generation:
            self._urls[identity] = found
        return found

    def exists(self, scope: Scope, name: str) -> bool:
        """Whether there is a function of that name."""
        return self.state.get(Key(scope.account, scope.region, "function", name=name)) is not None

    async def may_recur(self, scope: Scope, name: str) -> bool:
        """Whether a function's recursion config lets it call itself without end."""
        key = Key(scope.account, scope.region, "function", name=name)
        found = await asyncio.get_running_loop().run_in_executor(self._operations, self.state.get, key)
        return (found or {}).get("recursive") == "Allow"

    def has_version(self, scope: Scope, name: str, version: str) -> bool:
        return self.state.get(Key(scope.account, scope.region, "version", name, version)) is not None

    def runs_image(self, scope: Scope, name: str) -> bool:
        """Whether a function is an image."""
        return is_image(self.state.get(Key(scope.account, scope.region, "version", name, LATEST)) or {})

    def watch(self, watcher: Callable[[Scope, str], None]) -> None:
        """Call `watcher`, from any thread, with the scope and the function's name ("" for none) of what changed."""
        self._watchers.append(watcher)

    def watch_sources(self, watcher: Callable[[Key], None]) -> None:
        """Call `watcher`, from any thread, with the key of an event source mapping that changed."""
        self._source_watchers.append(watcher)

    def snapshots_by(self, take: Callable[[Key], None]) -> None:
        """Who begins, from any thread, to take the snapshot of a version with SnapStart; `finish_snapshot` is its end."""
        with self._lock:
            self._snapshots, waiting = take, self._unsnapped
            self._unsnapped = []
        for key in waiting:
            take(key)

    async def finish_snapshot(self, key: Key, wanted: Result, *, failed: bool) -> None:
        """wanted: the version as it was when the snapshot was begun."""
        await self.run_beside(lambda: finish(self.state, key, wanted, failed=failed))
        self._changed(Scope(key.account, key.region), key.parent)

    def _take_snapshot(self, key: Key) -> None:
        with self._lock:
            take = self._snapshots
            if take is None:
                self._unsnapped.append(key)
        if take is not None:
            take(key)

    def _changed(self, scope: Scope, name: str) -> None:
        self._generation += 1
        self._choices.clear()
        self._urls.clear()
        for watcher in self._watchers:
            watcher(scope, name)

    def _prepare(self, key: Key) -> Future[None]:
        wanted = self.state.get(key)
        aside = self._images_aside if wanted is not None and is_image(wanted) else self._preparations
        return aside.submit(self._prepare_now, key)

    def _prepare_now(self, key: Key) -> None:
        prepare(self.state, self.packages, self.images, key, self._take_snapshot)
        self._changed(Scope(key.account, key.region), key.parent)

    def close(self) -> None:
        """What is under way finishes; preparations not begun are left for the next start."""
        self._operations.shutdown()
        self._preparations.shutdown(cancel_futures=True)
        self._images_aside.shutdown(cancel_futures=True)
        self._pins.shutdown(cancel_futures=True)
        self.state.close()
        self._on_close.close()

    def closing(self, action: Callable[[], object]) -> None:
        """Something to do after the close."""
        self._on_close.callback(action)


def _function_named(scope: Scope, parameters: Parameters) -> str:
    """The function that a request was about, however it named it; "" for requests about others."""
    named = parameters.get("FunctionName") or parameters.get("Resource") or parameters.get("ResourceArn")
    try:
        return read_reference(scope, str(named)).name if named else ""
    except ApiError:
        return ""


def open_control(folder: Path | str, *, now: Callable[[], float] = time.time) -> Control:
    """The control plane over a state folder; ":memory:" is a temporary one that goes with it. Raises StateError."""
    if str(folder) != MEMORY:
        return Control(open_state(Path(folder)), Packages(Path(folder)), now=now)
    temporary = tempfile.TemporaryDirectory(prefix="lading-state-", ignore_cleanup_errors=True)
    root = Path(temporary.name)
    control = Control(open_state(root), Packages(root), now=now)
    control.closing(temporary.cleanup)
    return control
