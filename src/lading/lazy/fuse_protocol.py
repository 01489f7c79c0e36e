"""The kernel's FUSE protocol as bytes: requests parsed, answers built, for read-only files. No descriptors, no I/O.

Layouts are those of Linux's include/uapi/linux/fuse.h, protocol 7.40; an older kernel (7.31 at least) is spoken to as it wishes.
"""

from __future__ import annotations

import enum
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

MAJOR = 7
MINOR = 40
OLDEST_MINOR = 31
"""Linux 5.4: read sizes above 128 KiB."""
ROOT = 1
"""Node number of the folder."""
REQUEST_BUFFER = 16_384
"""Bytes of the buffer that requests are read into: the kernel refuses less than its headers and one write of `_MAX_WRITE`."""
_MAX_WRITE = 4_096
MAX_READ = 1 << 20
_PAGE = 4_096
_FOR_EVER = 1 << 31
"""Seconds that names and attributes stay valid: nothing here ever changes."""

ASYNC_READ = 1 << 0
MAX_PAGES = 1 << 22
NO_OPENDIR_SUPPORT = 1 << 24
INIT_EXT = 1 << 30
PARALLEL_DIROPS = 1 << 18
ASYNC_DIO = 1 << 15
HAS_RESEND = 1 << 39
_WISHES = ASYNC_READ | ASYNC_DIO | MAX_PAGES | PARALLEL_DIROPS | INIT_EXT | HAS_RESEND
_KEEP_CACHE = 1 << 1
_NOTIFY_RESEND = 7

_IN_HEADER = struct.Struct("<IIQQIIIHH")
_OUT_HEADER = struct.Struct("<IiQ")
_INIT_IN = struct.Struct("<IIII")
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_READ_IN = struct.Struct("<QQIIQII")
_ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("<QQQQII")
_ATTRIBUTES_OUT = struct.Struct("<QII")
_OPEN_OUT = struct.Struct("<QIi")
_STATFS_OUT = struct.Struct("<QQQQQIIII24x")
_DIRECTORY_ENTRY = struct.Struct("<QQII")


class Opcode(enum.IntEnum):
    """The requests that a read-only folder of files can meet."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    ACCESS = 34
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


UNANSWERED = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT})
"""The kernel waits for no answer. An interrupt is a wish: reads end at their deadline, not at any harmless signal."""


class ProtocolError(Exception):
    """What came from the device is not a request."""


class Request(NamedTuple):
    """opcode is a plain number: the kernel may know more than this module."""

    opcode: int
    unique: int
    node: int
    body: memoryview


class ReadRequest(NamedTuple):
    unique: int
    node: int
    offset: int
    size: int


@dataclass(frozen=True)
class File:
    """A node of the folder: its number, name and size in bytes."""

    node: int
    name: str
    size: int


@dataclass(frozen=True)
class Negotiated:
    """What both sides can do."""

    minor: int
    resend: bool
    """Requests of a server that died can be asked for again."""


def parse_request(buffer: memoryview) -> Request:
    if len(buffer) < _IN_HEADER.size:
        raise ProtocolError(f"request of {len(buffer)} bytes")
    length, opcode, unique, node, _, _, _, _, _ = _IN_HEADER.unpack_from(buffer)
    if length != len(buffer):
        raise ProtocolError(f"request says {length} bytes, {len(buffer)} came")
    return Request(opcode, unique, node, buffer[_IN_HEADER.size :])


def parse_read(request: Request) -> ReadRequest:
    """Of READ and READDIR."""
    if len(request.body) < _READ_IN.size:
        raise ProtocolError(f"read request of {len(request.body)} bytes")
    _, offset, size, *_ = _READ_IN.unpack_from(request.body)
    return ReadRequest(request.unique, request.node, offset, size)


def parse_name(request: Request) -> str:
    """Of LOOKUP; bytes that are no UTF-8 are kept as surrogates."""
    return bytes(request.body).partition(b"\0")[0].decode("utf-8", "surrogateescape")


def negotiate(request: Request, *, background: int) -> tuple[bytes, Negotiated]:
    """The answer to INIT. background: reads ahead that the kernel may have under way. Raises ProtocolError."""
    if request.opcode != Opcode.INIT or len(request.body) < _INIT_IN.size:
        raise ProtocolError(f"the first request has opcode {request.opcode}, not INIT")
    major, minor, read_ahead, flags = _INIT_IN.unpack_from(request.body)
    if (major, minor) < (MAJOR, OLDEST_MINOR):
        raise ProtocolError(f"the kernel speaks FUSE {major}.{minor}, {MAJOR}.{OLDEST_MINOR} is needed")
    if flags & INIT_EXT and len(request.body) >= _INIT_IN.size + 4:
        flags |= struct.unpack_from("<I", request.body, _INIT_IN.size)[0] << 32
    agreed = flags & _WISHES
    answer = _INIT_OUT.pack(
        MAJOR,
        MINOR,
        max(read_ahead, MAX_READ),
        agreed & 0xFFFFFFFF,
        background,
        background * 3 // 4,
        _MAX_WRITE,
        1,
        MAX_READ // _PAGE,
        0,
        agreed >> 32,
    )
    return frame(request.unique, answer), Negotiated(min(minor, MINOR), bool(agreed & HAS_RESEND))


def frame(unique: int, body: bytes = b"") -> bytes:
    return _OUT_HEADER.pack(_OUT_HEADER.size + len(body), 0, unique) + body


def header(unique: int, length: int) -> bytes:
    """In front of `length` bytes that are sent beside it."""
    return _OUT_HEADER.pack(_OUT_HEADER.size + length, 0, unique)


def parse_unique(answer: bytes) -> int:
    """Which request an answer is for."""
    return int(_OUT_HEADER.unpack_from(answer)[2])


def failure(unique: int, error: int) -> bytes:
    """error: a positive errno."""
    return _OUT_HEADER.pack(_OUT_HEADER.size, -error, unique)


def resend() -> bytes:
    """Asks for the requests again that were read from the device and not answered."""
    return _OUT_HEADER.pack(_OUT_HEADER.size, _NOTIFY_RESEND, 0)


def entry(unique: int, file: File) -> bytes:
    return frame(unique, _ENTRY.pack(file.node, 0, _FOR_EVER, _FOR_EVER, 0, 0) + _attributes(file))


def attributes(unique: int, file: File | None) -> bytes:
    """None: of the folder itself, whose content changes."""
    valid = _FOR_EVER if file else 0
    return frame(unique, _ATTRIBUTES_OUT.pack(valid, 0, 0) + _attributes(file))


def opened(unique: int, *, folder: bool = False) -> bytes:
    return frame(unique, _OPEN_OUT.pack(0, 0 if folder else _KEEP_CACHE, 0))


def statistics(unique: int, files: Iterable[File]) -> bytes:
    sizes = [file.size for file in files]
    blocks = sum(-(-size // _PAGE) for size in sizes)
    return frame(unique, _STATFS_OUT.pack(blocks, 0, 0, len(sizes), 0, _PAGE, 255, _PAGE, 0))


def listing(request: ReadRequest, files: Iterable[File]) -> bytes:
    """As many names as fit from the offset on, which counts names."""
    names = [(ROOT, ".", stat.S_IFDIR), (ROOT, "..", stat.S_IFDIR)]
    names += [(file.node, file.name, stat.S_IFREG) for file in files]
    content = b""
    for index, (node, name, mode) in enumerate(names[request.offset :], request.offset + 1):
        raw = name.encode("utf-8", "surrogateescape")
        item = _DIRECTORY_ENTRY.pack(node, index, len(raw), mode >> 12) + raw
        item += bytes(-len(item) % 8)
        if len(content) + len(item) > request.size:
            break
        content += item
    return frame(request.unique, content)


def _attributes(file: File | None) -> bytes:
    size, mode = (file.size, stat.S_IFREG | 0o400) if file else (0, stat.S_IFDIR | 0o500)
    node, links = (file.node, 1) if file else (ROOT, 2)
    return _ATTRIBUTES.pack(node, size, -(-size // 512), 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, _PAGE, 0)
