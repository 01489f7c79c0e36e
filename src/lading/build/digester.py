"""A thread that feeds hashes, in order, while its owner reads and writes. Owns no data: the buffers are the caller's."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Protocol

from isal.isal_zlib import crc32


class Hash(Protocol):
    """What hashlib's objects and `Checksum` have in common."""

    def update(self, data: memoryview, /) -> None: ...


class Checksum:
    """CRC-32 with hashlib's manners, in a third of zlib's time."""

    def __init__(self) -> None:
        self.value = 0

    def update(self, data: memoryview, /) -> None:
        self.value = crc32(data, self.value)


class Digester:
    """Hashes one after another. A buffer may be reused once `wait` has returned for the ticket that `update` gave."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Hash, memoryview] | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._given = 0
        self._finished = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def update(self, digest: Hash, data: memoryview) -> int:
        """Queue `data` for `digest`; its ticket."""
        self._tasks.put((digest, data))
        self._given += 1
        return self._given

    def wait(self, ticket: int) -> None:
        """Return when everything up to `ticket` has been hashed."""
        while self._finished < ticket:
            self._done.get()
            self._finished += 1

    def finish(self) -> None:
        """Return when everything has been hashed."""
        self.wait(self._given)

    def close(self) -> None:
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            digest, data = task
            digest.update(data)
            self._done.put(None)
