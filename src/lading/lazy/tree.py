"""A flattened image's files, in memory: what each is and where its content lies, never the content. No I/O."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

Xattrs = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True, eq=False)
class Node:
    """An inode. `mode` has the type's bits as in stat(2), `mtime` is in ns.

    A file's content is `size` bytes at `position` of the tar of layer number `layer`; `block` is where the data device
    will have it. `pieces`: where in a sparse file the bytes at `position` belong. `target` is a link's. Several names may
    hold one node.
    """

    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    layer: int = 0
    position: int = 0
    block: int = -1
    links: int = 0
    nid: int = -1
    device: tuple[int, int] = (0, 0)
    target: bytes = b""
    xattrs: Xattrs = ()
    pieces: tuple[tuple[int, int], ...] | None = None
    children: dict[bytes, Node] | None = None
    fresh: set[bytes] | None = field(default=None, repr=False)
    """While a layer is applied: the names in this folder that are of that layer."""

    @property
    def is_folder(self) -> bool:
        return self.children is not None

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def entries(self) -> dict[bytes, Node]:
        """A folder's names."""
        assert self.children is not None
        return self.children


def new_folder(mode: int = 0o755) -> Node:
    """An empty folder of root's."""
    return Node(stat.S_IFDIR | mode, children={})


def walk(root: Node) -> Iterator[tuple[bytes, Node]]:
    """Every name below the root with its path, sorted within each folder: a folder's own names first, then what is in them."""
    stack: list[tuple[bytes, Node]] = [(b"", root)]
    while stack:
        path, folder = stack.pop()
        prefix = path + b"/" if path else b""
        inner: list[tuple[bytes, Node]] = []
        for name in sorted(folder.entries):
            node = folder.entries[name]
            yield prefix + name, node
            if node.is_folder:
                inner.append((prefix + name, node))
        stack.extend(reversed(inner))


def walk_by_path(root: Node) -> Iterator[tuple[bytes, Node]]:
    """Every name below the root that is no folder, in the order of whole paths as bytes."""
    stack: list[Iterator[tuple[bytes, Node]]] = [_by_path(b"", root)]
    while stack:
        for path, node in stack[-1]:
            if node.is_folder:
                stack.append(_by_path(path, node))
                break
            yield path, node
        else:
            stack.pop()


def _by_path(path: bytes, folder: Node) -> Iterator[tuple[bytes, Node]]:
    """A folder's names as they come when a slash follows those of folders: "a-b" is before "a/b"."""
    prefix = path + b"/" if path else b""
    entries = folder.entries
    for name in sorted(entries, key=lambda name: name + b"/" if entries[name].is_folder else name):
        yield prefix + name, entries[name]


def count_links(root: Node) -> None:
    """Set `links` of every node: names of a file; 2 and its folders for a folder."""
    root.links = 2
    for folder in _folders(root):
        for node in folder.entries.values():
            node.links = 2 if node.is_folder else 0
    for folder in _folders(root):
        for node in folder.entries.values():
            if node.is_folder:
                folder.links += 1
            else:
                node.links += 1


def _folders(root: Node) -> Iterator[Node]:
    stack = [root]
    while stack:
        folder = stack.pop()
        yield folder
        stack += [node for node in folder.entries.values() if node.is_folder]
