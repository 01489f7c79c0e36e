"""What a content-addressed store offers, as protocols, so that modules below `build` can use one without importing it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol


class BlobWriter(Protocol):
    """Collects bytes; nothing is visible before `commit`."""

    def write(self, data: bytes | memoryview, /) -> int: ...

    def commit(self, *, expect: str = "") -> str:
        """Publish under the sha256 of what was written (lowercase hex, returned). Raises DownloadError when `expect` is
        given and differs."""
        ...


class Blobs(Protocol):
    """Blobs named by their sha256 (lowercase hex). Written once, atomically, never modified; safe between processes."""

    def writer(self) -> AbstractContextManager[BlobWriter]:
        """A temporary file in the store; leaving the context without `commit` removes it."""
        ...

    def put(self, chunks: Iterable[bytes]) -> str: ...

    def adopt(self, path: Path, *, expect: str = "") -> str:
        """Copy a finished file into the store; its digest."""
        ...

    def has(self, digest: str) -> bool: ...

    def path(self, digest: str) -> Path:
        """Where the blob lies; read-only by contract."""
        ...

    def open(self, digest: str) -> BinaryIO: ...

    def corrupt(self, digest: str) -> Exception:
        """Remove a blob whose reader found it damaged; the error to raise."""
        ...


class Actions(Protocol):
    """Small results by key: kind ("wheel", "prepared") and key (any string) → bytes. A torn or changed entry reads as None."""

    def get(self, kind: str, key: str) -> bytes | None: ...

    def put(self, kind: str, key: str, value: bytes) -> None: ...
