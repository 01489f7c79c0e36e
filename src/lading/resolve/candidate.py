"""A package as a lock or a resolution states it, with every file it offers, before one is chosen for a target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lading.errors import ResolveError
from lading.model.lock import LockedFile, LockedPackage, LockedSource
from lading.model.target import Target
from lading.resolve.fit import choose, too_new, why_not


@dataclass(frozen=True)
class Candidate:
    """One package at one version and all files it could come from."""

    name: str
    version: str
    wheels: tuple[LockedFile, ...] = ()
    sdist: LockedFile | None = None
    source: LockedSource | None = None

    def fits(self, target: Target) -> bool:
        """True where a wheel fits, or the package is made from a folder or commit."""
        return self.source is not None or choose(self.wheels, target) is not None


class NoWheelError(ResolveError):
    """A package at the version that was asked for has nothing that runs on the target."""


def settle(candidates: Iterable[Candidate], target: Target) -> tuple[LockedPackage, ...]:
    """One file or source for each package, sorted by name. Raises NoWheelError, naming every package without one.

    An sdist is no way out where wheels exist and only want a newer glibc: building numpy by surprise helps nobody. Who wants
    that says so with --no-binary, and then no wheel is listed.
    """
    settled, without = [], []
    for candidate in candidates:
        package = _settle_one(candidate, target)
        if package:
            settled.append(package)
        else:
            without.append(candidate)
    if without:
        raise _nothing_fits(without, target)
    return tuple(sorted(settled, key=lambda package: package.name))


def _settle_one(candidate: Candidate, target: Target) -> LockedPackage | None:
    if candidate.source:
        return LockedPackage(candidate.name, candidate.version, source=candidate.source)
    wheel = choose(candidate.wheels, target)
    if wheel:
        return LockedPackage(candidate.name, candidate.version, wheel=wheel)
    if candidate.sdist and not any(too_new(file.name, target) for file in candidate.wheels):
        return LockedPackage(candidate.name, candidate.version, sdist=candidate.sdist)
    return None


def _nothing_fits(without: list[Candidate], target: Target) -> NoWheelError:
    named = ", ".join(f"{candidate.name} {candidate.version}" for candidate in without)
    details = []
    for candidate in without:
        for wheel in candidate.wheels:
            details.append(f"{wheel.name}: {why_not(wheel.name, target)}")
        if not candidate.wheels:
            details.append(f"{candidate.name} {candidate.version}: no files at all")
    name = without[0].name
    hint = f"choose another version of {name}, or a runtime that its wheels fit; to build it here: UV_NO_BINARY_PACKAGE={name}"
    return NoWheelError(f"no file of {named} runs on {target}", details=details, hint=hint)
