"""A resolution as values: what a pylock.toml (PEP 751) for one target says, and the wheels it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class LockedFile:
    """One downloadable file. `url` is https:, http: or file:; `sha256` is lowercase hex, never empty; size in bytes or None."""

    name: str
    url: str
    sha256: str
    size: int | None = None


@dataclass(frozen=True)
class LockedSource:
    """A package that is built from a folder or a git commit instead of a published file.

    `directory` (absolute; `subdirectory` below it), or `git` with a full commit id.
    """

    directory: Path | None = None
    git: str = ""
    commit: str = ""
    subdirectory: str = ""
    editable: bool = False


@dataclass(frozen=True)
class LockedPackage:
    """One package at one version: exactly one of wheel, sdist and source is what will be used on the target."""

    name: str
    """Normalized (PEP 503)."""
    version: str
    """Empty for a source whose version only its build knows."""
    wheel: LockedFile | None = None
    sdist: LockedFile | None = None
    source: LockedSource | None = None


@dataclass(frozen=True)
class Lock:
    """The packages for one target, sorted by name, and the names that the user asked for directly."""

    target_key: str
    packages: tuple[LockedPackage, ...]
    direct: tuple[str, ...] = ()
    """Normalized names of the direct requirements."""
    path: Path | None = None
    """The file it is kept in, or the user's own lock that it was read from."""
    indexes: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """Index URLs (or `name=URL`) as the user gave them, for credentials only; never written nor shown."""


@dataclass(frozen=True)
class Wheel:
    """A verified wheel on disk, fit for the target it was fetched for."""

    name: str
    """Normalized (PEP 503)."""
    version: str
    filename: str
    sha256: str
    size: int
    path: Path
    built: bool = False
    """True when made here from an sdist, folder or git commit."""
