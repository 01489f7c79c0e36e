"""Wheels and own files made ready for packing: bundle, bytecode, facts for the audit. All cores; everything is remembered.

Knows nothing of units or artifacts: what it makes is shared by all that need it.
"""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lading.audit.package import PackageFacts
from lading.build.archive import Selection
from lading.build.bundle import Bundle
from lading.build.bytecode import FUNCTION, LAYER, Place, compiled_sources, prepare_bytecode, recall_bytecode
from lading.build.facts import function_facts, layer_facts, wheel_facts
from lading.build.style import Interpreters, Style
from lading.build.wheel import Recipe, prepare_wheel, recall_wheel
from lading.model.blobs import Actions, Blobs
from lading.model.lock import Wheel
from lading.model.progress import Progress
from lading.model.project import Bytecode

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from lading.build.workers import Compilers


@dataclass(frozen=True)
class Packed:
    """One distribution or own folder, ready: its bundle, its bytecode where there is one, and what the audit needs."""

    bundle: Bundle
    bytecode: Bundle | None
    facts: tuple[PackageFacts, ...]
    sources_dropped: frozenset[str] = frozenset()
    """Sources that their bytecode replaces."""

    @property
    def selection(self) -> Selection:
        return Selection(self.bundle, self.sources_dropped)


def place_of(style: Style) -> Place:
    """Where what is packed so will be unpacked."""
    return LAYER if style.layer else FUNCTION


class Preparation:
    """Prepares on all cores; use as a context: leaving it ends what is under way."""

    def __init__(
        self, blobs: Blobs, actions: Actions, interpreters: Interpreters, compilers: Compilers, progress: Progress
    ) -> None:
        self._blobs = blobs
        self._actions = actions
        self._interpreters = interpreters
        self._compilers = compilers
        self._progress = progress
        self._threads: ThreadPoolExecutor | None = None
        self._jobs: dict[tuple[Wheel, Recipe, Style], Future[Packed]] = {}

    def __enter__(self) -> Preparation:
        _give_memory_back()
        return self

    def __exit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def start(self, wheel: Wheel, recipe: Recipe, style: Style) -> None:
        """Begin with a wheel in the background; `wheel` waits for it. What is remembered costs nothing later either."""
        key = (wheel, recipe, style)
        if key not in self._jobs:
            self._jobs[key] = self._executor().submit(self._prepare_wheel, wheel, recipe, style)

    def wheel(self, wheel: Wheel, recipe: Recipe, style: Style) -> Packed:
        """A wheel, ready. Raises BuildError for one that is broken or unsafe."""
        job = self._jobs.get((wheel, recipe, style))
        if job is not None:
            return job.result()
        return self._prepare_wheel(wheel, recipe, style)

    def is_remembered(self, wheel: Wheel, recipe: Recipe, style: Style) -> bool:
        """Whether `wheel` would only look into the cache."""
        bundle = recall_wheel(wheel, recipe, self._blobs, self._actions)
        interpreter = self._interpreters.of(style)
        if bundle is None or interpreter is None:
            return bundle is not None
        return recall_bytecode(bundle, place_of(style), interpreter, self._blobs, self._actions) is not None

    def own(self, bundle: Bundle, style: Style) -> Packed:
        """Own files with their bytecode and facts."""
        bytecode = self._compile(bundle, style)
        if style.layer:
            facts = layer_facts(bundle, bytecode, style.target, self._blobs, self._actions)
        else:
            facts = function_facts(bundle, bytecode, self._blobs, self._actions)
        return self._packed(bundle, bytecode, facts, style)

    def _prepare_wheel(self, wheel: Wheel, recipe: Recipe, style: Style) -> Packed:
        bundle = prepare_wheel(wheel, recipe, self._blobs, self._actions)
        bytecode = self._compile(bundle, style)
        facts = wheel_facts(bundle, bytecode, recipe.prefix.rstrip("/"), self._blobs, self._actions)
        return self._packed(bundle, bytecode, facts, style)

    def _packed(self, bundle: Bundle, bytecode: Bundle | None, facts: tuple[PackageFacts, ...], style: Style) -> Packed:
        interpreter = self._interpreters.of(style)
        if bytecode is None or interpreter is None or style.bytecode is not Bytecode.ONLY:
            return Packed(bundle, bytecode, facts)
        return Packed(bundle, bytecode, facts, compiled_sources(bytecode, interpreter))

    def _compile(self, bundle: Bundle, style: Style) -> Bundle | None:
        interpreter = self._interpreters.of(style)
        if interpreter is None or not any(name.endswith(".py") for name in bundle.names):
            return None
        legacy = style.bytecode is Bytecode.ONLY
        known = recall_bytecode(bundle, place_of(style), interpreter, self._blobs, self._actions, legacy=legacy)
        if known is not None:
            return known
        task = self._progress.start(f"compile {bundle.name}")
        pool = self._compilers.of(interpreter)
        made = prepare_bytecode(bundle, place_of(style), pool, self._blobs, self._actions, legacy=legacy)
        self._progress.finish(task)
        return made

    def _executor(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor

        if self._threads is None:
            self._threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="prepare")
        return self._threads


def _give_memory_back() -> None:
    """Has the C library return freed memory from 128 KiB on (mallopt(3), M_TRIM_THRESHOLD). By itself it raises that bound
    with the largest block ever freed, and each thread's wheels would stay in memory to the end.
    """
    import ctypes

    with contextlib.suppress(AttributeError, OSError):  # another C library has no such setting
        ctypes.CDLL(None).mallopt(-1, 128 * 1024)
