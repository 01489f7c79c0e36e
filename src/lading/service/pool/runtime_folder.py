"""Where a runtime's parts are on this machine: its interpreter, and the client with the bundled SDK, installed once.

The folder is made of verified wheels beside the cache, under a name that says what is in it, and never changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lading.errors import SandboxError
from lading.model.requirements import RequirementKind, Requirements
from lading.model.target import Runtime, Target
from lading.service.pool.custom_runtime import CustomRuntime, find_entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lading.model.progress import Progress
    from lading.store import Store

MAXIMUM_FILES = 20_000
MAXIMUM_BYTES = 500_000_000


class InterpreterMissingError(SandboxError):
    """No CPython of the runtime's version on this machine."""


class ArchiveRefusedError(SandboxError):
    """A zip that would write outside its folder, make links or devices, or grow out of bounds."""


@dataclass(frozen=True)
class RuntimeParts:
    """What a sandbox needs of a runtime: an interpreter and a client, or the command of a custom one."""

    name: str
    interpreter: Path | None = None
    client: Path | None = None
    entry: tuple[str, ...] = ()


def find_parts(
    target: Target | CustomRuntime, trees: tuple[Path, ...], store: Store, progress: Progress
) -> RuntimeParts:
    """`trees`: the function's unpacked code, then its layers'. Raises InterpreterMissingError, DownloadError."""
    if isinstance(target, CustomRuntime):
        return RuntimeParts(target.name, entry=find_entry(trees[0], trees[1:]))
    prefix = find_prefix(target.runtime, store)
    return RuntimeParts(target.runtime.name, prefix, client_folder(target, prefix, store, progress))


def find_prefix(runtime: Runtime, store: Store) -> Path:
    """The folder that holds bin/python3.X of the runtime's version. Raises InterpreterMissingError."""
    from lading.resolve.interpreters import find_interpreter

    found = find_interpreter(runtime.python, store.actions)
    if found is None:
        raise InterpreterMissingError(
            f"{runtime.name} needs a CPython {runtime.python_version}, and there is none on this machine",
            hint=f"uv python install {runtime.python_version}",
        )
    # A virtual environment's python is a link: the library lies beside what it points to.
    return Path(found.path).resolve().parent.parent


def client_folder(target: Target, prefix: Path, store: Store, progress: Progress) -> Path:
    """The folder that becomes /var/runtime: the runtime's client and SDK in the versions of runtimes.toml, compiled."""
    pins = tuple(f"{name}=={version}" for name, version in sorted(target.runtime.bundled.items()))
    return installed(pins, target, prefix, store, progress)


def installed(specifiers: tuple[str, ...], target: Target, prefix: Path, store: Store, progress: Progress) -> Path:
    """A folder with these packages, compiled, made once. Raises ResolveError, DownloadError."""
    recipe = json.dumps([target.key, specifiers])
    name = f"{target.key}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    folder = _unpacked(store) / "runtimes" / name
    if not folder.is_dir():
        with _lock(folder):
            if not folder.is_dir():
                requirements = Requirements(RequirementKind.INLINE, specifiers=specifiers)
                _install(requirements, target, prefix, folder, (store, progress))
    return folder


def unpack_archive(archive: Path, store: Store) -> Path:
    """The content of a function's or layer's zip as a folder, unpacked once per digest. Raises ArchiveRefusedError."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = _unpacked(store) / "archives" / digest
    if not folder.is_dir():
        with _lock(folder):
            if not folder.is_dir():
                with _new_folder(folder) as fresh:
                    unzip(archive, fresh)
    return folder


def unzip(archive: Path, folder: Path) -> None:
    """Files and folders only, all below `folder`, modes kept, within bounds. Raises ArchiveRefusedError."""
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            _check(archive, entries)
            for entry in entries:
                _extract(opened, entry, folder)
    except zipfile.BadZipFile as error:
        raise ArchiveRefusedError(f"{archive} is not a zip: {error}", hint="build the artifact again") from error


def _check(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAXIMUM_FILES:
        raise _refused(archive, f"has {len(entries)} entries, more than {MAXIMUM_FILES}")
    size = sum(entry.file_size for entry in entries)
    if size > MAXIMUM_BYTES:
        raise _refused(archive, f"unpacks to {size} bytes, more than {MAXIMUM_BYTES}")
    for entry in entries:
        parts = entry.filename.split("/")
        if entry.filename.startswith("/") or ".." in parts or "\\" in entry.filename or "\0" in entry.filename:
            raise _refused(archive, f"holds {entry.filename!r}, which leads out of its folder")
        kind = entry.external_attr >> 28
        if kind not in (0, 4, 8):
            raise _refused(archive, f"holds {entry.filename!r}, which is neither file nor folder")


def _extract(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    path = folder / entry.filename
    _make_folders(path if entry.is_dir() else path.parent, folder)
    if entry.is_dir():
        return
    left = entry.file_size
    with opened.open(entry) as source, path.open("wb") as target:
        while data := source.read(1 << 20):
            left -= len(data)
            if left < 0:
                raise ArchiveRefusedError(f"{entry.filename} is longer than it says", hint="build the artifact again")
            target.write(data)
    mode = entry.external_attr >> 16 & 0o777
    path.chmod((mode or 0o644) | 0o444)


def _make_folders(path: Path, root: Path) -> None:
    """As on Lambda everybody may look into them, whatever the umask says."""
    if path == root or path.is_dir():
        return
    _make_folders(path.parent, root)
    path.mkdir()
    path.chmod(0o755)


def _install(
    requirements: Requirements, target: Target, prefix: Path, folder: Path, help_from: tuple[Store, Progress]
) -> None:
    from lading.resolve import LockPlace, Policy, fetch, lock

    store, progress = help_from
    policy = Policy()
    with tempfile.TemporaryDirectory(dir=store.temporary) as scratch:
        place = LockPlace(Path(scratch), "runtime")
        locked = lock(requirements, target, place, policy, progress)
        wheels = fetch(locked, target, store.blobs, store.actions, policy=policy, progress=progress)
        with _new_folder(folder) as fresh:
            for wheel in wheels:
                unzip(wheel.path, fresh)
            _compile(prefix / "bin" / target.runtime.name, fresh)


def _compile(python: Path, folder: Path) -> None:
    """Bytecode ahead of time: /var/runtime is read-only, so that otherwise every start would compile."""
    import subprocess

    options = ["-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-s", str(folder), "-p", "/var/runtime"]
    done = subprocess.run(
        [python, "-I", "-m", "compileall", *options, str(folder)], capture_output=True, check=False, timeout=300
    )
    if done.returncode not in (0, 1):  # 1: a file that isn't of this version, never imported by it
        raise SandboxError(
            f"{python} can't compile the runtime's client", details=done.stderr.decode().splitlines()[:5]
        )


def _unpacked(store: Store) -> Path:
    """Beside the store's blobs: what is here can be made again from them."""
    return store.root / "v1" / "unpacked"


@contextmanager
def _new_folder(final: Path) -> Iterator[Path]:
    """A folder that appears under its name only when it is complete."""
    final.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{final.name[:24]}-", dir=final.parent))
    try:
        yield fresh
        fresh.chmod(0o755)
        fresh.rename(final)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process makes a folder, the others wait for it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.with_name(folder.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _refused(archive: Path, what: str) -> ArchiveRefusedError:
    return ArchiveRefusedError(f"{archive} {what}", hint="build it with: lading build")
