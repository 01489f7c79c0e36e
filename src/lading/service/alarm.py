"""One timer for many deadlines of which nearly none is reached: setting and clearing one costs no timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """At most one deadline at a time, on the loop it is made on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._action: Callable[[], object] | None = None
        self._due = self._rings = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, action: Callable[[], object]) -> None:
        """Call `action` then, unless it is cleared or set anew."""
        self._due = due = self._loop.time() + seconds
        self._action = action
        if self._timer is None:
            self._start(due)
        elif due < self._rings:
            self._timer.cancel()
            self._start(due)

    def clear(self) -> None:
        self._action = None

    def close(self) -> None:
        """Nothing of it is left on the loop."""
        self._action = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, due: float) -> None:
        self._rings = due
        self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        action = self._action
        if action is None:
            return
        if self._due > self._loop.time():
            self._start(self._due)
        else:
            self._action = None
            action()
