"""Chunks into the kernel's page cache before anybody reads them there, one after the other, on a thread of its own.

Reads of what was pushed cost no way to this process and back. Nobody waits for it: a page that is being read at the moment stops
this thread until that read is answered, so no thread that answers may ever do this work.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from lading.lazy.chunk import BLOCK, ChunkRecord


class Content(Protocol):
    """A chunk that is at hand, verified; None where it isn't any more."""

    def __call__(self, record: ChunkRecord, /) -> bytes | None: ...


Store = Callable[[int, int, bytes], bool]
"""(file, offset, whole pages): False where the kernel doesn't know the file."""


class Pusher:
    """Safe between threads. Its thread lives as long as the process."""

    def __init__(self, content: Content, store: Store) -> None:
        self._content = content
        self._store = store
        self._condition = threading.Condition()
        self._queue: deque[tuple[int, ChunkRecord]] = deque()
        self._held: dict[int, list[ChunkRecord]] = {}
        self.pushed = 0
        """Chunks that the kernel took."""
        threading.Thread(target=self._work, name="lazy-push", daemon=True).start()

    def push(self, node: int, record: ChunkRecord) -> None:
        """A chunk of a file, once the kernel has opened that."""
        with self._condition:
            if node in self._held:
                self._held[node].append(record)
                return
            self._queue.append((node, record))
            self._condition.notify()

    def hold(self, node: int) -> None:
        """A new file: the kernel can't take anything of it before it is opened."""
        with self._condition:
            self._held[node] = []

    def opened(self, node: int) -> None:
        with self._condition:
            self._queue.extend((node, record) for record in self._held.pop(node, ()))
            self._condition.notify()

    def forget(self, node: int) -> None:
        with self._condition:
            self._held.pop(node, None)
            self._queue = deque(one for one in self._queue if one[0] != node)

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._queue:
                    self._condition.wait()
                node, record = self._queue.popleft()
            content = self._content(record)
            if content is None:
                continue
            if self._store(node, record.offset, content + bytes(-len(content) % BLOCK)):
                self.pushed += 1
            else:
                self.forget(node)
