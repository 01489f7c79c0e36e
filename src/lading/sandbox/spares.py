"""Walls that stand ready, without a function in them, for the next starts of a zygote; made in the background.

Not beside a start: what makes walls takes from it twice what it takes itself. Safe between threads.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lading.sandbox import lessons, outgoing
from lading.sandbox.forkers import Forker
from lading.sandbox.live import Parts, Sandbox
from lading.sandbox.spec import SandboxSpec
from lading.sandbox.startup import zygote_key

_REST, _LONGEST_REST = 0.03, 0.25
"""Seconds from a start to the making of walls for the next one; and at most, where starts follow each other."""
_LESSONS = 8
"""Starts of a zygote that are looked at for the pages they write to …"""
_OVER = 0.5
"""… when they are so many seconds old: one that is under way has not written to all of them."""
_MOST_BEGUN = 4

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Built:
    """Walls that stand, for a function or waiting for one."""

    number: int
    identity: str
    user: int
    forker: Forker
    parts: Parts
    way: outgoing.Way | None = None


@dataclass
class _Lesson:
    """What is known of a zygote's starts."""

    zygote: Forker
    pages: lessons.Ranges = ()
    looks: int = 0
    begun: deque[tuple[float, Sandbox]] = field(default_factory=deque)
    """What was started, and when, until it is looked at."""


class Spares:
    """As many for each zygote as a host is to have."""

    def __init__(self, count: int, build: Callable[[SandboxSpec, lessons.Ranges], Built]) -> None:
        """build: makes walls for the zygote of a spec, whose processes have these pages ready."""
        self.count = count
        self._build = build
        self._lock = threading.Lock()
        self._ready: dict[Key, list[Built]] = {}
        self._learned: dict[Key, _Lesson] = {}
        self._calm = 0.0
        """When the last start is likely to be over, in monotonic seconds."""
        self._ending = threading.Event()
        self._work = ThreadPoolExecutor(1, "lading-spares")

    def take(self, spec: SandboxSpec) -> Built | None:
        """One for this spec; the next one is made when starts leave time for it."""
        if not self.count:
            return None
        with self._lock:
            ready = self._ready.get(zygote_key(spec))
            made = ready.pop(0) if ready else None
        self._calm = time.monotonic() + _REST
        self.submit(self._refill, spec)
        return made

    def begun(self, box: Sandbox) -> None:
        """A function has got walls that stood ready."""
        with self._lock:
            lesson = self._learned.get(zygote_key(box.spec))
            if lesson is not None and lesson.looks < _LESSONS and len(lesson.begun) < _MOST_BEGUN:
                lesson.begun.append((time.monotonic(), box))

    def fill(self, spec: SandboxSpec) -> None:
        """Now, until there are enough."""
        key = zygote_key(spec)
        while not self._ending.is_set():
            with self._lock:
                if len(self._ready.setdefault(key, [])) >= self.count:
                    return
            lesson = self._learned.get(key)
            made = self._build(spec, lesson.pages if lesson else ())
            with self._lock:
                self._ready.setdefault(key, []).append(made)
                if lesson is None or lesson.zygote is not made.forker:  # another one has its memory elsewhere
                    self._learned[key] = _Lesson(made.forker)

    def submit(self, work: Callable[..., object], *arguments: object) -> None:
        """Something to be done in the background, one after the other."""
        with contextlib.suppress(RuntimeError):  # it has been closed
            self._work.submit(work, *arguments)

    def remove(self, key: Key | None = None) -> list[Built]:
        """Those of a zygote, or all: they are the caller's to end."""
        with self._lock:
            keys = list(self._ready) if key is None else [key]
            for one in keys:
                self._learned.pop(one, None)
            return [made for one in keys for made in self._ready.pop(one, [])]

    def close(self) -> None:
        """Nothing is made any more; what stands is still to be removed."""
        self._ending.set()
        self._work.shutdown()

    def _refill(self, spec: SandboxSpec) -> None:
        latest = time.monotonic() + _LONGEST_REST
        while (left := min(self._calm, latest) - time.monotonic()) > 0:
            if self._ending.wait(left):
                return
        self._learn(zygote_key(spec))
        self.fill(spec)

    def _learn(self, key: Key) -> None:
        """From one that lives and has begun long enough ago."""
        lesson = self._learned.get(key)
        while lesson and lesson.begun and lesson.begun[0][0] <= time.monotonic() - _OVER:
            _, box = lesson.begun.popleft()
            if box.closed:
                continue
            lesson.looks += 1
            found = lessons.written(box.pid)
            if not box.closed and lessons.count(found) > lessons.count(lesson.pages):
                lesson.pages = found
            return
