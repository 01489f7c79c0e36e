"""The service's time: the system's, until a test or `lading clock` steps or accelerates it. Retries, back-off, ages and
idle times follow it; timeouts of functions never do. Use from one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time


class Clock:
    """Seconds since the epoch that can run ahead of the system's."""

    def __init__(self) -> None:
        self._speed = 1.0
        self._ours = self._theirs = time.time()
        self._ran = self._since = time.monotonic()
        self._changed: set[asyncio.Event] = set()

    @property
    def speed(self) -> float:
        """Seconds of this clock in a second."""
        return self._speed

    def now(self) -> float:
        return self._ours + (time.time() - self._theirs) * self._speed

    def running(self) -> float:
        """The same for spans: never goes back where the system's time is set back."""
        return self._ran + (time.monotonic() - self._since) * self._speed

    def step(self, seconds: float) -> None:
        """Go ahead at once. Raises ValueError for a step back."""
        if not 0 <= seconds < 10 * 366 * 86_400:
            raise ValueError(f"a step of {seconds} s: forward only, at most ten years")
        self._set(self.now() + seconds, self._speed)

    def accelerate(self, speed: float) -> None:
        """From now on run so many times as fast. Raises ValueError below 1 or above a million."""
        if not 1 <= speed <= 1_000_000:
            raise ValueError(f"a speed of {speed}: choose 1 to 1000000")
        self._set(self.now(), speed)

    async def wait_until(self, moment: float) -> None:
        """Sleep until this clock shows `moment`, however it gets there."""
        changed = asyncio.Event()
        self._changed.add(changed)
        try:
            while (left := moment - self.now()) > 0:
                changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(left / self._speed, 3600.0))
        finally:
            self._changed.discard(changed)

    async def wait_for(self, woken: asyncio.Event, moment: float) -> None:
        """The same, or until the event is set."""
        waiting = asyncio.create_task(woken.wait())
        timer = asyncio.create_task(self.wait_until(moment))
        try:
            await asyncio.wait((waiting, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            timer.cancel()

    def _set(self, ours: float, speed: float) -> None:
        self._ran = self.running() + (ours - self.now())
        self._since = time.monotonic()
        self._ours, self._theirs, self._speed = ours, time.time(), speed
        for changed in self._changed:
            changed.set()
