"""A store in a folder: `blobs/sha256/ab/abcd…`, `actions/KIND/ab/abcd…`, `temporary/`.

Every file is written under `temporary/` and renamed into place, so a kill at any moment leaves either nothing or all of it,
and writers of the same content can't disturb each other. Nothing here is ever modified in place.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from lading.errors import DownloadError, StoreError

FORMAT = "v1"
CHUNK = 1 << 20
TOUCH_AFTER = 24 * 3600
"""Seconds after which a use renews a blob's time, which `prune` reads as its last use."""


class CorruptBlobError(StoreError):
    """A blob no longer holds what its name says. It has been removed: the next build makes or fetches it again."""


def default_root() -> Path:
    """$LADING_CACHE_DIR, or `lading` under the user's cache folder ($XDG_CACHE_HOME, ~/.cache)."""
    chosen = os.environ.get("LADING_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "lading"


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """OSError → StoreError that names what was being done; a full disk gets its own hint."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free space, or remove unused entries: lading cache prune" if full else "check the folder's permissions"
        raise StoreError(f"{what}: {error.strerror or error}", details=_named(error), hint=hint) from error


def _named(error: OSError) -> tuple[str, ...]:
    return (str(error.filename),) if error.filename else ()


class TemporaryFile(NamedTuple):
    """An open file in `temporary/` and its path."""

    file: IO[bytes]
    path: Path


class FolderBlobWriter:
    """A temporary file that becomes a blob on `commit`. Holds a lock on it, so that `prune` can tell it from a leftover."""

    def __init__(self, blobs: FolderBlobs, temporary: TemporaryFile) -> None:
        self._blobs = blobs
        self._file, self._path = temporary
        self._hash = hashlib.sha256()

    def write(self, data: bytes | memoryview, /) -> int:
        self._hash.update(data)
        with disk_errors("can't write to the cache"):
            return self._file.write(data)

    @property
    def digest(self) -> str:
        """The name that what was written so far would have."""
        return self._hash.hexdigest()

    def digest_by(self, algorithm: str) -> str:
        """The digest by another algorithm than the store's (hex): reads all of it again."""
        with disk_errors("can't read what was written"), self._path.open("rb") as file:
            self._file.flush()
            return hashlib.file_digest(file, algorithm).hexdigest()

    def commit(self, *, expect: str = "") -> str:
        digest = self.digest
        if expect and digest != expect:
            raise DownloadError(
                "the content has another digest than promised",
                details=(f"expected sha256:{expect}", f"received sha256:{digest}"),
                hint="the file changed at its source or was damaged on the way; if the change is meant: --upgrade",
            )
        with disk_errors("can't write to the cache"):
            self._file.flush()
            if self._blobs.durable:
                os.fdatasync(self._file.fileno())
            os.fchmod(self._file.fileno(), 0o444)
            self._blobs.publish(self._path, digest)
        return digest


class FolderBlobs:
    """Blobs in a folder; the `Blobs` protocol of the model, and removal for `prune`."""

    def __init__(self, root: Path, temporary: Path, *, durable: bool = False) -> None:
        self._root = root
        self._temporary = temporary
        self.durable = durable
        """Whether what has a name is on the disk, so that a power cut can't leave half of it: for what can't be made anew."""

    def path(self, digest: str) -> Path:
        return self._root / digest[:2] / digest

    @contextlib.contextmanager
    def writer(self) -> Iterator[FolderBlobWriter]:
        with _temporary_file(self._temporary) as temporary:
            yield FolderBlobWriter(self, temporary)

    def put(self, chunks: Iterable[bytes]) -> str:
        with self.writer() as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit()

    def adopt(self, path: Path, *, expect: str = "") -> str:
        with disk_errors(f"can't read {path}"), path.open("rb") as source, self.writer() as writer:
            while chunk := source.read(CHUNK):
                writer.write(chunk)
            return writer.commit(expect=expect)

    def publish(self, file: Path, digest: str) -> None:
        """Give a finished temporary file its name. The same name always holds the same bytes, so replacing is harmless."""
        final = self.path(digest)
        try:
            file.replace(final)
        except FileNotFoundError:
            final.parent.mkdir(parents=True, exist_ok=True)
            file.replace(final)

    def has(self, digest: str) -> bool:
        """True if the blob is there; a use renews its time at most once a day."""
        path = self.path(digest)
        try:
            used = path.stat().st_mtime
        except OSError:
            return False
        if time.time() - used > TOUCH_AFTER:
            with contextlib.suppress(OSError):
                os.utime(path)
        return True

    def open(self, digest: str) -> BinaryIO:
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError:
            raise StoreError(
                f"the cache has no blob {digest[:16]}…", hint="it was pruned meanwhile; run the command again"
            ) from None

    def read(self, digest: str) -> bytes:
        """The whole of a small blob, verified. Raises CorruptBlobError, after removing it, when it isn't what it says."""
        with self.open(digest) as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != digest:
            raise self.corrupt(digest)
        return data

    def corrupt(self, digest: str) -> CorruptBlobError:
        """Remove a blob that failed verification; the error to raise."""
        self.delete(digest)
        return CorruptBlobError(
            f"the cache entry {digest[:16]}… was damaged and has been removed",
            hint="run the command again: it will be made anew",
        )

    def delete(self, digest: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path(digest).unlink()

    def list(self) -> Iterator[tuple[str, os.stat_result]]:
        """(digest, stat) of every blob, in no order."""
        for entry in _files(self._root):
            with contextlib.suppress(FileNotFoundError):
                yield entry.name, entry.stat()


class FolderActions:
    """Small results by kind and key. An entry carries the digest of its value, so a torn or edited one reads as absent."""

    def __init__(self, root: Path, temporary: Path) -> None:
        self._root = root
        self._temporary = temporary

    def _path(self, kind: str, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._root / kind / name[:2] / name

    def get(self, kind: str, key: str) -> bytes | None:
        try:
            entry = self._path(kind, key).read_bytes()
        except OSError:
            return None
        digest, _, value = entry.partition(b"\n")
        return value if digest == hashlib.sha256(value).hexdigest().encode() else None

    def put(self, kind: str, key: str, value: bytes) -> None:
        final = self._path(kind, key)
        with disk_errors("can't write to the cache"), _temporary_file(self._temporary) as (file, path):
            file.write(hashlib.sha256(value).hexdigest().encode() + b"\n" + value)
            file.flush()
            final.parent.mkdir(parents=True, exist_ok=True)
            path.replace(final)

    def list(self) -> Iterator[tuple[Path, os.stat_result]]:
        for entry in _files(self._root):
            with contextlib.suppress(FileNotFoundError):
                yield Path(entry.path), entry.stat()


class Store:
    """The two halves of the cache and a folder on the same file system for work in progress."""

    def __init__(self, root: Path, *, durable: bool = False) -> None:
        base = root / FORMAT
        self.root = root
        self.temporary = base / "temporary"
        self.blobs = FolderBlobs(base / "blobs" / "sha256", self.temporary, durable=durable)
        self.actions = FolderActions(base / "actions", self.temporary)

    def leftovers(self) -> Iterator[Path]:
        """Temporary files whose writer is gone (their lock is free)."""
        for path in self.temporary.iterdir():
            if path.is_dir() or not _is_locked(path):
                yield path


def open_store(root: Path | None = None, *, durable: bool = False) -> Store:
    """The store under `root` (default `default_root()`), its folders made. Raises StoreError where that can't be."""
    store = Store(root or default_root(), durable=durable)
    with disk_errors(f"can't make the cache folder {store.root}"):
        store.temporary.mkdir(parents=True, exist_ok=True)
    return store


@contextlib.contextmanager
def _temporary_file(folder: Path) -> Iterator[TemporaryFile]:
    with disk_errors("can't write to the cache"):
        descriptor, name = tempfile.mkstemp(dir=folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    file = os.fdopen(descriptor, "wb", buffering=CHUNK)
    try:
        yield TemporaryFile(file, Path(name))
    finally:
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return True
    return False


def _files(root: Path) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(root))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        else:
            yield entry


def remove_tree(path: Path) -> None:
    """Delete a file or folder, whatever is left of it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
