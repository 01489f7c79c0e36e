"""Sees that files changed, by looking at their stats again and again: works on every file system. Reads no content."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lading.build.folder import SourceTreeError, find_files
from lading.model.project import Source

PAUSE = 0.1
"""Seconds between two looks at least; a look never takes more than a tenth of the time."""
SETTLE = 0.03
"""Seconds without another change until a change counts as complete: editors write several files, or one in steps."""

Stats = dict[str, object]


@dataclass(frozen=True)
class Watched:
    """What to look at: the function's own files, files that decide a build, and events."""

    own: tuple[Source, ...] = ()
    inputs: tuple[Path, ...] = ()
    """They need not exist."""
    built: tuple[Source, ...] = ()
    """Files that only a build brings in: those of layers, and of packages that are built here."""
    events: tuple[Path, ...] = ()
    ignored: frozenset[int] = frozenset()
    """Inodes: what the watching program itself writes to."""


@dataclass(frozen=True)
class Change:
    """Names of files that came, went or changed, by what has to be done about them."""

    own: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    events: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.own or self.inputs or self.events)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.inputs, *self.own, *self.events)))


@dataclass(frozen=True)
class Look:
    """The stats of everything watched at one moment."""

    own: Stats = field(default_factory=dict)
    inputs: Stats = field(default_factory=dict)
    events: Stats = field(default_factory=dict)


class Watcher:
    """Remembers the last look."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._last = look(watched)

    @property
    def files(self) -> int:
        return len(self._last.own)

    async def change(self) -> Change:
        """Wait for the next change, and until it is complete."""
        while True:
            begin = time.monotonic()
            now = await asyncio.to_thread(look, self._watched)
            change = compare(self._last, now)
            if change:
                self._last = await self._settled(now)
                return change
            await asyncio.sleep(max(PAUSE, 9 * (time.monotonic() - begin)))

    async def _settled(self, seen: Look) -> Look:
        while True:
            await asyncio.sleep(SETTLE)
            now = await asyncio.to_thread(look, self._watched)
            if now == seen:
                return now
            seen = now


def look(watched: Watched) -> Look:
    inputs = {**_files(watched.inputs), **_trees(watched.built, watched.ignored)}
    return Look(_trees(watched.own, watched.ignored), inputs, _files(watched.events))


def compare(before: Look, now: Look) -> Change:
    """A file that decides a build is no mere code, even where it lies among the code."""
    inputs = _differences(before.inputs, now.inputs)
    return Change(
        own=tuple(name for name in _differences(before.own, now.own) if name not in inputs),
        inputs=inputs,
        events=_differences(before.events, now.events),
    )


def _differences(before: Stats, now: Stats) -> tuple[str, ...]:
    return tuple(sorted(name for name in {*before, *now} if before.get(name) != now.get(name)))


def _trees(sources: Iterable[Source], ignored: frozenset[int]) -> Stats:
    stats: Stats = {}
    for source in sources:
        with contextlib.suppress(SourceTreeError):  # in the middle of a change; a reload would say it
            stats.update({file.path: file.stat for file in find_files(source) if file.stat[4] not in ignored})
    return stats


def _files(paths: Iterable[Path]) -> Stats:
    stats: Stats = {}
    for path in paths:
        try:
            facts = path.stat()
        except OSError:
            continue
        stats[str(path)] = (facts.st_size, facts.st_mtime_ns, facts.st_ino)
    return stats
