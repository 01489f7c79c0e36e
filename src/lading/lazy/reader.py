"""Answers reads of lazy images' spaces: cuts them into chunks, looks in memory and on disk, and lets the rest be fetched.

Remembers in which order chunks were first touched, which is what the next start wants beforehand. Knows nothing of the kernel.
"""

from __future__ import annotations

import errno
import itertools
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from lading.errors import LadingError
from lading.lazy.chunk import BLOCK
from lading.lazy.disk_cache import DiskCache
from lading.lazy.fetch import Fetcher, Origin
from lading.lazy.manifest import ChunkTable
from lading.lazy.metrics import Metrics

LONGEST_READ = 1 << 20
LARGEST_WINDOW = 8
"""Chunks that are fetched ahead of one who reads on and on."""
_ZEROS = memoryview(bytes(LONGEST_READ))


class Answer(Protocol):
    """Takes the bytes of one read, or a positive errno in their place; called exactly once, from any thread."""

    def __call__(self, content: Sequence[bytes | memoryview], /, *, error: int = 0) -> None: ...


class Space:
    """One image's metadata or data, as it is read."""

    def __init__(
        self, origin: Origin, table: ChunkTable, together: Sequence[tuple[int, int]] = (), *, ahead: bool = True
    ) -> None:
        """together: pieces, from byte to byte, that are wanted whole once some of them is. ahead: or nothing is."""
        self.origin = origin
        self.table = table
        self.size = -(-table.size // BLOCK) * BLOCK
        """Bytes of the file that it is read as: whole blocks."""
        self.ahead = ahead
        self.order: list[int] = []
        """Chunks by first touch."""
        self.touched = bytearray(len(table))
        self.last_touch = 0.0
        self._last = -2
        self._window = 0
        self._ahead_end = 0
        pieces = [[index for index, _ in table.within(start, end)] for start, end in together]
        self._pieces = {index: piece for piece in pieces for index in piece}

    def touch(self, index: int) -> None:
        if not self.touched[index]:
            self.touched[index] = 1
            self.order.append(index)
            self.last_touch = time.monotonic()

    def window(self, index: int) -> range:
        """The chunks to fetch ahead now that this one was missed or reached: more, the longer somebody reads in order."""
        if not self.ahead or index == self._last:
            return range(0)
        self._window = min(max(1, self._window * 2), LARGEST_WINDOW) if index == self._last + 1 else 1
        start = index + 1 if self._window == 1 else max(index + 1, self._ahead_end)
        self._last = index
        self._ahead_end = min(index + 1 + self._window, len(self.table))
        return range(start, self._ahead_end)

    def piece(self, index: int) -> Sequence[int]:
        """The chunks that this one belongs to, the first time that something of them is read."""
        found = self._pieces.get(index, ())
        for known in found:
            self._pieces.pop(known, None)
        return found


class _Pending:
    """A read with pieces still on their way."""

    def __init__(self, pieces: list[bytes | memoryview], missing: int, finish: Answer) -> None:
        self._pieces = pieces
        self._missing = missing
        self._finish = finish
        self._lock = threading.Lock()
        self._error = 0

    def fill(self, place: int, piece: bytes | memoryview, error: int) -> None:
        with self._lock:
            self._pieces[place] = piece
            self._error = self._error or error
            self._missing -= 1
            if self._missing:
                return
        self._finish(self._pieces, error=self._error)


class Reader:
    """Reads of any number of spaces, by a number that the caller gives each. Safe between threads."""

    def __init__(self, cache: DiskCache, fetcher: Fetcher, metrics: Metrics) -> None:
        self._cache = cache
        self._fetcher = fetcher
        self._metrics = metrics
        self.spaces: dict[int, Space] = {}

    def read(self, node: int, offset: int, size: int, answer: Answer) -> None:
        """Never waits for a network: what must be fetched is answered later."""
        began = time.monotonic()

        def finish(content: Sequence[bytes | memoryview], /, *, error: int = 0) -> None:
            answer(content, error=error)
            self._metrics.read(time.monotonic() - began, failed=bool(error))

        space = self.spaces.get(node)
        if space is None:
            finish((), error=errno.EIO)
            return
        end = min(offset + min(size, LONGEST_READ), space.size)
        pieces: list[bytes | memoryview] = []
        missing: list[tuple[int, int, int, int]] = []
        reached: list[int] = []
        place = offset
        for index, record in space.table.within(offset, end):
            if record.offset > place:
                pieces.append(_ZEROS[: record.offset - place])
            start, stop = max(offset, record.offset), min(end, record.end)
            place = stop
            space.touch(index)
            reached.append(index)
            piece = self._at_hand(space, index, start - record.offset, stop - start)
            if piece is None:
                missing.append((len(pieces), index, start - record.offset, stop - start))
                piece = b""
            pieces.append(piece)
        if end > place:
            pieces.append(_ZEROS[: end - place])
        if missing:
            pending = _Pending(pieces, len(missing), finish)
            for spot, index, start, length in missing:
                self._fetch(space, index, pending, (spot, start, length))
        else:
            finish(pieces)
        for index in reached:  # nobody waits for this
            self._look_ahead(space, index)

    def prefetch(self, node: int, chunks: Sequence[int]) -> None:
        """In this order, behind everything that is waited for."""
        space = self.spaces[node]
        for index in chunks:
            self._fetcher.fetch(space.table[index], space.origin)

    def _at_hand(self, space: Space, index: int, start: int, size: int) -> bytes | memoryview | None:
        """From memory or the local disk."""
        began = time.monotonic()
        record = space.table[index]
        content = self._fetcher.recent(record.name)
        if content is not None:
            self._cache.touch(record.name, space.origin.reader)
            self._metrics.hit("memory", size, time.monotonic() - began)
            return memoryview(content)[start : start + size]
        found = self._cache.read(record.name, start, size)
        if found is None:
            self._metrics.count("disk", "misses")
            return None
        self._cache.touch(record.name, space.origin.reader)
        self._metrics.hit("disk", size, time.monotonic() - began)
        return found

    def _fetch(self, space: Space, index: int, pending: _Pending, part: tuple[int, int, int]) -> None:
        spot, start, length = part

        def done(content: bytes, error: LadingError | None) -> None:
            pending.fill(spot, memoryview(content)[start : start + length], errno.EIO if error else 0)

        self._fetcher.fetch(space.table[index], space.origin, done)

    def _look_ahead(self, space: Space, index: int) -> None:
        for ahead in itertools.chain(space.piece(index), space.window(index)):
            record = space.table[ahead]
            if not self._cache.expect(record.name):
                self._fetcher.fetch(record, space.origin)
