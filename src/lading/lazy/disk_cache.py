"""The local tier: one file per chunk, its content verified at every read, in a folder shared by any number of processes.

The folder is all there is: names, sizes, order and uses are the files' own, so a kill at any moment leaves nothing to repair.
A file holds the chunk, a CRC-32 of each block, and a footer. Nothing here fetches, and no failure of the disk is an error.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib

from lading.lazy import eviction
from lading.lazy.eviction import Entry

BLOCK = 65_536
"""Bytes that are verified together: a read of a page costs this much."""
LARGEST = 4 << 20
_FOOTER = struct.Struct("<8s32sII")
_MAGIC = b"LDLZCCH1"
_OPEN_FILES = 256
_KNOWN_TOUCHES = 32_768
_LOW_WATER = 0.97
"""Of the limit: what is left after making room, so that room isn't made for every chunk."""
_RESCAN_SHARE = 1 / 16
_SAME_USE = 60.0
"""Seconds in which reads of a chunk by one image are one use: a scan reads a chunk in many pieces, and that proves nothing."""
_PAUSE_WHEN_FULL = 5.0
_LEFTOVER_AFTER = 600.0
_MAIN = 0o040
_USES_SHIFT = 3


@dataclass
class DiskCounts:
    """Since this process began."""

    hits: int = 0
    misses: int = 0
    written: int = 0
    corrupt: int = 0
    evicted: int = 0
    refused: int = 0
    """Chunks that the disk had no room for."""


class _Cached:
    """An open entry. The file closes with the last use of it."""

    def __init__(self, file: BinaryIO, length: int, sums: tuple[int, ...]) -> None:
        self.file = file
        self.length = length
        self.sums = sums


class DiskCache:
    """Safe between threads and processes. limit: bytes; each process may exceed it by a sixteenth for a moment."""

    def __init__(self, root: Path, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts = DiskCounts()
        self._folder = root / "entries"
        self._temporary = root / "temporary"
        self._ghost_file = root / "ghosts"
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._open: OrderedDict[bytes, _Cached] = OrderedDict()
        self._touches: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._ghosts: frozenset[bytes] = frozenset()
        self._ghosts_of = 0.0
        self._estimate = -1
        self._unseen = 0
        self._paused_until = 0.0
        for folder in (self._folder, self._temporary):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def read(self, name: bytes, start: int, size: int) -> bytes | None:
        """Bytes of a chunk, or None where it isn't there or not intact (it is removed then)."""
        first = start // BLOCK * BLOCK
        cached = self._find(name, first, size)
        if cached is None:
            self.counts.misses += 1
            return None
        end = min(-(-(start + size) // BLOCK) * BLOCK, cached.length)
        try:
            content = os.pread(cached.file.fileno(), end - first, first)
        except OSError:
            content = b""
        if len(content) != end - first or not _intact(content, cached.sums, first // BLOCK):
            self._drop(name)
            return None
        self.counts.hits += 1
        return content if first == start and len(content) == size else content[start - first : start - first + size]

    def has(self, name: bytes) -> bool:
        return self._find(name) is not None

    def length(self, name: bytes) -> int | None:
        """Bytes of a chunk; None where it isn't here."""
        cached = self._find(name)
        return cached.length if cached else None

    def expect(self, name: bytes) -> bool:
        """All of a chunk will be read soon: the disk may begin. False where it isn't here."""
        cached = self._find(name)
        if cached:
            os.posix_fadvise(cached.file.fileno(), 0, cached.length, os.POSIX_FADV_WILLNEED)
        return cached is not None

    def touch(self, name: bytes, reader: int) -> None:
        """Notes that an image (any number for one) used a chunk."""
        now = self._clock()
        with self._lock:
            last = self._touches.get(name)
            if last and last[0] == reader and now - last[1] < _SAME_USE:
                return
            self._remember(name, reader, now)
            cached = self._open.get(name)
        if last is None or cached is None:
            return  # its arrival
        with contextlib.suppress(OSError):
            mode = os.fstat(cached.file.fileno()).st_mode
            uses = mode >> _USES_SHIFT & eviction.MOST_USES
            if uses < eviction.MOST_USES:
                os.fchmod(cached.file.fileno(), _mode(main=bool(mode & _MAIN), uses=uses + 1))

    def put(self, name: bytes, content: bytes, reader: int) -> bool:
        """Keeps a chunk; False where the disk can't. It was verified by the caller."""
        now = self._clock()
        if now < self._paused_until:
            self.counts.refused += 1
            return False
        for attempt in range(2):
            try:
                self._write(name, content)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or attempt:
                    break
                self.make_room(full=True)
                continue
            self.counts.written += 1
            with self._lock:
                self._remember(name, reader, now)
                self._unseen += len(content)
                self._estimate += len(content) if self._estimate >= 0 else 0
            if self._estimate < 0 or self._estimate > self._limit or self._unseen > self._limit * _RESCAN_SHARE:
                self.make_room()
            return True
        self.counts.refused += 1
        self._paused_until = now + _PAUSE_WHEN_FULL
        return False

    def make_room(self, *, full: bool = False) -> None:
        """Looks what is there, and removes what is over the limit. full: the disk is, so the limit is what fits on it."""
        with self._exclusive() as alone:
            if not alone:
                return
            entries = list(self.entries())
            total = sum(entry.size for entry in entries)
            limit = min(self._limit, int(total * 0.9)) if full else self._limit
            if total > limit or full:
                total = self._evict(entries, int(limit * _LOW_WATER))
            with self._lock:
                self._estimate, self._unseen = total, 0

    def entries(self) -> Iterator[Entry]:
        """Every entry, in no order."""
        for folder in _scan(self._folder):
            for file in _scan(folder.path):
                with contextlib.suppress(OSError):
                    facts = file.stat(follow_symlinks=False)
                    uses = facts.st_mode >> _USES_SHIFT & eviction.MOST_USES
                    yield Entry(file.name, facts.st_blocks * 512, facts.st_mtime_ns, bool(facts.st_mode & _MAIN), uses)

    def _evict(self, entries: list[Entry], limit: int) -> int:
        """The bytes that stay."""
        decision = eviction.choose(entries, limit)
        for entry in decision.removed:
            self._path(bytes.fromhex(entry.name)).unlink(missing_ok=True)
            with self._lock:
                self._open.pop(bytes.fromhex(entry.name), None)
        now = time.time_ns()
        for index, entry in enumerate(decision.moved):
            path = self._path(bytes.fromhex(entry.name))
            with contextlib.suppress(FileNotFoundError):
                path.chmod(_mode(main=entry.main, uses=entry.uses))
                os.utime(path, ns=(now + index, now + index))
        self.counts.evicted += len(decision.removed)
        self._keep_ghosts(decision.ghosts, len(entries))
        self._sweep_temporary()
        return sum(entry.size for entry in entries) - sum(entry.size for entry in decision.removed)

    def _keep_ghosts(self, names: tuple[str, ...], most: int) -> None:
        """As many as there are entries: whoever comes back within one turnover is no passer-by."""
        with contextlib.suppress(OSError):
            known = self._ghost_file.read_bytes() if self._ghost_file.exists() else b""
            kept = (known + b"".join(bytes.fromhex(name) for name in names))[-32 * max(most, 64) :]
            fresh = self._temporary / f"ghosts-{os.getpid()}"
            fresh.write_bytes(kept)
            fresh.replace(self._ghost_file)

    def _is_ghost(self, name: bytes) -> bool:
        try:
            written = self._ghost_file.stat().st_mtime
        except OSError:
            return False
        if written != self._ghosts_of:
            with contextlib.suppress(OSError):
                known = self._ghost_file.read_bytes()
                self._ghosts = frozenset(known[place : place + 32] for place in range(0, len(known), 32))
                self._ghosts_of = written
        return name in self._ghosts

    def _find(self, name: bytes, start: int = 0, size: int = 0) -> _Cached | None:
        """size: of what will be read at `start` next, so that the disk may bring it together with the footer."""
        with self._lock:
            cached = self._open.get(name)
            if cached:
                self._open.move_to_end(name)
                return cached
        try:
            file = open(self._path(name), "rb", buffering=0)  # noqa: SIM115 closes with its last user
        except OSError:
            return None
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # what is read in order is announced by `expect`
        if size:
            os.posix_fadvise(file.fileno(), start, size, os.POSIX_FADV_WILLNEED)
        found = _read_footer(file, name)
        if found is None:
            file.close()
            self._drop(name)
            return None
        with self._lock:
            self._open[name] = found
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
        return found

    def _drop(self, name: bytes) -> None:
        """A damaged entry."""
        self.counts.corrupt += 1
        with self._lock:
            self._open.pop(name, None)
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def _write(self, name: bytes, content: bytes) -> None:
        view = memoryview(content)
        sums = [isal_zlib.crc32(view[place : place + BLOCK]) for place in range(0, len(content), BLOCK)]
        packed = struct.pack(f"<{len(sums)}I", *sums)
        footer = _FOOTER.pack(_MAGIC, name, len(content), isal_zlib.crc32(packed + name))
        descriptor, temporary = tempfile.mkstemp(dir=self._temporary)
        try:
            try:
                written = os.writev(descriptor, [content, packed, footer])
                if written != len(content) + len(packed) + len(footer):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fchmod(descriptor, _mode(main=self._is_ghost(name), uses=0))
            finally:
                os.close(descriptor)
            final = self._path(name)
            try:
                os.rename(temporary, final)  # noqa: PTH104 a chunk's time counts
            except FileNotFoundError:
                final.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.rename(temporary, final)  # noqa: PTH104
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
            raise

    def _remember(self, name: bytes, reader: int, now: float) -> None:
        self._touches[name] = (reader, now)
        self._touches.move_to_end(name)
        if len(self._touches) > _KNOWN_TOUCHES:
            self._touches.popitem(last=False)

    def _path(self, name: bytes) -> Path:
        text = name.hex()
        return self._folder / text[:2] / text

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[bool]:
        """Whether this process and thread alone make room now."""
        try:
            file = open(self._temporary.with_name("lock"), "w")  # noqa: SIM115
        except OSError:
            yield False
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True

    def _sweep_temporary(self) -> None:
        """Files whose writer was killed."""
        oldest = time.time() - _LEFTOVER_AFTER
        for file in _scan(self._temporary):
            with contextlib.suppress(OSError):
                if file.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(file.path)  # noqa: PTH108


def _mode(*, main: bool, uses: int) -> int:
    """The folder lets nobody else in, so the group's bits are free to hold a queue and a count."""
    return 0o400 | (_MAIN if main else 0) | uses << _USES_SHIFT


def _scan(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []


def _intact(content: bytes, sums: tuple[int, ...], first: int) -> bool:
    if len(content) <= BLOCK:
        return isal_zlib.crc32(content) == sums[first]
    view = memoryview(content)
    places = range(0, len(content), BLOCK)
    return all(isal_zlib.crc32(view[place : place + BLOCK]) == sums[first + place // BLOCK] for place in places)


def _read_footer(file: BinaryIO, name: bytes) -> _Cached | None:
    """What a file says of itself; None where that isn't what was written."""
    try:
        size = os.fstat(file.fileno()).st_size
        most = _FOOTER.size + 4 * (LARGEST // BLOCK)
        tail = os.pread(file.fileno(), most, max(0, size - most))
    except OSError:
        return None
    if len(tail) < _FOOTER.size:
        return None
    magic, found, length, check = _FOOTER.unpack_from(tail, len(tail) - _FOOTER.size)
    blocks = -(-length // BLOCK)
    if magic != _MAGIC or found != name or length + 4 * blocks + _FOOTER.size != size or length > LARGEST:
        return None
    packed = tail[len(tail) - _FOOTER.size - 4 * blocks : len(tail) - _FOOTER.size]
    if isal_zlib.crc32(packed + name) != check:
        return None
    return _Cached(file, length, struct.unpack(f"<{blocks}I", packed))
