"""Takes the snapshots of versions with SnapStart as they are published, and says in their states how it went. One event
loop; the state is read and written beside it."""

from __future__ import annotations

import asyncio
import logging

from lading.errors import LadingError
from lading.service.contract.errors import ApiError
from lading.service.control.control import Control
from lading.service.control.invocation import find_choice
from lading.service.control.names import FunctionReference, Scope
from lading.service.engine import PoolInvoker
from lading.service.state import Key

log = logging.getLogger("lading.service")


class Snapshots:
    """`start` on the invoker's loop, `close` before the invoker. Without an invoker nothing can be initialised or fail."""

    def __init__(self, control: Control, invoker: PoolInvoker | None) -> None:
        self._control = control
        self._invoker = invoker
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._control.snapshots_by, self._begin)

    async def close(self) -> None:
        """What is not finished is found by its state at the next start."""
        self._loop = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, key: Key) -> None:
        """From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._spawn, key)

    def _spawn(self, key: Key) -> None:
        if self._loop is not None:
            task = self._loop.create_task(self._take(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(self, key: Key) -> None:
        wanted = await asyncio.to_thread(self._control.state.get, key)
        if wanted is None:
            return
        failed = False
        if self._invoker is not None:
            scope, reference = Scope(key.account, key.region), FunctionReference(key.parent, key.name)
            try:
                choice = await asyncio.to_thread(find_choice, self._control.state, scope, reference)
                await self._invoker.take_snapshot(choice.targets[0][0])
            except (LadingError, ApiError) as error:
                log.warning("no snapshot of %s:%s: %s", key.parent, key.name, error)
                failed = True
        await self._control.finish_snapshot(key, wanted, failed=failed)
