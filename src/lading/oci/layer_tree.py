"""One layer's entries as files of a folder that an overlay merges over those below. Writes below that folder only.

What the layer doesn't say of a folder it writes in (mode, owner, times) is as below: in an overlay the upper one's counts.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from lading.oci.descriptor import ImageFormatError
from lading.oci.tar import Entry
from lading.oci.validate import EntryCheck
from lading.sandbox.merged import Merged, is_whiteout

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_OTHER_MARKS = ".wh..wh."
"""aufs's own bookkeeping (.wh..wh.plnk, .wh..wh.aufs): no content."""
_XATTR = "SCHILY.xattr."
_NOT_KEPT = ("trusted.overlay.", "user.overlay.", "security.selinux", "system.")
"""Attributes that would speak to the overlay itself, or that are this machine's."""
MOST_FOLDERS = 256
"""How deep a path may go: far above real images, far below what any tool that walks them bears."""


class ImageRefusedError(ImageFormatError):
    """An image that would write outside its root, holds what no image may, or grows out of bounds."""


class LayerTree:
    """`add` every entry in order, then `finish`."""

    def __init__(self, root: Path, below: Merged) -> None:
        self._root = root
        self._below = below
        self._all = Merged((*below.folders, root))
        self._checks = EntryCheck()
        self._privileged = os.geteuid() == 0
        self._removed: list[str] = []
        self._opaque: list[str] = []
        self._times: dict[str, int] = {}
        """Folders' times in ns, set last: writing into them changes them."""
        self._last = ("", "")
        """A folder as entries name it, and as it is: most entries are their neighbours' neighbours."""
        root.chmod(0o755)
        base = below.find("")
        if base is not None:
            self._copy_facts(base, root)

    def refusal(self, entry: Entry) -> str:
        """Why an entry can't be taken, or nothing."""
        if max(entry.uid, entry.gid) > 0xFFFF_FFFE:
            return f"belongs to {entry.uid}:{entry.gid}, which is no possible owner"
        if entry.name.count("/") > MOST_FOLDERS:
            return f"is more than {MOST_FOLDERS} folders deep"
        name = _last(entry.name)
        if name.startswith(WHITEOUT) and name[len(WHITEOUT) :] in ("", ".", ".."):
            return "removes no possible name"
        return self._checks.problem(entry)

    def add(self, entry: Entry, content: Iterator[bytes]) -> None:
        """For entries that `refusal` lets pass. Raises ImageRefusedError, OSError."""
        name = _last(entry.name)
        folder = self._resolve(_folder_of(entry.name))
        if not name:
            self._finish(self._root, "", entry)  # the root itself
            return
        if name == OPAQUE:
            self._opaque.append(folder)
            return
        if name.startswith(_OTHER_MARKS):
            return
        if name.startswith(WHITEOUT):
            self._removed.append(_join(folder, name[len(WHITEOUT) :]))
            return
        self._make_folder(folder)
        path = _join(folder, name)
        target = self._root / path
        if entry.kind != "file":
            self._last = ("", "")
        if entry.kind == "folder":
            self._add_folder(path, target)
        else:
            self._clear(path)
            if not self._create(entry, content, target):
                return
        self._finish(target, path, entry)

    def finish(self) -> None:
        """Whiteouts hide what is below, never what this layer brings, wherever in the layer they stand."""
        for path in self._removed:
            own = self._lstat(path)
            if own is None and self._below.find(path) is not None:
                self._make_folder(path.rpartition("/")[0])
                self._hide(path)
            elif own is not None and stat.S_ISDIR(own.st_mode):
                self._make_opaque(path)
        for path in self._opaque:
            if self._below.find(path) is not None or self._lstat(path) is not None:
                self._make_folder(path)
                self._make_opaque(path)
        for path, moment in self._times.items():
            own = self._lstat(path)
            if own is not None and stat.S_ISDIR(own.st_mode):
                os.utime(self._root / path, ns=(moment, moment), follow_symlinks=False)

    def _resolve(self, folder: str) -> str:
        if self._last[0] != folder:
            try:
                found = self._all.resolve(folder)
            except OSError as error:
                raise ImageRefusedError(f"{folder[:200]!r}: {error.strerror}", hint="build the layer anew") from None
            if found.count("/") > MOST_FOLDERS:
                raise ImageRefusedError(
                    f"{folder[:200]!r} leads more than {MOST_FOLDERS} folders deep", hint="make it flat"
                )
            self._last = (folder, found)
        return self._last[1]

    def _add_folder(self, path: str, target: Path) -> None:
        own = self._lstat(path)
        if own is not None and not stat.S_ISDIR(own.st_mode):
            target.unlink()
            own = None
        if own is None:
            target.mkdir()

    def _create(self, entry: Entry, content: Iterator[bytes], target: Path) -> bool:
        """False for one whose facts are another's: a hard link."""
        if entry.kind == "file":
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(target, flags, 0o600), "wb") as file:
                for piece in content:
                    file.write(piece)
            return True
        if entry.kind == "link":
            target.symlink_to(entry.link)
            return True
        self._link(entry, target)
        return False

    def _link(self, entry: Entry, target: Path) -> None:
        """To a file of this layer; one of a lower layer is copied, as an overlay would."""
        source = self._all.find(_join(self._all.resolve(_folder_of(entry.link)), _last(entry.link)))
        if source is None or (source.is_dir() and not source.is_symlink()):
            raise ImageRefusedError(
                f"{entry.name[:200]!r} is a hard link to {entry.link[:200]!r}, which is no file of the image",
                hint="build the layer anew from a clean folder",
            )
        if source.is_relative_to(self._root):
            os.link(source, target, follow_symlinks=False)
        elif source.is_symlink():
            target.symlink_to(source.readlink())
            self._copy_facts(source, target)
        else:
            with source.open("rb") as file, target.open("xb") as copy:
                while data := file.read(1 << 20):
                    copy.write(data)
            self._copy_facts(source, target)

    def _clear(self, path: str) -> None:
        """Makes room in this layer: the last entry of a name counts."""
        own = self._lstat(path)
        if own is None:
            return
        if stat.S_ISDIR(own.st_mode):
            shutil.rmtree(self._root / path)
        else:
            (self._root / path).unlink()

    def _make_folder(self, path: str) -> None:
        """The folder in this layer too, and those above it, as they are below."""
        own = self._lstat(path)
        if own is not None and stat.S_ISDIR(own.st_mode):
            return
        self._make_folder(path.rpartition("/")[0])
        if own is not None:
            (self._root / path).unlink()
        target = self._root / path
        target.mkdir()
        target.chmod(0o755)
        source = self._below.find(path)
        if source is not None and source.is_dir() and not source.is_symlink():
            self._times[path] = source.stat().st_mtime_ns
            self._copy_facts(source, target)

    def _make_opaque(self, path: str) -> None:
        for name in self._below.list(path):
            inner = _join(path, name)
            own = self._lstat(inner)
            if own is None:
                self._hide(inner)
            elif stat.S_ISDIR(own.st_mode):
                self._make_opaque(inner)

    def _hide(self, path: str) -> None:
        os.mknod(self._root / path, stat.S_IFCHR, 0)

    def _lstat(self, path: str) -> os.stat_result | None:
        try:
            state = os.lstat(self._root / path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if is_whiteout(state) else state

    def _finish(self, target: Path, path: str, entry: Entry) -> None:
        """Owner first: changing it clears special bits and file capabilities."""
        if self._privileged:
            os.lchown(target, entry.uid, entry.gid)
        for key, value in entry.pax.items():
            if key.startswith(_XATTR) and not key[len(_XATTR) :].startswith(_NOT_KEPT):
                _set_attribute(target, key[len(_XATTR) :], os.fsencode(value))
        if entry.kind != "link":
            open_to_us = 0o700 if entry.kind == "folder" and not self._privileged else 0
            target.chmod(entry.mode & 0o7777 | open_to_us)
        moment = _moment(entry)
        if entry.kind == "folder":
            self._times[path] = moment
        else:
            os.utime(target, ns=(moment, moment), follow_symlinks=False)

    def _copy_facts(self, source: Path, target: Path) -> None:
        state = os.lstat(source)
        if self._privileged:
            os.lchown(target, state.st_uid, state.st_gid)
        if not stat.S_ISLNK(state.st_mode):
            target.chmod(stat.S_IMODE(state.st_mode))
        for name in os.listxattr(source, follow_symlinks=False):
            if not name.startswith(_NOT_KEPT):
                _set_attribute(target, name, os.getxattr(source, name, follow_symlinks=False))
        if not stat.S_ISDIR(state.st_mode):
            os.utime(target, ns=(state.st_mtime_ns, state.st_mtime_ns), follow_symlinks=False)


def _set_attribute(path: Path, name: str, value: bytes) -> None:
    """Skipped where this file system or user can't: no function's start depends on one."""
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise


def _moment(entry: Entry) -> int:
    """ns. Pax times have a fraction."""
    whole, _, fraction = entry.pax.get("mtime", "").partition(".")
    digits = fraction[:9].ljust(9, "0")
    exact = int(digits) if whole and digits.isdigit() and digits.isascii() else 0
    return min(entry.mtime, 1 << 33) * 1_000_000_000 + exact


def _last(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return parts[-1] if parts else ""


def _folder_of(name: str) -> str:
    return "/".join([part for part in name.split("/") if part not in ("", ".")][:-1])


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
