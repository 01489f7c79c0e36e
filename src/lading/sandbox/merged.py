"""Folders merged as an overlay mounts them, a later one winning, read without a mount. Follows links inside only.

A character device 0:0 hides what lies below it, as overlayfs has it. Changes nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

MOST_LINKS = 40
"""As the kernel counts (path_resolution(7))."""


def resolve_links(path: str, link: Callable[[str], str | None]) -> str:
    """The path without links, as seen from the root; it need not exist.

    link: what the link at a path says; None where none is. Raises OSError (ELOOP) for links in a circle.
    """
    todo = [part for part in path.split("/") if part not in ("", ".")][::-1]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done[:-1]
            continue
        target = link("/".join([*done, part]))
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            done = []
        todo += [part for part in target.split("/") if part not in ("", ".")][::-1]
    return "/".join(done)


class Merged:
    """What an environment would see of folders, the lowest first. Paths are like "usr/bin/env": without a leading slash."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)

    def find(self, path: str) -> Path | None:
        """Where the entry itself lies (a link is not followed); None where there is none. `path` leads through no link."""
        parts = path.split("/") if path else []
        for folder in reversed(self.folders):
            at = str(folder)
            for number, part in enumerate(parts):
                at = f"{at}/{part}"
                try:
                    state = os.lstat(at)
                except FileNotFoundError:
                    break
                if is_whiteout(state):
                    return None
                if number < len(parts) - 1 and not stat.S_ISDIR(state.st_mode):
                    return None
            else:
                return Path(at)
        return None

    def resolve(self, path: str) -> str:
        """The path without links, as seen from the root; it need not exist. Raises OSError (ELOOP) for links in a circle."""
        return resolve_links(path, self._link)

    def _link(self, path: str) -> str | None:
        found = self.find(path)
        return str(found.readlink()) if found is not None and found.is_symlink() else None

    def follow(self, path: str) -> Path | None:
        """What a path leads to, links followed; None where it leads nowhere."""
        try:
            return self.find(self.resolve(path))
        except OSError:
            return None

    def list(self, path: str) -> list[str]:
        """Names in a folder that leads through no link; none where it is no folder."""
        hidden: set[str] = set()
        names: set[str] = set()
        for number in range(len(self.folders), 0, -1):
            found = Merged(self.folders[:number]).find(path)
            if found is None or not found.is_dir() or found.is_symlink():
                break
            own = self.folders[number - 1] / path
            if found != own:
                continue
            with os.scandir(own) as entries:
                for entry in entries:
                    if entry.name in hidden:
                        continue
                    hidden.add(entry.name)
                    if not is_whiteout(entry.stat(follow_symlinks=False)):
                        names.add(entry.name)
        return sorted(names)


def is_whiteout(state: os.stat_result) -> bool:
    return stat.S_ISCHR(state.st_mode) and state.st_rdev == 0
