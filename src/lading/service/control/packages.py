"""Uploaded zips: checked, kept by digest in the content store, and unpacked once per digest into a read-only tree.

A zip is hostile: member names may not leave the tree, nothing is written through a link, sizes and counts are bounded.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import stat
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from lading.service.contract.errors import ApiError
from lading.service.control.refusal import invalid
from lading.store import Store, open_store
from lading.store.folder import remove_tree

MAXIMUM_ZIPPED = 52_428_800
"""Bytes of a zip in a request (Lambda quotas, "Deployment package (.zip file archive) size")."""
MAXIMUM_UNZIPPED = 262_144_000
"""Bytes of a function with its layers (the same)."""
MAXIMUM_MEMBERS = 200_000
_CHUNK = 1 << 20
_BAD_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."


@dataclass(frozen=True)
class Package:
    """A zip in the store. Sizes in bytes."""

    digest: str
    """sha256, lower case hex."""
    size: int
    unzipped: int

    @property
    def code_sha256(self) -> str:
        """The digest as AWS's `CodeSha256`."""
        return base64.b64encode(bytes.fromhex(self.digest)).decode()


class Packages:
    """The zips and trees of a service's state folder."""

    def __init__(self, root: Path) -> None:
        self.folder = root
        """The state's folder; other parts of the service keep their files there too."""
        self._store: Store = open_store(root / "store")
        self._trees = root / "trees"
        self._trees.mkdir(exist_ok=True)
        self._lock = threading.Lock()
        for leftover in (*self._trees.glob(".new-*"), *self._trees.glob(".old-*")):
            remove_tree(leftover)

    def add(self, zipped: bytes, *, uploaded: bool = True) -> Package:
        """Check a zip and keep it. Raises ApiError in AWS's words. `uploaded`: it came in the request, which is bounded."""
        if uploaded and len(zipped) > MAXIMUM_ZIPPED:
            raise ApiError(
                "RequestEntityTooLargeException", f"Zipped size must be smaller than {MAXIMUM_ZIPPED} bytes", status=413
            )
        package = self.check(zipped)
        if not self._store.blobs.has(package.digest):
            self._store.blobs.put([zipped])
        return package

    def check(self, zipped: bytes) -> Package:
        """What `add` would keep, without keeping it."""
        with _opened(io.BytesIO(zipped)) as archive:
            unzipped = sum(member.file_size for member in _members(archive))
        if unzipped > MAXIMUM_UNZIPPED:
            raise invalid(f"Unzipped size must be smaller than {MAXIMUM_UNZIPPED} bytes")
        return Package(hashlib.sha256(zipped).hexdigest(), len(zipped), unzipped)

    def has(self, digest: str) -> bool:
        return self._store.blobs.has(digest)

    def open(self, digest: str) -> BinaryIO:
        """The zip as it was uploaded."""
        return self._store.blobs.open(digest)

    def tree(self, digest: str) -> Path:
        """The folder the zip is unpacked in; made on first use, complete or not there. Raises ApiError for a damaged zip."""
        final = self._trees / digest
        with self._lock:
            if not final.is_dir():
                new = Path(tempfile.mkdtemp(prefix=".new-", dir=self._trees))
                try:
                    with self.open(digest) as file, _opened(file) as archive:
                        unpack(archive, new)
                    new.chmod(0o755)
                    new.rename(final)
                finally:
                    remove_tree(new) if new.exists() else None
        return final

    def digests(self) -> set[str]:
        """Of all packages that are there, unpacked or not."""
        with self._lock:
            return {digest for digest, _ in self._store.blobs.list()} | {
                tree.name for tree in self._trees.iterdir() if not tree.name.startswith(".")
            }

    def digest_of(self, folder: Path) -> str:
        """The package whose tree a folder is; "" for any other folder."""
        return folder.name if folder.parent == self._trees else ""

    def take_out(self, digests: AbstractSet[str]) -> list[Path]:
        """Forget packages at once, except while one is being unpacked; their folders, which are to be removed."""
        taken: list[Path] = []
        if not digests or not self._lock.acquire(blocking=False):
            return taken
        try:
            for digest in digests:
                self._store.blobs.delete(digest)
                tree = self._trees / digest
                if tree.is_dir():
                    aside = Path(tempfile.mkdtemp(prefix=".old-", dir=self._trees))
                    taken.append(tree.rename(aside / digest).parent)
        finally:
            self._lock.release()
        return taken

    def keep_only(self, digests: AbstractSet[str]) -> None:
        """Remove every other package, unpacked or not. Nothing may be using them."""
        with self._lock:
            for digest in [digest for digest, _ in self._store.blobs.list() if digest not in digests]:
                self._store.blobs.delete(digest)
            for tree in [tree for tree in self._trees.iterdir() if tree.name not in digests]:
                remove_tree(tree)


@contextlib.contextmanager
def _opened(file: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """An archive whose every defect is AWS's one message."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, ValueError, RuntimeError) as error:
        raise invalid(_BAD_ZIP) from error
    except Exception as error:
        if type(error).__module__ in ("zlib", "_lzma"):
            raise invalid(_BAD_ZIP) from error
        raise


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The members, their names checked. Raises ApiError for too many, an encrypted one or a name that leaves the tree."""
    members = archive.infolist()
    if len(members) > MAXIMUM_MEMBERS:
        raise invalid(f"the zip has {len(members)} members, more than {MAXIMUM_MEMBERS}")
    for member in members:
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or "\0" in member.filename or member.flag_bits & 1:
            raise invalid(_BAD_ZIP)
    return members


def unpack(archive: zipfile.ZipFile, folder: Path) -> None:
    """Write an archive's members below an empty folder: nothing outside it, nothing through a link, modes without
    setuid, times kept. Raises ApiError when it grows beyond what its directory said."""
    links: set[PurePosixPath] = set()
    left = MAXIMUM_UNZIPPED
    folders: list[tuple[Path, zipfile.ZipInfo]] = []
    for member in _members(archive):
        inside = PurePosixPath(member.filename)
        if any(parent in links for parent in inside.parents) or inside in links:
            raise invalid(_BAD_ZIP)
        path = folder / inside
        if member.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            folders.append((path, member))
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISLNK(member.external_attr >> 16):
            links.add(inside)
            _link(archive, member, path)
        else:
            left -= _copy(archive, member, path, left)
    for path, member in reversed(folders):
        _finish(path, member, 0o755)


def _link(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    if member.file_size > 4096:
        raise invalid(_BAD_ZIP)
    path.unlink(missing_ok=True)
    path.symlink_to(archive.read(member).decode("utf-8", "surrogateescape"))


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, left: int) -> int:
    """Bytes written."""
    written = 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with archive.open(member) as source, open(os.open(path, flags, 0o644), "wb") as target:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > left:
                raise invalid(f"Unzipped size must be smaller than {MAXIMUM_UNZIPPED} bytes")
            target.write(chunk)
    _finish(path, member, 0o644)
    return written


def _finish(path: Path, member: zipfile.ZipInfo, default: int) -> None:
    """Mode as packed, without special bits; times as packed (a timestamp .pyc is valid only then)."""
    mode = (member.external_attr >> 16) & 0o777 or default
    path.chmod(mode | (0o700 if path.is_dir() else 0))
    with contextlib.suppress(ValueError, OverflowError):
        seconds = time.mktime((*member.date_time, 0, 0, -1))
        os.utime(path, (seconds, seconds))
