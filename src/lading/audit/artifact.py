"""Opening somebody's zip or folder to look at it. Nothing is unpacked or run, and nothing in it is trusted.

What makes reading unsafe or pointless is one ArtifactError; what is merely wrong becomes a finding and the rest is read.
"""

from __future__ import annotations

import calendar
import contextlib
import io
import os
import posixpath
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO

from lading.audit.codes import found
from lading.audit.inventory import Entry
from lading.errors import AuditError, UsageError
from lading.model.finding import Finding

LARGEST_ARCHIVE = 2 << 30
"""Bytes of a zip, and of what it says it holds: eight times what Lambda takes."""
LARGEST_DIRECTORY = 128 << 20
"""Bytes of a zip's central directory."""
MOST_MEMBERS = 250_000
LONGEST_NAME = 255
"""Bytes of one name in a path (Linux: NAME_MAX)."""
LONGEST_PATH = 4096 - len("/var/task/")
_LONGEST_LINK = 4096
_LAYER_FOLDERS = frozenset({"python", "bin", "lib", "extensions", "java", "nodejs", "ruby"})
_READ_ERRORS = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError, struct.error,
)  # fmt: skip
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class ArtifactError(AuditError):
    """A zip or folder that can't be looked into safely, or a member of it that can't be read."""


class NoArtifactError(UsageError):
    """The path given leads nowhere."""


@dataclass
class Opened:
    """An artifact that is open for reading: its safe files, and what is wrong with its names and members. A context manager."""

    path: Path
    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...]
    unzipped_size: int
    """Bytes, by the archive's own account."""
    zipped_size: int | None = None
    """Bytes of the zip; None for a folder."""
    _archive: zipfile.ZipFile | None = field(default=None, repr=False)

    def __enter__(self) -> Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._archive is not None:
            self._archive.close()

    @property
    def looks_like_layer(self) -> bool:
        """Nothing at the top but a layer's folders, python/ or others, without a module beside them."""
        tops = {entry.path.partition("/")[0] for entry in self.entries}
        if not tops or not tops <= _LAYER_FOLDERS:
            return False
        return "python" not in tops or not any(entry.path == "python/__init__.py" for entry in self.entries)


def open_artifact(path: Path) -> Opened:
    """A zip or folder, ready to be looked into.

    Raises NoArtifactError when there is nothing, ArtifactError when it is neither, or beyond the bounds above.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise NoArtifactError(f"{path} does not exist", hint="give a zip or a folder: lading check dist/NAME.zip")
    if not path.is_file():
        raise ArtifactError(f"{path} is neither a file nor a folder", hint="give a zip or a folder")
    return _open_zip(path)


# Zips


def _open_zip(path: Path) -> Opened:
    size = path.stat().st_size
    if size > LARGEST_ARCHIVE:
        raise ArtifactError(
            f"{path} has {size:,} bytes; Lambda takes 262,144,000 unzipped", hint="build an image instead"
        )
    _check_directory(path, size)
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, OSError, ValueError, struct.error) as error:
        raise ArtifactError(f"{path} is not a readable zip: {error}", hint="unzip -t shows where it breaks") from None
    try:
        return _read_members(path, archive, size)
    except BaseException:
        archive.close()
        raise


def _check_directory(path: Path, size: int) -> None:
    """The bounds on a zip's directory, from its end record, before anything of it is in memory."""
    with path.open("rb") as stream:
        tail_size = min(size, 65_557)
        stream.seek(size - tail_size)
        tail = stream.read(tail_size)
        place = tail.rfind(b"PK\x05\x06")
        if place < 0 or len(tail) - place < 22:
            raise ArtifactError(f"{path} is not a zip: it has no end record", hint="give a zip or a folder")
        count, length = struct.unpack_from("<HI", tail, place + 10)
        locator = place - 20
        if locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
            stream.seek(min(struct.unpack_from("<Q", tail, locator + 8)[0], size))
            record = stream.read(56)
            if len(record) == 56:
                count, length = struct.unpack_from("<QQ", record, 32)
    if count > MOST_MEMBERS or length > LARGEST_DIRECTORY:
        raise ArtifactError(
            f"{path} says it has {count:,} members in a directory of {length:,} bytes",
            hint="Lambda would not take that either",
        )


def _read_members(path: Path, archive: zipfile.ZipFile, size: int) -> Opened:
    members = archive.infolist()
    total = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS or total > LARGEST_ARCHIVE:
        raise ArtifactError(
            f"{path} says it unpacks to {total:,} bytes in {len(members):,} files; it is not read any further",
            hint="Lambda takes 262,144,000 bytes; this may be a zip bomb",
        )
    reader = _ZipReader(archive)
    for member in members:
        reader.add(member)
    reader.add_links()
    return Opened(path, tuple(reader.entries.values()), tuple(reader.findings), total, size, archive)


class _ZipReader:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.entries: dict[str, Entry] = {}
        self.links: list[tuple[zipfile.ZipInfo, str]] = []
        self.folders: set[str] = set()
        self.findings: list[Finding] = []

    def add(self, member: zipfile.ZipInfo) -> None:
        name = member.orig_filename
        problem = name_problem(name)
        if problem is not None:
            self.findings.append(problem)
            return
        if not member.flag_bits & 0x800 and not name.isascii():
            self.findings.append(found("name-encoding", "the name is not marked as UTF-8", file=name))
        mode = member.external_attr >> 16
        if name.endswith("/"):
            self.folders.add(name.rstrip("/"))
            return
        if name in self.entries:
            self.findings.append(found("duplicate-path", "is in the archive twice", file=name))
            return
        kind = stat.S_IFMT(mode)
        if kind == stat.S_IFLNK:
            self.links.append((member, name))
        elif kind not in (0, stat.S_IFREG):
            self.findings.append(found("special-file", "is not a regular file", file=name))
        elif member.flag_bits & 1:
            self.findings.append(found("member-encrypted", "is encrypted", file=name))
        elif member.compress_type not in _METHODS:
            self.findings.append(found("member-method", f"is compressed by method {member.compress_type}", file=name))
        else:
            permissions = stat.S_IMODE(mode) if member.create_system == 3 and mode else None
            opener = _MemberOpener(self.archive, member)
            self.entries[name] = Entry(
                name, member.file_size, member.compress_size, opener, permissions, _seconds(member.date_time)
            )

    def add_links(self) -> None:
        paths = set(self.entries) | self.folders | {name for _, name in self.links}
        paths |= {parent for path in paths for parent in _parents(path)}
        for member, name in self.links:
            if member.file_size > _LONGEST_LINK or member.flag_bits & 1 or member.compress_type not in _METHODS:
                self.findings.append(found("link-escape", f"is a link of {member.file_size} bytes", file=name))
                continue
            with _MemberOpener(self.archive, member)() as stream:
                target = stream.read(_LONGEST_LINK).decode("utf-8", "replace")
            aim, problem = _link_target(name, target, paths)
            if problem is not None:
                self.findings.append(problem)
            elif aim in self.entries:
                opener = self.entries[aim].open
                self.entries[name] = Entry(name, member.file_size, member.compress_size, opener, link=True)


class _MemberOpener:
    """Opens one member; every failure to read it is an ArtifactError."""

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        self.archive = archive
        self.member = member

    def __call__(self) -> BinaryIO:
        with _as_artifact_error(self.member.filename):
            return _Guarded(self.archive.open(self.member), self.member.filename)  # type: ignore[return-value]


class _Guarded(io.RawIOBase):
    """A member's bytes, as many as its header says and no more."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        with _as_artifact_error(self._name):
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1, /) -> bytes:
        with _as_artifact_error(self._name):
            return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        with _as_artifact_error(self._name):
            return self._stream.seek(offset, whence)

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._stream.close()
        super().close()


@contextlib.contextmanager
def _as_artifact_error(name: str) -> Iterator[None]:
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        OSError,
        ValueError,
        struct.error,
    ) as error:
        raise ArtifactError(f"{name} can't be read: {error}", hint="the archive is damaged: build it again") from None


def _seconds(date_time: tuple[int, int, int, int, int, int]) -> int | None:
    """A member's time as Lambda sets it (as if it were UTC); None for a date that is none."""
    try:
        return calendar.timegm((*date_time, 0, 0, 0))
    except (ValueError, OverflowError):
        return None


# Folders


def _open_folder(path: Path) -> Opened:
    entries: dict[str, Entry] = {}
    links: list[str] = []
    paths: set[str] = set()
    findings: list[Finding] = []
    for full, name in _walk(path):
        paths.add(name)
        problem = name_problem(name)
        if problem is not None:
            findings.append(problem)
            continue
        status = full.lstat()
        if stat.S_ISLNK(status.st_mode):
            links.append(name)
        elif stat.S_ISREG(status.st_mode):
            mode, time = stat.S_IMODE(status.st_mode), int(status.st_mtime)
            entries[name] = Entry(name, status.st_size, status.st_size, _FileOpener(full), mode, time)
        elif not stat.S_ISDIR(status.st_mode):
            findings.append(found("special-file", "is not a regular file", file=name))
    for name in links:
        aim, problem = _link_target(name, str((path / name).readlink()), paths)
        if problem is not None:
            findings.append(problem)
        elif aim in entries:
            original = entries[aim]
            entries[name] = Entry(name, 0, 0, original.open, link=True)
    total = sum(entry.size for entry in entries.values())
    return Opened(path, tuple(entries.values()), tuple(findings), total)


def _walk(path: Path) -> Iterator[tuple[Path, str]]:
    """Every file, link and folder below `path` in order of name, links not followed."""
    count = 0
    for folder, folders, files in os.walk(path):
        folders.sort()
        for base in sorted([*files, *folders]):
            count += 1
            if count > MOST_MEMBERS:
                raise ArtifactError(
                    f"{path} has more than {MOST_MEMBERS:,} files", hint="Lambda would not take that either"
                )
            full = Path(folder, base)
            yield full, full.relative_to(path).as_posix()


class _FileOpener:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise ArtifactError(f"{self.path} can't be read: {error.strerror}", hint="check its permissions") from None


# Names


def name_problem(name: str) -> Finding | None:
    """What is wrong with a member's name, if anything."""
    shown = name.encode("utf-8", "backslashreplace").decode()
    try:
        lengths = [len(part.encode("utf-8")) for part in name.split("/")]
    except UnicodeEncodeError:
        return found("unsafe-path", "the name is not UTF-8", file=shown)
    if any(character < " " or character == "\x7f" for character in name):
        return found("unsafe-path", "the name has a control character", file=shown)
    if "\\" in name:
        return found("unsafe-path", "the name has a backslash, which Linux takes for a part of the name", file=shown)
    parts = name.rstrip("/").split("/")
    if not name or name.startswith("/") or ".." in parts or "." in parts or "" in parts:
        return found("unsafe-path", "the name is absolute, empty or leaves the artifact", file=shown)
    if max(lengths) > LONGEST_NAME or sum(lengths) + len(lengths) - 1 > LONGEST_PATH:
        return found("path-length", "the name is longer than Linux allows", file=shown[:LONGEST_NAME])
    return None


def _link_target(name: str, target: str, paths: set[str]) -> tuple[str, Finding | None]:
    """Where a link leads inside the artifact, or the finding that it leads nowhere good."""
    if target.startswith(("/var/task/", "/opt/")):
        return "", None
    aim = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    if "\0" in target or target.startswith("/") or aim == ".." or aim.startswith("../"):
        return "", found("link-escape", f"points to {target!r}, outside the artifact", file=name)
    if aim != "." and aim not in paths:
        return "", found("link-dangling", f"points to {target!r}, which is not there", file=name)
    return aim, None


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path
