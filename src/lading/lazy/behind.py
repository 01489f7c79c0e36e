"""What came from a tier and is not in the disk cache yet: it is written once nothing comes any more, behind those who wait.

A start that fetches a hundred chunks has better use for the processors. What a killed process held is fetched again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

from lading.lazy.disk_cache import DiskCache

LARGEST = 32 << 20
"""Bytes: about what a start reads of an interpreter and its modules."""
QUIET = 1.0
"""Seconds without a chunk after which they are written."""


class WriteBehind:
    """Safe between threads. Its thread ends with `close`."""

    def __init__(self, cache: DiskCache, niceness: int) -> None:
        """niceness: of the thread that writes."""
        self._cache = cache
        self._niceness = niceness
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._held: dict[bytes, tuple[bytes, int]] = {}
        self._bytes = 0
        self._last = 0.0
        self._ended = threading.Event()
        threading.Thread(target=self._write, name="lazy-writer", daemon=True).start()

    def get(self, name: bytes) -> bytes | None:
        found = self._held.get(name)
        return found[0] if found else None

    def put(self, name: bytes, content: bytes, reader: int) -> bool:
        """Takes a chunk, fetched for an image; False where there is no room, and the caller has to write it."""
        with self._lock:
            self._last = time.monotonic()
            if self._bytes + len(content) > LARGEST or self._ended.is_set():
                return False
            if name not in self._held:
                self._held[name] = content, reader
                self._bytes += len(content)
            return True

    def flush(self) -> None:
        """Writes all of it. A disk that has no room makes later reads slower, and is no error."""
        with self._writing:
            while held := self._oldest():
                name, (content, reader) = held
                self._cache.put(name, content, reader)
                with self._lock:  # not before: it is always found in one of the two
                    del self._held[name]
                    self._bytes -= len(content)

    def close(self) -> None:
        """What is held is written soon after."""
        with self._lock:
            self._ended.set()

    def _oldest(self) -> tuple[bytes, tuple[bytes, int]] | None:
        with self._lock:
            return next(iter(self._held.items()), None)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
        while not self._ended.wait(QUIET / 4):
            if self._held and time.monotonic() - self._last > QUIET:
                self.flush()
        self.flush()
