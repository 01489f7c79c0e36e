"""Removes packages while the service runs: those that two looks in a row found neither referred to by a version or layer nor
mounted in an environment. One event loop; the disk is read and written beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from lading.service.clock import Clock
from lading.service.control.control import Control
from lading.service.control.garbage import referenced, take_out
from lading.store.folder import remove_tree

EVERY = 600.0
"""Seconds of the service's clock between two looks: as long as a link to a package works."""
LEAST = 4.0
"""Seconds between them however fast that clock runs: longer than an environment needs to end (SHUTDOWN has 2 s)."""
log = logging.getLogger("lading.service")


class Sweep:
    """`start` and `close` on the service's loop. `in_use`: the folders that environments stand on, asked there."""

    def __init__(
        self, control: Control, clock: Clock, in_use: Callable[[], set[Path]], roots: Callable[[], None] = lambda: None
    ) -> None:
        """roots: looks for images that nothing uses; called on a thread."""
        self._roots = roots
        self._control = control
        self._clock = clock
        self._in_use = in_use
        self._unused: set[str] = set()
        """What the last look found."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> set[str]:
        """One look; the digests of what it removed."""
        packages = self._control.packages
        held = {packages.digest_of(folder) for folder in self._in_use()}
        unused = await asyncio.to_thread(lambda: packages.digests() - referenced(self._control.state)) - held
        twice = unused & self._unused
        self._unused = unused
        if not twice:
            return set()
        folders: list[Path] = []
        await self._control.run_beside(lambda: folders.extend(take_out(self._control.state, packages, twice)))
        for folder in folders:
            await asyncio.to_thread(remove_tree, folder)
        gone = twice - await asyncio.to_thread(packages.digests)
        if gone:
            log.info("%d packages that nothing uses were removed", len(gone))
        return gone

    async def _run(self) -> None:
        while True:
            await asyncio.gather(self._clock.wait_until(self._clock.now() + EVERY), asyncio.sleep(LEAST))
            try:
                await self.look()
                await asyncio.to_thread(self._roots)
            except Exception:
                log.exception("packages that nothing uses could not be removed; the next look tries again")
