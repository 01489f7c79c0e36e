"""Layers applied one on the other, in memory: tar entries in, a tree of nodes out. Nothing is unpacked; entries are hostile.

After the OCI image specification 1.1, "image layer filesystem changeset". Links in an entry's path are followed within the image.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable

from lading.errors import AuditError
from lading.lazy.tree import Node, Xattrs, new_folder
from lading.oci.tar import Entry
from lading.oci.validate import LARGEST_IMAGE

LONGEST_PATH = 4096
LONGEST_NAME = 255
MOST_LINKS = 40
"""As the kernel counts (path_resolution(7))."""
MOST_DEPTH = 1000
LARGEST_OWNER = 0xFFFF_FFFE
WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_MARKS = b".wh..wh."
"""aufs's own bookkeeping (.wh..wh.plnk, .wh..wh.aufs): no content."""
_MOST_SAME = 10_000
_XATTR = "SCHILY.xattr."
NAMESPACES = (b"user.", b"trusted.", b"security.", b"system.posix_acl_access", b"system.posix_acl_default")
"""Attributes that a Linux file system keeps; macOS's and others' are left out."""
_ORDERS = (b"trusted.overlay.", b"user.overlay.")
"""By these an image would give overlayfs orders."""
LARGEST_XATTRS = 32 << 10
"""Bytes of one file's attributes, names included; ext4 takes 4 KiB."""
_TYPES = {
    "file": stat.S_IFREG,
    "link": stat.S_IFLNK,
    "character device": stat.S_IFCHR,
    "block device": stat.S_IFBLK,
    "fifo": stat.S_IFIFO,
}


class ImageRefusedError(AuditError):
    """An image that holds what no image may: paths out of its root, impossible names, links to nothing."""


class Flattener:
    """`begin` a layer, `add` its entries with where their contents begin, and so on; `root` is the image then."""

    def __init__(self) -> None:
        self.root = new_folder()
        self._layer = -1
        self._holes = 0
        """Bytes of sparse files that no layer stores."""
        self._touched: list[Node] = []
        self._purged: dict[int, Node] = {}
        """Folders that hold nothing of lower layers any more: none is searched twice, whatever a layer repeats."""
        self._same: dict[int, int] = {}
        """One object for equal values of many nodes: modes, owners, times."""
        self._last: tuple[bytes, Node] | None = None
        """The folder of the last entry: most entries are their neighbours' neighbours."""

    def begin(self) -> None:
        """The next layer."""
        for folder in self._touched:
            folder.fresh = None
        self._touched = []
        self._purged = {}
        self._last = None
        self._layer += 1

    def add(self, entry: Entry, position: int) -> None:
        """Raises ImageRefusedError."""
        parts = _parts(entry)
        if not parts:
            if entry.kind != "folder":
                raise _refused(entry, "is the image's root, and no folder")
            self._describe(self.root, entry)
            return
        name, way = parts[-1], parts[:-1]
        folder = self._folder(entry, way)
        if name == OPAQUE:
            self._purge(folder)
        elif name.startswith(_MARKS):
            return
        elif name.startswith(WHITEOUT):
            self._remove(entry, folder, name[len(WHITEOUT) :])
        else:
            self._put(entry, folder, name, position)

    def _put(self, entry: Entry, folder: Node, name: bytes, position: int) -> None:
        old = folder.entries.get(name)
        if entry.kind == "folder":
            node = old if old is not None and old.is_folder else new_folder()
            self._describe(node, entry)
        elif entry.kind == "hard link":
            node = self._linked(entry)
        else:
            node = Node(_TYPES[entry.kind], layer=self._layer)
            if entry.kind == "file":
                node.size, node.position, node.pieces = entry.size, position, entry.pieces
                self._holes += entry.size - entry.stored
                if self._holes > LARGEST_IMAGE:
                    raise _refused(entry, f"makes the image larger than {LARGEST_IMAGE:,} bytes")
            elif entry.kind == "link":
                node.target = _raw(entry.link)
                if not 0 < len(node.target) < LONGEST_PATH or b"\0" in node.target:
                    raise _refused(entry, "is a link to no possible path")
                node.size = len(node.target)
            elif entry.kind.endswith("device"):
                node.device = _device(entry)
            self._describe(node, entry)
        folder.entries[name] = node
        self._fresh(folder).add(name)
        if entry.kind != "file":
            self._last = None

    def _describe(self, node: Node, entry: Entry) -> None:
        if max(entry.uid, entry.gid) > LARGEST_OWNER:
            raise _refused(entry, f"belongs to {entry.uid}:{entry.gid}, which is no possible owner")
        permissions = 0o777 if entry.kind == "link" else entry.mode & 0o7777
        if len(self._same) > _MOST_SAME:
            self._same.clear()
        same = self._same.setdefault
        mode = stat.S_IFMT(node.mode) | permissions
        node.mode = same(mode, mode)
        node.uid, node.gid = same(entry.uid, entry.uid), same(entry.gid, entry.gid)
        node.mtime = same(entry.moment, entry.moment)
        node.xattrs = _xattrs(entry)

    def _linked(self, entry: Entry) -> Node:
        link = _raw(entry.link)
        parts = [part for part in link.split(b"/") if part not in (b"", b".")]
        node: Node | None = None
        if parts and b".." not in parts:
            folder = self._find(entry, parts[:-1])
            node = folder.entries.get(parts[-1]) if folder is not None else None
        if node is None or node.is_folder:
            raise _refused(entry, f"is a hard link to {entry.link[:200]!r}, which is no file of the image")
        return node

    def _folder(self, entry: Entry, way: list[bytes]) -> Node:
        """Where an entry's name goes; made where it is missing."""
        key = b"/".join(way)
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        found = self._follow(entry, way, make=True)
        assert found is not None
        self._last = (key, found)
        return found

    def _find(self, entry: Entry, way: list[bytes]) -> Node | None:
        return self._follow(entry, way, make=False)

    def _follow(self, entry: Entry, way: list[bytes], *, make: bool) -> Node | None:
        """The folder at the end of a path, links followed as seen from the image's root."""
        todo, trail, links = way[::-1], [self.root], 0
        while todo:
            part = todo.pop()
            if part == b"..":
                if len(trail) > 1:
                    trail.pop()
                continue
            folder = trail[-1]
            node = folder.entries.get(part)
            if node is not None and node.is_link:
                links += 1
                if links > MOST_LINKS:
                    raise _refused(entry, "lies below links in a circle")
                if node.target.startswith(b"/"):
                    trail = [self.root]
                todo += [piece for piece in node.target.split(b"/") if piece not in (b"", b".")][::-1]
                continue
            if node is None or not node.is_folder:
                if not make:
                    return None
                if node is not None and part in self._fresh(folder):
                    raise _refused(entry, "lies below what is no folder")
                node = new_folder()
                folder.entries[part] = node
                self._fresh(folder).add(part)
            if len(trail) > MOST_DEPTH:
                raise _refused(entry, f"leads more than {MOST_DEPTH} folders deep")
            trail.append(node)
        return trail[-1]

    def _fresh(self, folder: Node) -> set[bytes]:
        if folder.fresh is None:
            folder.fresh = set()
            self._touched.append(folder)
        return folder.fresh

    def _remove(self, entry: Entry, folder: Node, name: bytes) -> None:
        """A whiteout: of what lower layers have, never of what this layer brings, wherever in it the whiteout stands."""
        if name in (b"", b".", b".."):
            raise _refused(entry, "removes no possible name")
        node = folder.entries.get(name)
        if node is None:
            return
        self._last = None
        if name not in self._fresh(folder):
            if node.is_folder and self._has_fresh(node):
                self._purge(node)
            else:
                del folder.entries[name]
        elif node.is_folder:
            self._purge(node)

    def _purge(self, top: Node) -> None:
        """Remove all that lower layers have in a folder."""
        self._last = None
        stack = [top]
        while stack:
            folder = stack.pop()
            if id(folder) in self._purged:
                continue
            self._purged[id(folder)] = folder
            kept = folder.fresh or set()
            for name, node in list(folder.entries.items()):
                if node.is_folder and (name in kept or self._has_fresh(node)):
                    stack.append(node)
                elif name not in kept:
                    del folder.entries[name]

    def _has_fresh(self, top: Node) -> bool:
        stack = [top]
        while stack:
            folder = stack.pop()
            if folder.fresh and any(name in folder.entries for name in folder.fresh):
                return True
            stack += [node for node in folder.entries.values() if node.is_folder]
        return False


def _raw(text: str) -> bytes:
    """As it stands in the tar, whatever this process's locale is."""
    return text.encode("utf-8", "surrogateescape")


def _parts(entry: Entry) -> list[bytes]:
    path = _raw(entry.name)
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise _refused(entry, "leads out of the image")
    if b"\0" in path or len(path) > LONGEST_PATH or any(len(part) > LONGEST_NAME for part in parts):
        raise _refused(entry, "is no possible path")
    return parts


def _device(entry: Entry) -> tuple[int, int]:
    major, minor = entry.device
    if major >= 1 << 12 or minor >= 1 << 20:
        raise _refused(entry, f"is the device {major}:{minor}, which can't be")
    return major, minor


def _xattrs(entry: Entry) -> Xattrs:
    found: dict[bytes, bytes] = {}
    for key, value in entry.pax.items():
        if not key.startswith(_XATTR):
            continue
        name = _raw(key[len(_XATTR) :])
        if not name.startswith(NAMESPACES) or name.startswith(_ORDERS) or b"\0" in name:
            continue
        found[name] = _raw(value)
    if sum(len(name) + len(value) for name, value in found.items()) > LARGEST_XATTRS or any(
        len(name) > LONGEST_NAME for name in found
    ):
        raise _refused(entry, "has extended attributes that no file system takes")
    return tuple(sorted(found.items()))


def _refused(entry: Entry, why: str) -> ImageRefusedError:
    return ImageRefusedError(
        f"the image can't be converted: {entry.name[:200]!r} {why}", hint="build the layer anew from a clean folder"
    )


def flatten(layers: Iterable[Iterable[tuple[Entry, int]]]) -> Node:
    """The tree that layers make, the lowest first; each gives its entries and where their contents begin."""
    flattener = Flattener()
    for layer in layers:
        flattener.begin()
        for entry, position in layer:
            flattener.add(entry, position)
    flattener.begin()  # forgets what was noted of the last one
    return flattener.root
