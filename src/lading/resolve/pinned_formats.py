"""Readers of poetry.lock, pdm.lock and Pipfile.lock: bytes in, pins out. Nothing is looked up here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lading.model.lock import LockedSource
from lading.model.names import normalize
from lading.model.requirements import RequirementKind, Requirements
from lading.model.target import Target
from lading.resolve.pins import DEFAULT, Pin, PinnedLock
from lading.resolve.poetry_closure import closure
from lading.resolve.pylock import MAX_BYTES, BadLockError, read_toml


def read_pins(requirements: Requirements, path: Path, target: Target) -> PinnedLock:
    """The pins of a poetry, pdm or Pipenv lock. Raises BadLockError naming the file."""
    reader = _READERS[requirements.kind]
    try:
        return reader(path, requirements, target)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadLockError(f"{path} is not as {requirements.kind} should be: {error!r}", hint="lock again") from error


def _files(entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    found = {}
    for entry in entries:
        algorithm, _, digest = str(entry.get("hash", "")).partition(":")
        if algorithm == "sha256":
            found[digest.lower()] = str(entry.get("file") or str(entry.get("url", "")).rsplit("/", 1)[-1])
    return found


def _read_poetry(path: Path, requirements: Requirements, target: Target) -> PinnedLock:
    document = read_toml(path)
    packages = document.get("package", [])
    if packages and not any("groups" in package for package in packages):
        packages = closure(path, packages, requirements, target)
    indexes = [
        str(package["source"]["url"]) for package in packages if package.get("source", {}).get("type") == "legacy"
    ]
    pins = [pin for package in packages for pin in _poetry_pins(package, path)]
    return PinnedLock(tuple(pins), tuple(dict.fromkeys(indexes)))


def _poetry_pins(package: Mapping[str, Any], path: Path) -> Iterator[Pin]:
    """One pin, or one for each group where the marker differs by group (poetry 2)."""
    groups = package.get("groups", [])
    markers = package.get("markers", "")
    split = (
        [([group], markers.get(group, "")) for group in groups] if isinstance(markers, dict) else [(groups, markers)]
    )
    for names, marker in split:
        yield Pin(
            name=normalize(package["name"]),
            version=str(package["version"]),
            files=_files(package.get("files", ())),
            marker=marker,
            groups=frozenset(DEFAULT if name == "main" else name for name in names),
            source=_poetry_source(package.get("source", {}), path),
        )


def _poetry_source(source: Mapping[str, Any], path: Path) -> LockedSource | None:
    kind = source.get("type")
    if kind in (None, "legacy"):
        return None
    if kind == "git":
        below = str(source.get("subdirectory", ""))
        return LockedSource(git=str(source["url"]), commit=str(source["resolved_reference"]), subdirectory=below)
    if kind == "directory":
        return LockedSource(directory=(path.parent / source["url"]).resolve())
    raise _unsupported(path, f"a package from a {kind}")


def _unsupported(path: Path, what: str) -> BadLockError:
    return BadLockError(f"{path}: {what} is not supported", hint="use a git, folder or index dependency, or a uv.lock")


def _read_pdm(path: Path, requirements: Requirements, target: Target) -> PinnedLock:
    document = read_toml(path)
    sources = document.get("metadata", {}).get("sources", ())
    pins = [_pdm_pin(package, path, requirements.extras) for package in document.get("package", [])]
    return PinnedLock(tuple(pins), tuple(str(source["url"]) for source in sources if "url" in source))


def _pdm_pin(package: Mapping[str, Any], path: Path, extras: Iterable[str]) -> Pin:
    """pdm has a group for each extra; one that was chosen is as good as always installed."""
    chosen = {normalize(extra) for extra in extras}
    source = None
    if package.get("git"):
        below = str(package.get("subdirectory", ""))
        source = LockedSource(git=str(package["git"]), commit=str(package["revision"]), subdirectory=below)
    elif package.get("path"):
        source = LockedSource(directory=(path.parent / package["path"]).resolve())
    elif package.get("url"):
        raise _unsupported(path, f"{package['name']} from a URL")
    return Pin(
        name=normalize(package["name"]),
        version=str(package.get("version", "")),
        files=_files(package.get("files", ())),
        marker=str(package.get("marker", "")),
        groups=frozenset(DEFAULT if normalize(name) in chosen else name for name in package.get("groups", [DEFAULT])),
        source=source,
        requires_python=str(package.get("requires_python", "")),
    )


def _read_pipfile(path: Path, requirements: Requirements, target: Target) -> PinnedLock:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadLockError(f"{path} is larger than {MAX_BYTES >> 20} MiB", hint="this is no lock file")
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadLockError(f"can't read {path}: {error}", hint="restore the file or make the lock again") from error
    groups = {group: entries for group, entries in document.items() if group != "_meta"}
    pins = [
        _pipfile_pin(name, entry, group, path) for group, entries in groups.items() for name, entry in entries.items()
    ]
    urls = [str(source["url"]) for source in document.get("_meta", {}).get("sources", ())]
    return PinnedLock(tuple(pins), tuple(urls))


def _pipfile_pin(name: str, entry: Mapping[str, Any], group: str, path: Path) -> Pin:
    source = None
    if "git" in entry:
        below = str(entry.get("subdirectory", ""))
        source = LockedSource(git=str(entry["git"]), commit=str(entry["ref"]), subdirectory=below)
    elif "path" in entry:
        source = LockedSource(directory=(path.parent / entry["path"]).resolve(), editable=bool(entry.get("editable")))
    elif "file" in entry:
        raise _unsupported(path, f"{name} from a file or URL")
    digests = [digest.partition(":")[2] for digest in entry.get("hashes", ()) if digest.startswith("sha256:")]
    return Pin(
        name=normalize(name),
        version=str(entry.get("version", "")).removeprefix("=="),
        files=dict.fromkeys(digests, ""),
        marker=str(entry.get("markers", "")),
        groups=frozenset({DEFAULT if group == "default" else "dev" if group == "develop" else group}),
        source=source,
    )


_READERS: dict[RequirementKind, Callable[[Path, Requirements, Target], PinnedLock]] = {
    RequirementKind.POETRY_LOCK: _read_poetry,
    RequirementKind.PDM_LOCK: _read_pdm,
    RequirementKind.PIPFILE_LOCK: _read_pipfile,
}
