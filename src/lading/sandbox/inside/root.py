"""Carries out the operations that make an environment's root. They come as lists, decided by the owner: see `operations`.

A new root is built in a tmpfs while the host's tree stands under /.host; `enter` leaves only what was built.
"""

# ruff: noqa: PTH101, PTH102, PTH103, PTH110, PTH112, PTH211 -- pathlib is not worth its import in every environment

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from typing import Any

from lading.sandbox.inside import kernel, netlink

_HOST = "/.host"
_BUILD = "/.root"
_DEEPEST = 100
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Builder:
    """The state of one build: where paths are now, and the mount trees that were sent along."""

    def __init__(self, trees: dict[str, int]) -> None:
        self.trees = trees
        self.prefix = ""

    def run(self, operations: list[list[Any]]) -> None:
        """Raises OSError, naming the operation, at the first that fails."""
        for name, *arguments in operations:
            step: Callable[..., None] = getattr(self, "do_" + name)
            try:
                step(*arguments)
            except OSError as error:
                raise OSError(error.errno, f"{name} {arguments}: {error.strerror}") from error

    def do_unshare(self, flags: int) -> None:
        kernel.unshare(flags)

    def do_stage(self) -> None:
        """A scratch root with the host under /.host, and an empty tmpfs to build in."""
        kernel.mount("", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
        kernel.mount("stage", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
        os.mkdir("/tmp" + _HOST)
        os.mkdir("/tmp" + _BUILD)
        kernel.pivot_root("/tmp", "/tmp" + _HOST)
        os.chdir("/")
        kernel.mount("root", _BUILD, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755,size=1m")
        self.prefix = _BUILD

    def do_enter(self) -> None:
        os.chdir(_BUILD)
        kernel.pivot_root(".", ".")
        kernel.umount(".", kernel.MNT_DETACH)
        os.chdir("/")
        self.prefix = ""

    def do_seal(self, path: str) -> None:
        kernel.set_mount_attributes(path, kernel.MOUNT_ATTR_RDONLY, recursive=False)

    def do_directory(self, path: str, mode: int) -> None:
        os.makedirs(self.prefix + path, exist_ok=True)
        os.chmod(self.prefix + path, mode)

    def do_symlink(self, target: str, path: str) -> None:
        os.symlink(target, self.prefix + path)

    def do_file(self, path: str, text: str) -> None:
        self._write(self.prefix + path, text)

    def do_bind(self, source: str, path: str) -> None:
        """The host's file or folder at path: read-only, no set-uid programs."""
        self._attach(kernel.open_tree(_HOST + source), path, kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID)

    def do_device(self, path: str) -> None:
        self._attach(kernel.open_tree(_HOST + path), path, kernel.MOUNT_ATTR_NOSUID)

    def do_overlay(self, path: str, sources: list[str], files: dict[str, str]) -> None:
        """The folders merged, a later one winning, and small files (name → text) above them."""
        os.makedirs(self.prefix + path, exist_ok=True)
        self._merge(path, sources, files)

    def do_root(self, sources: list[str], files: dict[str, str], folders: list[str], tree: str) -> None:
        """The folders merged, or the tree that was sent, are the root. `folders` are what they lack."""
        if tree:
            os.mkdir("/.mounted")
            attributes = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
            self._place(self.trees.pop(tree), "/.mounted", attributes)
            # a copy of a shared mount is shared: nothing that is done here may be seen out there
            kernel.mount("", "/.mounted", "", kernel.MS_PRIVATE)
        self._merge("", sources, files, folders, ["/.mounted"] if tree else [])

    def _merge(
        self,
        path: str,
        sources: list[str],
        files: dict[str, str],
        folders: Sequence[str] = (),
        below: Sequence[str] = (),
    ) -> None:
        """below: folders in here that are merged as well, under all sources."""
        lower: list[str] = []
        for number, source in enumerate(reversed(sources)):  # short names: a mount table shows them inside
            lower.append(f"/.lower{number}")
            os.mkdir(lower[-1])
            kernel.mount(_HOST + source, lower[-1], "", kernel.MS_BIND)
        os.mkdir("/.files")
        for name in dict.fromkeys([*folders, *(name.rpartition("/")[0] for name in files)]):
            os.makedirs("/.files/" + name, exist_ok=True)
            os.chmod("/.files/" + name, 0o755)
        for name, text in files.items():
            self._write("/.files/" + name, text)
        options = "lowerdir=" + ":".join(["/.files", *lower, *below])
        flags = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount("overlay", self.prefix + path, "overlay", flags, options)

    def do_attach(self, tree: str, path: str) -> None:
        descriptor = self.trees.pop(tree)
        kernel.move_mount(descriptor, self.prefix + path)
        os.close(descriptor)

    def do_tmpfs(self, path: str, options: str) -> None:
        kernel.mount("tmpfs", self.prefix + path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)

    def do_proc(self) -> None:
        flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
        kernel.mount("proc", self.prefix + "/proc", "proc", flags)

    def do_mask(self, path: str) -> None:
        """Puts /dev/null over a file of the kernel's."""
        if os.path.exists(self.prefix + path):
            kernel.mount(self.prefix + "/dev/null", self.prefix + path, "", kernel.MS_BIND)

    def do_readonly(self, path: str) -> None:
        """Makes a folder of the kernel's read-only."""
        kernel.mount(self.prefix + path, self.prefix + path, "", kernel.MS_BIND)
        kernel.set_mount_attributes(self.prefix + path, kernel.MOUNT_ATTR_RDONLY)

    def do_hide(self, path: str) -> None:
        """Puts an empty folder over one that stands there."""
        if os.path.isdir(self.prefix + path):
            kernel.mount(self.prefix + "/var/empty", self.prefix + path, "", kernel.MS_BIND)
            # in a user namespace the function owns that folder, and all environments of a zygote would share it
            kernel.set_mount_attributes(self.prefix + path, kernel.MOUNT_ATTR_RDONLY)

    def do_hostname(self, name: str) -> None:
        kernel.set_host_name(name)

    def do_loopback(self, address: str) -> None:
        kernel.raise_loopback(address)

    def do_link(self, tree: str, name: str, address: str, gateway: str) -> None:
        router = self.trees.pop(tree)
        netlink.join_router(router, name, address, gateway)
        os.close(router)

    def do_uplink(self, address: str, gateway: str) -> None:
        netlink.set_up(address, gateway)

    def _write(self, path: str, text: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o644)

    def _attach(self, tree: int, path: str, attributes: int) -> None:
        self._place(tree, self.prefix + path, attributes)

    def _place(self, tree: int, target: str, attributes: int) -> None:
        kernel.set_mount_attributes("", attributes, tree=tree)
        kernel.move_mount(tree, target)
        os.close(tree)


def escape(path: str) -> str:
    """A path as overlayfs reads it in lowerdir."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def copy_tree(source: int, target: int, owner: int, depth: int = 0) -> None:
    """Files, folders, links and pipes of one folder (a descriptor) into another, of another owner; modes and times stay.
    Not sockets.

    The source is hostile: no link is followed, holes stay holes. Raises OSError, for folders nested too deep as well.
    """
    if depth > _DEEPEST:
        raise OSError(40, f"more than {_DEEPEST} folders in each other")
    for entry in os.scandir(source):
        name, status = entry.name, entry.stat(follow_symlinks=False)
        if entry.is_symlink():
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        elif stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            reading, writing = (os.open(name, _FOLDER, dir_fd=end) for end in (source, target))
            try:
                copy_tree(reading, writing, owner, depth + 1)
            finally:
                os.close(reading)
                os.close(writing)
        elif stat.S_ISREG(status.st_mode):
            _copy_file(name, source, target)
        elif stat.S_ISFIFO(status.st_mode):
            os.mkfifo(name, dir_fd=target)
        else:
            continue
        os.chown(name, owner, owner, dir_fd=target, follow_symlinks=False)
        if not entry.is_symlink():
            os.chmod(name, status.st_mode & 0o7777, dir_fd=target)
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def _copy_file(name: str, source: int, target: int) -> None:
    reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=source)
    try:
        writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=target)
        try:
            size = os.fstat(reading).st_size
            os.ftruncate(writing, size)
            at = 0
            while at < size:
                try:
                    at = os.lseek(reading, at, os.SEEK_DATA)
                except OSError:
                    break  # only a hole is left
                end = os.lseek(reading, at, os.SEEK_HOLE)
                os.lseek(writing, at, os.SEEK_SET)
                while at < end:
                    at += os.sendfile(writing, reading, at, end - at) or end  # nothing read: it is shorter than it was
        finally:
            os.close(writing)
    finally:
        os.close(reading)
