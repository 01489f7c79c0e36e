"""Where lazy images are kept: flat objects by key, in a folder or a bucket. Written whole or not at all; knows nothing of images.

A folder is the default; `s3://bucket/prefix` is a bucket, `?endpoint=URL` names an endpoint that isn't AWS's.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs, urlsplit

from lading.errors import UsageError
from lading.lazy.fault import ObjectMissingError, ObjectStoreError

if TYPE_CHECKING:
    from lading.aws.objects import Bucket

LARGEST_OBJECT = 64 << 20
_TEMPORARY = "temporary"
_KEY = re.compile(r"(?!temporary/)[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


class Objects(Protocol):
    """Thread-safe. Raises ObjectStoreError where the store can't do what it is asked."""

    def put(self, key: str, data: bytes) -> None:
        """All of it or nothing; in place of what was there."""
        ...

    def get(self, key: str) -> bytes:
        """Raises ObjectMissingError."""
        ...

    def size(self, key: str) -> int | None:
        """Bytes; None where there is no such object."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that begin so, in no order. Objects that come or go meanwhile may be listed or not."""
        ...

    def delete(self, key: str) -> None:
        """No error where there is none."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Raises ObjectMissingError."""
        ...

    def flush(self) -> None:
        """Returns when all that was put would survive a power cut."""
        ...


class FolderObjects:
    """Objects as files below a folder; a key's slashes are folders."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def put(self, key: str, data: bytes) -> None:
        final = self._path(key)
        with self._errors("write", key):
            temporary = self._temporary()
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                self._publish(temporary, final)
            finally:
                temporary.unlink(missing_ok=True)

    def get(self, key: str) -> bytes:
        with self._errors("read", key), self._path(key).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(size) if size <= LARGEST_OBJECT else b""  # no more than that, should it grow
        if size > LARGEST_OBJECT:
            raise ObjectStoreError(f"{self.root}/{key} is larger than any object", hint="it is damaged; delete it")
        return data

    def size(self, key: str) -> int | None:
        try:
            with self._errors("look at", key):
                return self._path(key).stat().st_size
        except ObjectMissingError:
            return None

    def list(self, prefix: str) -> Iterator[str]:
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self.root
        for path in _files(str(start)):
            key = path[len(str(self.root)) + 1 :]
            if key.startswith(prefix) and not key.startswith(f"{_TEMPORARY}/"):
                yield key

    def delete(self, key: str) -> None:
        with contextlib.suppress(ObjectMissingError), self._errors("delete", key):
            self._path(key).unlink()
        # Folders that became empty: their siblings' writers make them anew.
        for folder in self._path(key).parents:
            if folder == self.root or not _remove_empty(folder):
                break

    def copy(self, source: str, target: str) -> None:
        """A hard link: objects aren't changed in place."""
        with self._errors("copy", source):
            temporary = self._temporary()
            try:
                try:
                    temporary.hardlink_to(self._path(source))
                except OSError as error:
                    if error.errno not in (errno.EMLINK, errno.EPERM, errno.EXDEV):
                        raise
                    temporary.write_bytes(self._path(source).read_bytes())
                self._publish(temporary, self._path(target))
            finally:
                temporary.unlink(missing_ok=True)

    def flush(self) -> None:
        with self._errors("sync", ""):
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                library = ctypes.CDLL(None, use_errno=True)
                if not hasattr(library, "syncfs"):
                    os.sync()
                elif library.syncfs(descriptor):
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code), str(self.root))
            finally:
                os.close(descriptor)

    def _publish(self, temporary: Path, final: Path) -> None:
        for _ in range(100):
            try:
                temporary.replace(final)
                return
            except FileNotFoundError:
                # Never made, or emptied and removed by a delete at this moment.
                with contextlib.suppress(FileNotFoundError):
                    final.parent.mkdir(parents=True, exist_ok=True)
        raise OSError(errno.EAGAIN, "the folder goes away again and again", str(final.parent))

    def _temporary(self) -> Path:
        folder = self.root / _TEMPORARY
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{os.getpid()}-{secrets.token_hex(8)}"

    def _path(self, key: str) -> Path:
        _check(key)
        return self.root / key

    @contextlib.contextmanager
    def _errors(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError) and verb != "write":
                raise _missing(str(self.root), key) from None
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise ObjectStoreError(
                f"can't {verb} {key or 'the image store'} in {self.root}: {error.strerror or error}",
                hint="free space: lading image gc" if full else "check the folder and its permissions",
            ) from error


class BucketObjects:
    """Objects of a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def __str__(self) -> str:
        return f"s3://{self._bucket.name}/{self._bucket.prefix}".rstrip("/")

    def put(self, key: str, data: bytes) -> None:
        with self._errors():
            self._bucket.put(_check(key), data)

    def get(self, key: str) -> bytes:
        with self._errors():
            return self._bucket.get(_check(key))

    def size(self, key: str) -> int | None:
        with self._errors():
            return self._bucket.size(_check(key))

    def list(self, prefix: str) -> Iterator[str]:
        with self._errors():
            yield from self._bucket.list(prefix)

    def delete(self, key: str) -> None:
        with self._errors():
            self._bucket.delete(_check(key))

    def copy(self, source: str, target: str) -> None:
        with self._errors():
            self._bucket.copy(_check(source), _check(target))

    def flush(self) -> None:
        """S3 answers when an object is safe."""

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        from lading.aws.objects import BucketError, NoSuchObjectError

        try:
            yield
        except NoSuchObjectError as error:
            raise ObjectMissingError(error.message, hint=error.hint) from None
        except BucketError as error:
            raise ObjectStoreError(error.message, details=error.details, hint=error.hint) from error


def open_objects(address: str) -> FolderObjects | BucketObjects:
    """The store at an address: a folder, or s3://bucket/prefix with an optional ?endpoint=URL. Raises UsageError."""
    if not address.startswith("s3://"):
        return FolderObjects(Path(address).expanduser().absolute())
    parts = urlsplit(address)
    query = parse_qs(parts.query)
    if not parts.netloc or set(query) - {"endpoint"}:
        raise UsageError(
            f"not the address of a store: {address!r}", hint="s3://bucket/prefix?endpoint=URL, or a folder"
        )
    from lading.aws.objects import Bucket

    prefix = parts.path.strip("/")
    return BucketObjects(Bucket(parts.netloc, f"{prefix}/" if prefix else "", query.get("endpoint", [""])[0]))


def default_store() -> str:
    """$LADING_LAZY_STORE, or `lading/images` under the user's data folder."""
    chosen = os.environ.get("LADING_LAZY_STORE")
    if chosen:
        return chosen
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return str(Path(data).absolute() / "lading" / "images")


def _check(key: str) -> str:
    """Keys are made here; one of another form is a mistake, and never a path out of the store."""
    if not _KEY.fullmatch(key):
        raise ObjectStoreError(f"not a key of the image store: {key[:200]!r}", hint="report it: lading made it")
    return key


def _missing(store: str, key: str) -> ObjectMissingError:
    return ObjectMissingError(
        f"the image store {store} has no {key}", hint="convert the image again: lading image convert"
    )


def _files(folder: str) -> Iterator[str]:
    stack = [folder]
    while stack:
        try:
            entries = list(os.scandir(stack.pop()))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
            else:
                yield entry.path


def _remove_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
