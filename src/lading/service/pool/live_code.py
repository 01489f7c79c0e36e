"""A function's code as a folder in which the user's own files are replaced in place: a reload in place of a build.

Dependencies are links to what was unpacked from the artifact, which is never changed: a file is replaced, not written to.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lading.build.folder import SourceFile, find_files
from lading.model.project import Source
from lading.store import Store

Files = dict[str, SourceFile]


class LiveCode:
    """What stands at /var/task. No environment may run in the folder while `update` works."""

    def __init__(self, unpacked: Path, source: Source, folder: Path) -> None:
        """folder: does not exist yet, on the same file system as `unpacked`. Raises SourceTreeError, OSError."""
        self.folder = folder
        self._source = source
        self._files: Files = {}
        _link_tree(unpacked, folder)
        folder.chmod(0o755)
        self.update()

    def update(self) -> list[str]:
        """Bring the own files up to date; the names that were written or removed."""
        files = {file.name: file for file in find_files(self._source)}
        changed = [name for name, file in files.items() if self._files.get(name) != file]
        removed = sorted(self._files.keys() - files.keys())
        for name in (*removed, *changed):
            self._remove(name)
        for name in list(changed):
            try:
                self._place(files[name])
            except FileNotFoundError:  # gone since it was found: the next look sees that
                del files[name]
        self._files = files
        return sorted([*changed, *removed])

    def _remove(self, name: str) -> None:
        """The file, and bytecode that was compiled from another state of it."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        if path.suffix == ".py":
            path.with_suffix(".pyc").unlink(missing_ok=True)
            for compiled in path.parent.glob(f"__pycache__/{PurePosixPath(name).stem}.*.pyc"):
                compiled.unlink()

    def _place(self, file: SourceFile) -> None:
        path = self.folder / file.name
        _make_folders(path.parent, self.folder)
        if stat.S_ISLNK(file.stat[0]):
            path.symlink_to(os.readlink(file.path))  # noqa: PTH115 -- pathlib would tidy it
            return
        shutil.copyfile(file.path, path)
        path.chmod(0o755 if file.stat[0] & 0o100 else 0o644)


@contextlib.contextmanager
def workspace(store: Store) -> Iterator[Path]:
    """A folder for live code beside the store's unpacked archives; gone at the end, or, after a kill, at the next start."""
    root = store.root / "v1" / "live"
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        for left in root.iterdir():
            if not _in_use(left):
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=root))
        lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _in_use(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _link_tree(source: Path, target: Path) -> None:
    """Hard links, in folders of their own."""

    def link(file: str, other: str) -> None:
        try:
            os.link(file, other, follow_symlinks=False)
        except OSError:  # another file system, or one without links
            shutil.copy2(file, other, follow_symlinks=False)

    shutil.copytree(source, target, symlinks=True, copy_function=link)


def _make_folders(path: Path, root: Path) -> None:
    """Everybody may look into them, whatever the umask says."""
    if path == root or path.is_dir():
        return
    _make_folders(path.parent, root)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    path.chmod(0o755)
