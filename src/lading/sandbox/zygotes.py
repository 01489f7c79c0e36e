"""A host's launcher, and a zygote for each interpreter, client and image that functions start from. Safe between threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from lading.errors import SandboxError
from lading.sandbox import layout
from lading.sandbox.environment import base_environment
from lading.sandbox.forkers import Forker, Launcher, Setup
from lading.sandbox.live import interpreter_inside
from lading.sandbox.spec import ColdStart, SandboxSpec
from lading.sandbox.startup import IMAGE, choose_cold_start, root_tree, zygote_key, zygote_variables

MOST_IMAGES = 16
"""Clients of images that stand ready though nothing runs: each is an interpreter of 10 to 20 MB."""


class Zygotes:
    """Started when they are first needed."""

    def __init__(self, *, user: bool) -> None:
        """user: the launcher becomes root of a user namespace of its own."""
        self._user = user
        self._lock = threading.RLock()
        self._launcher: Launcher | None = None
        self._started: dict[tuple[Any, ...], Forker] = {}
        """The one used last is the last."""
        self._unforkable: dict[tuple[Any, ...], str] = {}
        """What images' clients can't be forked, and why."""

    def launcher(self) -> Launcher:
        with self._lock:
            if self._launcher is None or not self._launcher.alive:
                self._launcher = Launcher(Setup(user=self._user, private=True))
            return self._launcher

    def get(self, spec: SandboxSpec) -> Forker:
        """What starts of this spec are forked from."""
        key = zygote_key(spec)
        with self._lock:
            forker = self._started.pop(key, None)
            if forker is None or not forker.alive:
                environment = base_environment(replace(spec, environment={})) | zygote_variables(spec)
                command = [interpreter_inside(spec)]
                with contextlib.ExitStack() as stack:
                    trees = root_tree(spec, stack)
                    forker = self.launcher().start_zygote(layout.base(spec), command, environment, trees)
            self._started[key] = forker
            return forker

    def choose(self, spec: SandboxSpec) -> tuple[ColdStart, str]:
        """As `choose_cold_start`, and whether this image's interpreter bears it: one without ctypes doesn't."""
        wish, reason = choose_cold_start(spec)
        if wish is ColdStart.EXEC or spec.image is None:
            return wish, reason
        key = zygote_key(spec)
        if key not in self._unforkable:
            try:
                self.get(spec)
            except SandboxError as error:
                self._unforkable[key] = error.message
        return (ColdStart.EXEC, self._unforkable[key]) if key in self._unforkable else (wish, reason)

    def reason(self, spec: SandboxSpec) -> str:
        """Why a spec isn't started as asked; empty where it is."""
        return choose_cold_start(spec)[1] or self._unforkable.get(zygote_key(spec), "")

    def too_many(self, busy: Collection[Forker]) -> list[tuple[Any, ...]]:
        """Those of images of which nothing was started for longest, and of which nothing lives."""
        with self._lock:
            images = [key for key, forker in self._started.items() if key[0] is IMAGE and forker not in busy]
            return images[: max(len(images) - MOST_IMAGES, 0)]

    def on(self, folders: tuple[Path, ...], busy: Collection[Forker]) -> list[tuple[Any, ...]]:
        """Those on an image's root of which nothing lives."""
        with self._lock:
            return [key for key, one in self._started.items() if key[:2] == (IMAGE, folders) and one not in busy]

    def end(self, key: tuple[Any, ...]) -> None:
        with self._lock:
            forker = self._started.pop(key, None)
        if forker is not None:
            forker.close()

    def close(self) -> None:
        with self._lock:
            for forker in [*self._started.values(), *filter(None, (self._launcher,))]:
                forker.close()
            self._started.clear()
            self._launcher = None
