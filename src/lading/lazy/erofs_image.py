"""The metadata of an image as an EROFS file: places every inode, then writes the file in order. Same tree, same bytes.

Contents of files lie on a second device (place.py decides where), small ones beside their inode. Holds no file of it in memory.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lading.lazy import erofs
from lading.lazy.erofs import BLOCK, SLOT
from lading.lazy.tree import Node, walk

LARGEST_INLINE = 128
"""Bytes of a file that lies beside its inode: it costs every start, touched or not, but needs no chunk (decision 13)."""
_ROOM = 1 << 20


def is_inline(node: Node) -> bool:
    """Whether a file's content is part of the metadata."""
    return node.size <= LARGEST_INLINE and erofs.EXTENDED_BYTES + erofs.xattr_bytes(node.xattrs) + node.size <= BLOCK


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a node lies: `head` is inode and attributes, `tail` what follows them, `blocks` those elsewhere."""

    layout: int
    compact: bool
    head: int
    tail: int
    blocks: int = 0

    @property
    def total(self) -> int:
        return -(-(self.head + self.tail) // SLOT) * SLOT


class MetadataImage:
    """Of a tree whose files have their blocks. Numbers all nodes when made; `pieces` writes."""

    def __init__(self, root: Node, uuid: bytes, data_blocks: int) -> None:
        self._root, self._uuid, self._data_blocks = root, uuid, data_blocks
        self._nodes = _order(root)
        self._parents = {id(root): root}
        for node in self._nodes:
            if node.is_folder:
                self._parents.update((id(child), node) for child in node.entries.values() if child.is_folder)
        moments = Counter(node.mtime for node in self._nodes)
        self._moment = min(moments, key=lambda moment: (-moments[moment], moment))
        self._inode_blocks, blocks = self._place()
        self.size = (self._inode_blocks + blocks) * BLOCK

    @property
    def inodes(self) -> int:
        return len(self._nodes)

    def pieces(self, content: Callable[[Node], bytes]) -> Iterator[bytes]:
        """The file, in pieces of about a MiB. `content` reads a small file's."""
        first = True
        for piece in self._blocks(content):
            yield erofs.with_checksum(piece[:BLOCK]) + piece[BLOCK:] if first else piece
            first = False

    def _place(self) -> tuple[int, int]:
        """Gives every node its number; (blocks of inodes, blocks of folders and long links)."""
        position, blocks = erofs.FIRST_INODE, 0
        for node in self._nodes:
            shape = self._shape(node)
            position = _fit(position, shape.total)
            node.nid = position // SLOT
            position += shape.total
            blocks += shape.blocks
        return -(-position // BLOCK), blocks

    def _shape(self, node: Node) -> _Shape:
        compact = (
            node.mtime == self._moment
            and max(node.uid, node.gid, node.links) <= 0xFFFF
            and node.size <= erofs.LARGEST_COMPACT
        )
        head = (erofs.COMPACT_BYTES if compact else erofs.EXTENDED_BYTES) + erofs.xattr_bytes(node.xattrs)
        if node.is_file and node.size and not is_inline(node):
            index = -(-head // 8) * 8 - head + erofs.CHUNK_INDEX_BYTES
            return _Shape(erofs.CHUNK_BASED, compact, head, index)
        if node.is_folder:
            node.size = erofs.folder_size(_names(node))
        if not node.is_folder and not node.is_link and not node.is_file:
            return _Shape(erofs.FLAT_PLAIN, compact, head, 0)
        blocks, tail = divmod(node.size, BLOCK)
        if tail and head + tail <= BLOCK:
            return _Shape(erofs.FLAT_INLINE, compact, head, tail, blocks)
        return _Shape(erofs.FLAT_PLAIN, compact, head, 0, -(-node.size // BLOCK))

    def _blocks(self, content: Callable[[Node], bytes]) -> Iterator[bytes]:
        """The file without its checksum."""
        blocks = (self.size // BLOCK, self._data_blocks)
        buffer = bytearray(erofs.SUPERBLOCK_AT)
        buffer += erofs.superblock(self._root.nid, len(self._nodes), self._moment, blocks, self._uuid)
        start, block = 0, self._inode_blocks
        for node in self._nodes:
            shape = self._shape(node)
            buffer += bytes(node.nid * SLOT - start - len(buffer))
            buffer += self._inode(node, shape, block, content)
            block += shape.blocks
            if len(buffer) >= _ROOM:
                yield bytes(buffer)
                start, buffer = start + len(buffer), bytearray()
        buffer += bytes(self._inode_blocks * BLOCK - start - len(buffer))
        yield bytes(buffer)
        for node in self._nodes:
            count = self._shape(node).blocks
            if count:
                yield self._body(node)[: count * BLOCK].ljust(count * BLOCK, b"\0")

    def _inode(self, node: Node, shape: _Shape, block: int, content: Callable[[Node], bytes]) -> bytes:
        body: int | bytes = block if shape.blocks else 0
        tail = b""
        if shape.layout == erofs.CHUNK_BASED:
            body = erofs.chunk_format(node.size)
            tail = bytes(shape.tail - erofs.CHUNK_INDEX_BYTES) + erofs.chunk_index(node.block)
        elif stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode):
            body = erofs.device_number(node.device)
        elif shape.tail:
            tail = content(node) if node.is_file else self._body(node)[-shape.tail :]
        record = erofs.inode(node, shape.layout, body, compact=shape.compact)
        whole = record + erofs.write_xattrs(node.xattrs) + tail
        return whole.ljust(shape.total, b"\0")

    def _body(self, node: Node) -> bytes:
        """A folder's or link's content."""
        if node.is_link:
            return node.target
        known = {b".": node, b"..": self._parents[id(node)]}
        return erofs.folder_content((name, known.get(name) or node.entries[name]) for name in _names(node))


def _order(root: Node) -> list[Node]:
    """Every node once, in the order of a walk, the root first: its number must fit 16 bits. Links were counted."""
    seen: set[int] = set()
    nodes = [root]
    for _, node in walk(root):
        if node.is_folder or node.links == 1 or id(node) not in seen:
            nodes.append(node)
            if not node.is_folder and node.links > 1:
                seen.add(id(node))
    return nodes


def _names(folder: Node) -> list[bytes]:
    return sorted([*folder.entries, b".", b".."])


def _fit(position: int, total: int) -> int:
    """Where something of this size begins: within one block if it can be, for what is inline must not cross two."""
    left = BLOCK - position % BLOCK
    return position + left if total > left else position
