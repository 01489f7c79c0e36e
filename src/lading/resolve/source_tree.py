"""Folders and git commits that packages are built from: their digest, their checkout. Bounded in files, bytes and time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from lading.errors import BuildError, DownloadError
from lading.model.lock import LockedSource
from lading.resolve.redact import redact

MAX_FILES = 50_000
MAX_BYTES = 1 << 30
GIT_TIMEOUT = 600
"""Seconds for one git command."""
_SKIPPED = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".venv",
        "venv",
        "__pycache__",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".tox",
        ".nox",
    }
    | {"node_modules", "build", "dist", ".lading"}
)


class SourceTreeError(BuildError):
    """A local dependency's folder is missing, unreadable or too large to be one package."""


class GitError(DownloadError):
    """A git repository can't be reached or has no such commit."""


def tree_digest(folder: Path) -> str:
    """sha256 (hex) over names, executable bits and contents of a folder's files, less caches and build results."""
    if not folder.is_dir():
        raise SourceTreeError(f"there is no folder {folder}", hint="correct the path of the local dependency")
    total, digest = 0, hashlib.sha256()
    for count, path in enumerate(_files(folder), 1):
        try:
            data = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            executable = os.access(path, os.X_OK)
        except OSError as error:
            raise SourceTreeError(f"can't read {path}: {error}") from error
        total += len(data)
        if count > MAX_FILES or total > MAX_BYTES:
            limit = f"{MAX_FILES} files or {MAX_BYTES >> 20} MiB"
            raise SourceTreeError(
                f"{folder} has more than {limit}: not one package", hint="name the package's own folder"
            )
        name = os.fsencode(path.relative_to(folder))
        digest.update(b"%d %d %d\n%s%s" % (len(name), len(data), executable, name, data))
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """Regular files and links below, sorted, without what a build or a tool left there."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name in _SKIPPED or entry.name.endswith(".egg-info"):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file() or entry.is_symlink():
            yield Path(entry.path)


def check_out(source: LockedSource, folder: Path, *, name: str, offline: bool) -> Path:
    """The commit's files in `folder`. Raises GitError."""
    if offline and not source.git.startswith("file:"):
        hint = "run once without --offline; the built wheel is kept"
        raise GitError(
            f"{name} comes from git and --offline forbids fetching it", details=[redact(source.git)], hint=hint
        )
    if source.git.startswith("-") or not set(source.commit) <= set("0123456789abcdef") or len(source.commit) < 40:
        raise GitError(f"{name}: {redact(source.git)} at {source.commit!r} is no git URL with a full commit id")
    folder.mkdir()
    _git(["init", "--quiet"], folder, name)
    _git(["remote", "add", "origin", source.git], folder, name)
    try:
        _git(["fetch", "--quiet", "--depth", "1", "origin", source.commit], folder, name)
    except GitError:
        _git(["fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"], folder, name)
    _git(["checkout", "--quiet", "--detach", source.commit], folder, name)
    _git(["submodule", "--quiet", "update", "--init", "--recursive"], folder, name)
    return folder


def _git(arguments: list[str], folder: Path, name: str) -> None:
    import subprocess

    try:
        result = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise GitError(f"{name} comes from git, and git is not installed", hint="install git") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"{name}: git {arguments[0]} took longer than {GIT_TIMEOUT} s") from None
    if result.returncode:
        details = redact(result.stderr).splitlines()[-10:]
        hint = "check the URL, the commit and git's own credentials (ssh key, credential helper)"
        raise GitError(f"{name}: git {arguments[0]} failed", details=details, hint=hint)
