"""The bytes of a zip archive's headers, for both the reader and the writer. Pure: bytes in, bytes out.

After PKWARE's APPNOTE 6.3.10: 4.3.7 local header, 4.3.12 central record, 4.3.14–4.3.16 ends. Everything written here is
normal: time 1980-01-01 00:00, UTF-8 names, made by Unix (so that modes count), no extra field but zip64's.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from struct import Struct

LOCAL = Struct("<IHHHHHIIIHH")
CENTRAL = Struct("<IHHHHHHIIIHHHHHII")
END = Struct("<IHHHHIIH")
END64 = Struct("<IQHHIIQQQQ")
LOCATOR64 = Struct("<IIQI")
LOCAL_SIGNATURE = 0x04034B50
CENTRAL_SIGNATURE = 0x02014B50
END_SIGNATURE = 0x06054B50
END64_SIGNATURE = 0x06064B50
LOCATOR64_SIGNATURE = 0x07064B50
OFFSET_FIELD = 42
"""Where a central record holds its member's offset."""

STORED = 0
DEFLATED = 8
UTF8 = 0x800
EPOCH_DATE = 0x21
"""1980-01-01 in MS-DOS form, the oldest time that a zip can hold."""
LIMIT32 = 0xFFFFFFFF
LIMIT16 = 0xFFFF
UNIX = 3

FILE_MODE = stat.S_IFREG | 0o644
EXECUTABLE_MODE = stat.S_IFREG | 0o755
LINK_MODE = stat.S_IFLNK | 0o777


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: `size` bytes that take `packed` bytes there. `mode` is st_mode, file type included."""

    name: str
    mode: int
    method: int
    crc: int
    size: int
    packed: int


def normal_mode(mode: int) -> int:
    """One of the three modes that artifacts have: a file, an executable file, a symbolic link."""
    if stat.S_ISLNK(mode):
        return LINK_MODE
    return EXECUTABLE_MODE if mode & 0o111 else FILE_MODE


def local_header(member: Member) -> bytes:
    """What precedes a member's data."""
    name = member.name.encode()
    fixed = LOCAL.pack(
        LOCAL_SIGNATURE, 20, UTF8, member.method, 0, EPOCH_DATE, member.crc, member.packed, member.size, len(name), 0
    )
    return fixed + name


def central_record(member: Member, offset: int) -> bytes:
    """A member's entry in the central directory."""
    name = member.name.encode()
    fixed = CENTRAL.pack(
        CENTRAL_SIGNATURE,
        UNIX << 8 | 20,
        20,
        UTF8,
        member.method,
        0,
        EPOCH_DATE,
        member.crc,
        member.packed,
        member.size,
        len(name),
        0,
        0,
        0,
        0,
        member.mode << 16,
        offset,
    )
    return fixed + name


def widen(record: bytes, offset: int) -> bytes:
    """The central record of a member that lies beyond 4 GiB: its offset moves to a zip64 extra field (4.5.3)."""
    fields = list(CENTRAL.unpack_from(record))
    fields[2] = 45
    fields[11] = 12
    fields[16] = LIMIT32
    return CENTRAL.pack(*fields) + record[CENTRAL.size :] + Struct("<HHQ").pack(1, 8, offset)


def end_records(count: int, size: int, offset: int) -> bytes:
    """What closes an archive with `count` members whose central directory of `size` bytes begins at `offset`."""
    if count < LIMIT16 and size < LIMIT32 and offset < LIMIT32:
        return END.pack(END_SIGNATURE, 0, 0, count, count, size, offset, 0)
    return (
        END64.pack(END64_SIGNATURE, END64.size - 12, UNIX << 8 | 45, 45, 0, 0, count, count, size, offset)
        + LOCATOR64.pack(LOCATOR64_SIGNATURE, 0, offset + size, 1)
        + END.pack(
            END_SIGNATURE,
            0,
            0,
            min(count, LIMIT16),
            min(count, LIMIT16),
            min(size, LIMIT32),
            min(offset, LIMIT32),
            0,
        )
    )
