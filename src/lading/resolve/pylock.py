"""Reads and writes pylock.toml (PEP 751) as text: bytes in, values out. No network, no uv."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lading.errors import ResolveError
from lading.model.lock import Lock, LockedFile, LockedPackage, LockedSource
from lading.model.target import Target
from lading.resolve.candidate import Candidate
from lading.resolve.redact import strip_credentials

FORMAT = 1
"""Version of what lading keeps under [tool.lading]; another one makes a kept lock read as absent."""
MAX_BYTES = 64 << 20
MAX_PACKAGES = 10_000


class BadLockError(ResolveError):
    """A lock file is not what its format asks for."""


@dataclass(frozen=True)
class Entry:
    """A package of a pylock.toml and the condition under which it applies (a PEP 508 marker, or empty)."""

    candidate: Candidate
    marker: str = ""


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML lock, size checked. Raises BadLockError naming the file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadLockError(f"{path} is larger than {MAX_BYTES >> 20} MiB", hint="this is no lock file")
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadLockError(f"can't read {path}: {error}", hint="restore the file or make the lock again") from error


def parse(document: Mapping[str, Any], path: Path) -> tuple[Entry, ...]:
    """The packages of a PEP 751 document that lies (or would lie) at `path`. Raises BadLockError."""
    if not str(document.get("lock-version", "")).startswith("1."):
        found = document.get("lock-version", "none")
        raise BadLockError(f"{path}: lock-version {found} is not 1.x", hint="PEP 751 knows version 1.0")
    packages = document.get("packages", [])
    if not isinstance(packages, list) or len(packages) > MAX_PACKAGES:
        raise BadLockError(f"{path}: `packages` is not an array of at most {MAX_PACKAGES} tables")
    try:
        return tuple(_entry(package, path.parent) for package in packages)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadLockError(f"{path}: a package is not as PEP 751 asks: {error!r}") from error


def _entry(package: Mapping[str, Any], base: Path) -> Entry:
    from packaging.utils import canonicalize_name

    name, version = canonicalize_name(package["name"]), str(package.get("version", ""))
    wheels = [_file(wheel, base, name) for wheel in package.get("wheels", ())]
    sdist = _file(package["sdist"], base, name) if "sdist" in package else None
    if archive := package.get("archive"):
        file = _file(archive, base, name)
        if file.name.endswith(".whl"):
            wheels.append(file)
        else:
            sdist = file
    candidate = Candidate(name, version, tuple(wheels), sdist, _source(package, base))
    return Entry(candidate, str(package.get("marker", "")))


def _file(table: Mapping[str, Any], base: Path, package: str) -> LockedFile:
    url = str(table.get("url", ""))
    if not url:
        url = Path(os.path.abspath(base / table["path"])).as_uri()  # noqa: PTH100
    name = str(table.get("name") or unquote(urlsplit(url).path.rsplit("/", 1)[-1]))
    if "/" in name or name in ("", ".", ".."):
        raise BadLockError(f"{package}: {name!r} is no file name")
    sha256 = str(table.get("hashes", {}).get("sha256", "")).lower()
    size = table.get("size")
    return LockedFile(name, url, _checked_digest(sha256, name), int(size) if size is not None else None)


def _checked_digest(sha256: str, name: str) -> str:
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        hint = "lading verifies every file: lock again with a tool and an index that give sha256 digests"
        raise BadLockError(f"{name}: no sha256 digest in the lock", hint=hint)
    return sha256


def _source(package: Mapping[str, Any], base: Path) -> LockedSource | None:
    if directory := package.get("directory"):
        return LockedSource(
            directory=Path(os.path.abspath(base / directory["path"])),  # noqa: PTH100
            subdirectory=str(directory.get("subdirectory", "")),
            editable=bool(directory.get("editable", False)),
        )
    if vcs := package.get("vcs"):
        if vcs["type"] != "git":
            raise BadLockError(f"{package['name']}: {vcs['type']} repositories are not supported, only git")
        url = str(vcs.get("url") or Path(os.path.abspath(base / vcs["path"])).as_uri())  # noqa: PTH100
        return LockedSource(git=url, commit=str(vcs["commit-id"]), subdirectory=str(vcs.get("subdirectory", "")))
    return None


def render(packages: Iterable[LockedPackage], target: Target, path: Path, note: Mapping[str, Any]) -> str:
    """The text of a kept lock at `path`: stable, relative paths, no credentials. `note` goes under [tool.lading]."""
    machine = target.architecture.machine
    lines = [
        f"# Made by lading for {target}; `lading build --upgrade` renews it.",
        'lock-version = "1.0"',
        f"environments = [\"sys_platform == 'linux' and platform_machine == '{machine}'\"]",
        f'requires-python = "=={target.runtime.python_version}.*"',
        'created-by = "lading"',
    ]
    for package in packages:
        lines += ["", "[[packages]]", *_package_lines(package, path.parent)]
    lines += ["", "[tool.lading]", *(f"{key} = {_value(value)}" for key, value in note.items())]
    return "\n".join(lines) + "\n"


def _package_lines(package: LockedPackage, base: Path) -> list[str]:
    lines = [f"name = {_value(package.name)}"]
    if package.version:
        lines.append(f"version = {_value(package.version)}")
    if package.wheel:
        lines.append(f"wheels = [{_file_table(package.wheel, base)}]")
    if package.sdist:
        lines.append(f"sdist = {_file_table(package.sdist, base)}")
    if package.source:
        lines.append(_source_line(package.source, base))
    return lines


def _file_table(file: LockedFile, base: Path) -> str:
    where = (
        {"path": _relative(file.url, base)} if file.url.startswith("file:") else {"url": strip_credentials(file.url)}
    )
    size = {} if file.size is None else {"size": file.size}
    return _value({"name": file.name, **where, **size, "hashes": {"sha256": file.sha256}})


def _source_line(source: LockedSource, base: Path) -> str:
    below = {"subdirectory": source.subdirectory} if source.subdirectory else {}
    if source.directory:
        editable = {"editable": True} if source.editable else {}
        place = os.path.relpath(source.directory, base)
        return f"directory = {_value({'path': place, **editable, **below})}"
    where = (
        {"path": _relative(source.git, base)}
        if source.git.startswith("file:")
        else {"url": strip_credentials(source.git)}
    )
    return f"vcs = {_value({'type': 'git', **where, 'commit-id': source.commit, **below})}"


def _relative(url: str, base: Path) -> str:
    return os.path.relpath(unquote(urlsplit(url).path), base)


def _value(value: object) -> str:
    """A TOML value on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def to_lock(document: Mapping[str, Any], path: Path, target: Target) -> Lock:
    """A lock that lading itself kept, as the value it was made from."""
    packages = tuple(_locked(entry.candidate, path) for entry in parse(document, path))
    note = document["tool"]["lading"]
    return Lock(target.key, packages, tuple(note.get("direct", ())), path)


def _locked(candidate: Candidate, path: Path) -> LockedPackage:
    wheel = candidate.wheels[0] if candidate.wheels else None
    if not (wheel or candidate.sdist or candidate.source):
        raise BadLockError(f"{path}: {candidate.name} has no file", hint="make it again with --upgrade")
    return LockedPackage(candidate.name, candidate.version, wheel, candidate.sdist, candidate.source)
