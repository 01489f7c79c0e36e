"""An environment between invokes: frozen some moments after the last, thawed before the next. Knows no phases."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from lading.sandbox.live import Sandbox
from lading.service.alarm import Alarm


class Stillness:
    """Freezing and thawing never block: nobody waits for the last process to stand still."""

    def __init__(self, loop: asyncio.AbstractEventLoop, linger: float, before: Callable[[], Awaitable[None]]) -> None:
        """`linger`: seconds from the end of an invoke to the freeze. `before`: what is still to be done while things move."""
        self._linger = linger
        self._before = before
        self._alarm = Alarm(loop)
        self._freezing: asyncio.Future[None] | None = None

    @property
    def frozen(self) -> bool:
        """Or about to be."""
        return self._freezing is not None

    def expect(self, freeze: Callable[[], None]) -> None:
        """Nothing is to be done. Of invokes that follow each other closely none pays for a freeze: it is asked for later."""
        self._alarm.set(self._linger, freeze)

    def stir(self) -> None:
        """Something is to be done."""
        self._alarm.clear()

    def freeze(self, box: Sandbox) -> None:
        self._freezing = asyncio.ensure_future(self._freeze(box))

    async def _freeze(self, box: Sandbox) -> None:
        await self._before()
        box.freeze(wait=False)

    async def thaw(self, box: Sandbox) -> None:
        """Also where it isn't frozen."""
        if await self.end():
            box.thaw(wait=False)

    async def end(self) -> bool:
        """Whether it was frozen. A freeze that has begun is through; it won't be thawed from here any more."""
        freezing, self._freezing = self._freezing, None
        if freezing is not None:
            await freezing
        return freezing is not None

    def close(self) -> None:
        """Nothing of it is left on the loop."""
        self._alarm.close()
