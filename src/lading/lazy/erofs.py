"""EROFS's records on disk, as bytes. No I/O, no decisions.

Source: Linux, Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h (as of 6.12; unchanged for these features since 5.16).
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable

from lading.lazy.tree import Node, Xattrs

BLOCK = 4096
SLOT = 32
"""Inode numbers count these."""
SUPERBLOCK_AT = 1024
MAGIC = 0xE0F5E1E2
COMPAT_CHECKSUM = 1
COMPAT_MTIME = 2
INCOMPAT_CHUNKED_FILE = 4
INCOMPAT_DEVICE_TABLE = 8
FLAT_PLAIN, FLAT_INLINE, CHUNK_BASED = 0, 2, 4
COMPACT_BYTES, EXTENDED_BYTES = 32, 64
CHUNK_INDEX_BYTES = 8
DATA_DEVICE = 1
_CHUNK_INDEXES = 0x20
_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQ24x")
_DEVICE = struct.Struct("<64sII56x")
_COMPACT = struct.Struct("<HHHHIIIIHHI")
_EXTENDED = struct.Struct("<HHHHQIIIIQII16x")
_CHUNK_INDEX = struct.Struct("<HHI")
_CHUNK_FORMAT = struct.Struct("<HH")
_DIRENT = struct.Struct("<QHBB")
_XATTR_HEAD = struct.Struct("<IB7x")
_XATTR = struct.Struct("<BBH")
_PREFIXES = {
    b"user.": 1,
    b"system.posix_acl_access": 2,
    b"system.posix_acl_default": 3,
    b"trusted.": 4,
    b"security.": 6,
}
_KINDS = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
DEVICE_SLOT = (SUPERBLOCK_AT + _SUPERBLOCK.size) // _DEVICE.size
FIRST_INODE = SUPERBLOCK_AT + _SUPERBLOCK.size + _DEVICE.size
LARGEST_COMPACT = (1 << 32) - 1


def superblock(root: int, inodes: int, moment: int, blocks: tuple[int, int], uuid: bytes) -> bytes:
    """With its device slot. `moment` in ns is the time of compact inodes, `blocks` those of metadata and of data."""
    seconds, nanoseconds = divmod(moment, 1_000_000_000)
    own = _SUPERBLOCK.pack(
        MAGIC, 0, COMPAT_CHECKSUM | COMPAT_MTIME, 12, 0, root, inodes, seconds, nanoseconds, blocks[0], 0, 0, uuid,
        b"", INCOMPAT_CHUNKED_FILE | INCOMPAT_DEVICE_TABLE, 0, 1, DEVICE_SLOT, 0, 0, 0, 0,
    )  # fmt: skip
    return own + _DEVICE.pack(b"", blocks[1], 0)


def with_checksum(block: bytes) -> bytes:
    """The first block with the checksum over all of it from the superblock on."""
    own = bytearray(block)
    own[SUPERBLOCK_AT + 4 : SUPERBLOCK_AT + 8] = struct.pack("<I", crc32c(own[SUPERBLOCK_AT:]))
    return bytes(own)


def inode(node: Node, layout: int, content: int | bytes, *, compact: bool) -> bytes:
    """An inode without what follows it. `content`: the four bytes that layout or type give a meaning, or as a number."""
    body = int.from_bytes(content, "little") if isinstance(content, bytes) else content
    count = xattr_count(node.xattrs)
    serial = node.nid & 0xFFFF_FFFF
    if compact:
        return _COMPACT.pack(
            layout << 1, count, node.mode, node.links, node.size, 0, body, serial, node.uid, node.gid, 0
        )
    seconds, nanoseconds = divmod(node.mtime, 1_000_000_000)
    return _EXTENDED.pack(
        layout << 1 | 1, count, node.mode, 0, node.size, body, serial, node.uid, node.gid, seconds, nanoseconds,
        node.links,
    )  # fmt: skip


def chunk_format(size: int) -> bytes:
    """For a file that is one chunk: the power of two of blocks that holds it."""
    return _CHUNK_FORMAT.pack((-(-size // BLOCK) - 1).bit_length() | _CHUNK_INDEXES, 0)


def chunk_index(block: int) -> bytes:
    return _CHUNK_INDEX.pack(0, DATA_DEVICE, block)


def device_number(device: tuple[int, int]) -> int:
    """As Linux's new_encode_dev."""
    major, minor = device
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def xattr_bytes(xattrs: Xattrs) -> int:
    """Bytes between inode and content."""
    if not xattrs:
        return 0
    return _XATTR_HEAD.size + sum(_padded(_XATTR.size + len(_split(name)[1]) + len(value)) for name, value in xattrs)


def xattr_count(xattrs: Xattrs) -> int:
    """How the inode states it."""
    return (xattr_bytes(xattrs) - _XATTR_HEAD.size) // 4 + 1 if xattrs else 0


def write_xattrs(xattrs: Xattrs) -> bytes:
    if not xattrs:
        return b""
    parts = [_XATTR_HEAD.pack(0, 0)]
    for name, value in xattrs:
        prefix, rest = _split(name)
        record = _XATTR.pack(len(rest), prefix, len(value)) + rest + value
        parts.append(record + bytes(_padded(len(record)) - len(record)))
    return b"".join(parts)


def _split(name: bytes) -> tuple[int, bytes]:
    for prefix, number in _PREFIXES.items():
        if name.startswith(prefix):
            return number, name[len(prefix) :]
    raise AssertionError(name)


def _padded(size: int) -> int:
    return -(-size // 4) * 4


def folder_size(names: Iterable[bytes]) -> int:
    """Bytes of a folder's content, its names (and `.` and `..`) in order."""
    blocks, used = 0, 0
    for name in names:
        entry = _DIRENT.size + len(name)
        if used + entry > BLOCK:
            blocks, used = blocks + 1, 0
        used += entry
    return blocks * BLOCK + used


def folder_content(entries: Iterable[tuple[bytes, Node]]) -> bytes:
    """A folder's content: blocks of entries, then their names. In order of the names' bytes, as the kernel searches them."""
    done = bytearray()
    group: list[tuple[bytes, Node]] = []
    used = 0
    for name, node in entries:
        entry = _DIRENT.size + len(name)
        if used + entry > BLOCK:
            done += _folder_block(group).ljust(BLOCK, b"\0")
            group, used = [], 0
        group.append((name, node))
        used += entry
    return bytes(done + _folder_block(group))


def _folder_block(group: list[tuple[bytes, Node]]) -> bytes:
    place = len(group) * _DIRENT.size
    records = bytearray()
    for name, node in group:
        records += _DIRENT.pack(node.nid, place, _KINDS[stat.S_IFMT(node.mode)], 0)
        place += len(name)
    return bytes(records) + b"".join(name for name, _ in group)


def crc32c(data: bytes | bytearray) -> int:
    """Castagnoli's, as the kernel's crc32c(~0, …) leaves it: not inverted at the end."""
    value = 0xFFFF_FFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value
