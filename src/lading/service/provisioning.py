"""Keeps the pool's provisioned environments as the configurations say, and the configurations' states as the pool says.
One event loop; the state is read and written beside it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.control.control import Control
from lading.service.control.invocation import Target, find_choice
from lading.service.control.names import FunctionReference, Scope
from lading.service.engine import PoolInvoker
from lading.service.pool.function import FunctionVersion
from lading.service.pool.pool import Provisioned
from lading.service.state import Key

log = logging.getLogger("lading.service")
_Version = tuple[str, str]
"""(function's ARN, version)"""


class Provisioning:
    """`start` on the invoker's loop, `close` before the invoker."""

    def __init__(self, control: Control, invoker: PoolInvoker) -> None:
        self._control = control
        self._invoker = invoker
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subjects: dict[_Version, tuple[Key, Target]] = {}
        """Version → the configuration that provisions it, and what it is."""
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        invoker.report = self._told
        control.watch(self._changed)

    async def start(self) -> None:
        """Provision what is configured; until an environment is there none is reported."""
        self._loop = asyncio.get_running_loop()
        for scope, name in await asyncio.to_thread(self._configured):
            self._adjust_soon(scope, name)

    async def close(self) -> None:
        self._loop = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _configured(self) -> set[tuple[Scope, str]]:
        found = set()
        for status in ("READY", "IN_PROGRESS", "FAILED"):
            for record in self._control.state.find_everywhere("provisioned", "$.Status", status):
                _write(self._control, record.key, _progress("IN_PROGRESS", 0, 0))
                found.add((Scope(record.key.account, record.key.region), record.key.parent))
        return found

    # From the configurations to the pool

    def _changed(self, scope: Scope, name: str) -> None:
        """From any thread: something of a function is another."""
        if self._loop is not None and name:
            self._loop.call_soon_threadsafe(self._adjust_soon, scope, name)

    def _adjust_soon(self, scope: Scope, name: str) -> None:
        if self._loop is not None:
            task = self._loop.create_task(self._adjust(scope, name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _adjust(self, scope: Scope, name: str) -> None:
        """Ask the pool for what a function's configurations say now, one function after the other."""
        async with self._turn:
            wanted = await asyncio.to_thread(self._wanted, scope, name)
            arn = scope.function_arn(name)
            for gone in [key for key in self._subjects if key[0] == arn and key not in wanted]:
                _, target = self._subjects.pop(gone)
                await self._invoker.provision(target, 0)
            for version, (key, target, count) in wanted.items():
                self._subjects[version] = key, target
                try:
                    await self._invoker.provision(target, count)
                except ApiError as error:
                    del self._subjects[version]
                    await self._write(key, count, _progress("FAILED", 0, 0, error.message))

    def _wanted(self, scope: Scope, name: str) -> dict[_Version, tuple[Key, Target, int]]:
        """What is to be provisioned of a function; versions that aren't active yet come when they are."""
        state = self._control.state
        found: dict[_Version, tuple[Key, Target, int]] = {}
        for record in state.list_by_name(Key(scope.account, scope.region, "provisioned", name)):
            if record.document["Status"] == "FAILED":
                continue
            try:
                choice = find_choice(state, scope, FunctionReference(name, record.key.name))
            except ApiError:
                continue
            target, _ = choice.targets[0]
            if target.configuration["State"] == "Active":
                count = record.document["RequestedProvisionedConcurrentExecutions"]
                found[target.arn, target.version] = record.key, target, count
        return found

    # From the pool to the configurations

    def _told(self, function: FunctionVersion, provisioned: Provisioned) -> None:
        """On the loop: a version's environments are others. One that can't be had gives up the whole configuration."""
        version = function.arn, function.version
        subject = self._subjects.get(version)
        if subject is None or self._loop is None:
            return
        key, target = subject
        allocation = provisioned.allocation
        if provisioned.reason:
            del self._subjects[version]
            outcome = _progress("FAILED", 0, 0, provisioned.reason)
            self._spawn_end(target)
        else:
            ready = allocation.available >= allocation.wanted
            outcome = _progress("READY" if ready else "IN_PROGRESS", allocation.allocated, allocation.available)
        task = self._loop.create_task(self._write(key, allocation.wanted, outcome))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _spawn_end(self, target: Target) -> None:
        assert self._loop is not None
        task = self._loop.create_task(self._invoker.provision(target, 0))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, key: Key, count: int, outcome: dict[str, Any]) -> None:
        await self._control.run_beside(lambda: _write(self._control, key, outcome, count))


def _progress(status: str, allocated: int, available: int, reason: str = "") -> dict[str, Any]:
    return {
        "Status": status,
        "AllocatedProvisionedConcurrentExecutions": allocated,
        "AvailableProvisionedConcurrentExecutions": available,
        "StatusReason": reason or None,
    }


def _write(control: Control, key: Key, outcome: dict[str, Any], count: int | None = None) -> None:
    """Unless the configuration is gone, or asks for another count than the outcome is of."""
    with control.state.transaction():
        document = control.state.get(key)
        if document is None or count not in (None, document["RequestedProvisionedConcurrentExecutions"]):
            return
        kept = {name: value for name, value in document.items() if name not in outcome}
        control.state.put(key, kept | {name: value for name, value in outcome.items() if value is not None})
