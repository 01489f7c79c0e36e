"""A package as a lock without addresses (poetry, pdm, Pipenv) states it: exact version, digests, condition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lading.model.lock import LockedSource
from lading.model.suggest import did_you_mean
from lading.model.target import Target
from lading.resolve.pylock import BadLockError

DEFAULT = "default"


@dataclass(frozen=True)
class Pin:
    """One package. `files` maps lowercase hex sha256 to a file name (empty where the lock gives none)."""

    name: str
    version: str
    files: Mapping[str, str] = field(default_factory=dict)
    marker: str = ""
    groups: frozenset[str] = frozenset()
    """Groups it belongs to, DEFAULT for what is always installed; empty where the lock does not say."""
    source: LockedSource | None = None
    requires_python: str = ""


@dataclass(frozen=True)
class PinnedLock:
    """What a lock without addresses says, and the index URLs it names."""

    pins: tuple[Pin, ...]
    indexes: tuple[str, ...] = ()


def select(pins: Iterable[Pin], target: Target, extras: Iterable[str], groups: Iterable[str]) -> dict[str, Pin]:
    """Name → the pin that applies on the target. Raises BadLockError where two versions of one package do."""
    chosen: dict[str, Pin] = {}
    wanted = {DEFAULT, *groups}
    for pin in pins:
        if (pin.groups and not pin.groups & wanted) or not applies(pin.marker, target, extras, groups):
            continue
        if pin.requires_python and not python_matches(pin.requires_python, target):
            continue
        if pin.version == "*":
            raise BadLockError(
                f"the lock has no version of {pin.name}, which {target} needs", hint="lock again on Linux"
            )
        other = chosen.setdefault(pin.name, pin)
        if other.version != pin.version:
            versions = f"{other.version} and {pin.version}"
            raise BadLockError(
                f"the lock has {pin.name} {versions} for {target}, and nothing says which", hint="lock again"
            )
    return chosen


def check_groups(pins: Iterable[Pin], groups: Iterable[str], path: Path) -> None:
    """Raises BadLockError for a group that no package of the lock is in, where the lock says groups at all."""
    known = {name for pin in pins for name in pin.groups}
    for group in groups:
        if known and group not in known:
            raise BadLockError(f"{path} has no group {group!r}", hint=did_you_mean(group, sorted(known)))


def applies(marker: str, target: Target, extras: Iterable[str], groups: Iterable[str]) -> bool:
    """Whether a PEP 508 (or PEP 751) marker holds on the target with these extras and groups chosen."""
    if not marker:
        return True
    from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName

    base: dict[str, Any] = dict(target.marker_environment)
    try:
        parsed = Marker(marker)
        if "extras" in marker or "dependency_groups" in marker:
            environment = {**base, "extras": frozenset(extras), "dependency_groups": frozenset(groups)}
            return parsed.evaluate(environment, context="lock_file")
        return any(parsed.evaluate({**base, "extra": extra}) for extra in ("", *extras))
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName) as error:
        raise BadLockError(f"the lock has a marker that can't be evaluated: {marker!r}: {error}") from error


def python_matches(specifier: str, target: Target) -> bool:
    """Whether the target's Python is in a PEP 440 range; an empty range holds all."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return SpecifierSet(specifier).contains(target.marker_environment["python_full_version"], prereleases=True)
    except InvalidSpecifier:
        raise BadLockError(f"the lock has an invalid Python range: {specifier!r}") from None
