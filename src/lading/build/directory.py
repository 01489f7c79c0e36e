"""Reads a zip archive's directory as hostile input: names, counts, sizes and ranges are checked before anything is used.

Every problem is an UnsafeArchiveError that names the archive and the member. Unpacks nothing.
"""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass
from struct import error as StructError  # noqa: N812 - an exception class

from lading.build.records import (
    CENTRAL,
    CENTRAL_SIGNATURE,
    DEFLATED,
    END,
    END64,
    END64_SIGNATURE,
    END_SIGNATURE,
    LIMIT16,
    LIMIT32,
    LOCAL,
    LOCAL_SIGNATURE,
    LOCATOR64,
    LOCATOR64_SIGNATURE,
    STORED,
    UNIX,
    UTF8,
    Member,
)
from lading.errors import BuildError

MOST_MEMBERS = 200_000
LARGEST_DIRECTORY = 64 << 20
LARGEST_CONTENT = 12 << 30
"""Bytes unpacked: above the 10 GB of the largest image that Lambda takes."""
ENCRYPTED = 0x1 | 0x40
LONGEST_NAME = 4096
_COMMENT = 1 << 16


class UnsafeArchiveError(BuildError):
    """An archive is damaged, or its members would do what no archive should."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of a foreign archive and where its local header begins."""

    member: Member
    offset: int


class ArchiveFile:
    """An open zip file, read by position. `label` names it in messages."""

    def __init__(self, descriptor: int, label: str) -> None:
        self._descriptor = descriptor
        self.label = label
        self.size = os.fstat(descriptor).st_size

    def refuse(self, problem: str) -> UnsafeArchiveError:
        """The error to raise."""
        return UnsafeArchiveError(
            f"{self.label}: {problem}",
            hint="the file is damaged or not made by a packaging tool; fetch or build it anew",
        )

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes."""
        data = os.pread(self._descriptor, length, offset) if offset >= 0 else b""
        if len(data) != length:
            raise self.refuse("it ends too early")
        return data

    def entries(self) -> list[Entry]:
        """Every file and link in it, directories left out, checked."""
        count, size, offset = self._end()
        if count > MOST_MEMBERS or size > LARGEST_DIRECTORY:
            raise self.refuse(f"{count:,} members; at most {MOST_MEMBERS:,} are accepted")
        directory = self.read(offset, size)
        entries: list[Entry] = []
        position = 0
        try:
            for _ in range(count):
                entry, position = self._entry(directory, position)
                entries.append(entry)
        except StructError:
            raise self.refuse("its directory is shorter than it says") from None
        self._check_total(entries)
        self._check_ranges(entries, offset)
        files = [entry for entry in entries if not entry.member.name.endswith("/")]
        self._check_names(files)
        return files

    def data_offset(self, entry: Entry) -> int:
        """Where a member's packed bytes begin; its local header must agree with the directory."""
        header = LOCAL.unpack(self.read(entry.offset, LOCAL.size))
        name = self.read(entry.offset + LOCAL.size, header[9])
        flags = header[2]
        if header[0] != LOCAL_SIGNATURE or decode_name(name, flags) != entry.member.name:
            raise self.refuse(f"{entry.member.name!r} is not where the directory says")
        if header[3] != entry.member.method or flags & ENCRYPTED:
            raise self.refuse(f"{entry.member.name!r} has two different headers")
        return entry.offset + LOCAL.size + int(header[9]) + int(header[10])

    def _end(self) -> tuple[int, int, int]:
        """Member count, directory size and offset."""
        length = min(self.size, _COMMENT + END.size)
        tail = self.read(self.size - length, length)
        position = tail.rfind(END_SIGNATURE.to_bytes(4, "little"))
        if position < 0 or len(tail) - position < END.size:
            raise self.refuse("not a zip archive, or cut short")
        _, disk, first_disk, _, count, size, offset, _ = END.unpack_from(tail, position)
        if disk or first_disk:
            raise self.refuse("one part of an archive in several files")
        if count == LIMIT16 or LIMIT32 in (size, offset):
            return self._end64(self.size - length + position, (count, size, offset))
        return count, size, offset

    def _end64(self, end: int, plain: tuple[int, int, int]) -> tuple[int, int, int]:
        if end < LOCATOR64.size:
            return plain
        signature, _, position, _ = LOCATOR64.unpack(self.read(end - LOCATOR64.size, LOCATOR64.size))
        if signature != LOCATOR64_SIGNATURE:
            return plain
        fields = END64.unpack(self.read(position, END64.size))
        if fields[0] != END64_SIGNATURE:
            raise self.refuse("its zip64 end record is missing")
        return fields[7], fields[8], fields[9]

    def _entry(self, directory: bytes, position: int) -> tuple[Entry, int]:
        fields = CENTRAL.unpack_from(directory, position)
        if fields[0] != CENTRAL_SIGNATURE:
            raise self.refuse("its directory is damaged")
        start = position + CENTRAL.size
        after = start + fields[10]
        end = after + fields[11] + fields[12]
        if end > len(directory):
            raise self.refuse("its directory is shorter than it says")
        name = decode_name(directory[start:after], fields[3])
        if fields[3] & ENCRYPTED:
            raise self.refuse(f"{name!r} is encrypted")
        if fields[4] not in (STORED, DEFLATED):
            raise self.refuse(
                f"{name!r} is packed with method {fields[4]}; only stored and deflated members are accepted"
            )
        if LIMIT32 in (fields[8], fields[9], fields[16]):
            raise self.refuse(f"{name!r} lies beyond 4 GiB")
        mode = fields[15] >> 16 if fields[1] >> 8 == UNIX else 0
        return Entry(Member(name, mode, fields[4], fields[7], fields[9], fields[8]), fields[16]), end

    def _check_total(self, entries: list[Entry]) -> None:
        total = sum(entry.member.size for entry in entries)
        if total > LARGEST_CONTENT:
            raise self.refuse(f"{total:,} bytes unpacked; at most {LARGEST_CONTENT:,} are accepted")

    def _check_ranges(self, entries: list[Entry], directory: int) -> None:
        """No two members share bytes, and none reaches into the directory (D. Fifield, A better zip bomb, 2019)."""
        end = 0
        for entry in sorted(entries, key=lambda entry: entry.offset):
            if entry.offset < end:
                raise self.refuse(f"{entry.member.name!r} overlaps another member")
            end = self.data_offset(entry) + entry.member.packed
            if end > directory:
                raise self.refuse(f"{entry.member.name!r} reaches into the directory")

    def _check_names(self, entries: list[Entry]) -> None:
        seen: set[str] = set()
        for entry in entries:
            name = entry.member.name
            problem = name_problem(name)
            if problem:
                raise self.refuse(f"{name!r} {problem}")
            if name in seen:
                raise self.refuse(f"{name!r} is in it twice")
            if stat.S_IFMT(entry.member.mode) not in (0, stat.S_IFREG, stat.S_IFLNK):
                raise self.refuse(f"{name!r} is neither a file nor a link")
            seen.add(name)


def decode_name(raw: bytes, flags: int) -> str:
    """UTF-8 where flagged so, code page 437 otherwise (APPNOTE, appendix D); undecodable bytes stay visible as escapes."""
    return raw.decode("utf-8", "backslashreplace") if flags & UTF8 else raw.decode("cp437")


def name_problem(name: str) -> str:
    """Why a member may not have this name; empty when it may."""
    if not name or len(name) > LONGEST_NAME:
        return "is empty or longer than any path"
    if name.startswith("/"):
        return "is an absolute path"
    if "\\" in name or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return "holds a backslash or control character"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "has an empty, '.' or '..' component"
    return ""


def link_problem(name: str, target: str) -> str:
    """Why a symbolic link may not point there; empty when it stays inside."""
    if not target or target.startswith("/") or "\0" in target or "\\" in target:
        return f"links to {target!r}, which is not a relative path"
    if posixpath.normpath(posixpath.join(posixpath.dirname(name), target)).split("/")[0] == "..":
        return f"links to {target!r}, outside of the archive"
    return ""
