"""Which packages of a lock go into an artifact, and which stay out because the runtime or a layer brings them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lading.build.plan import Unit
from lading.errors import BuildError
from lading.model.artifact import LeftOut
from lading.model.lock import Lock, LockedPackage
from lading.model.project import Bundled


class LayerConflictError(BuildError):
    """A function needs another version of a package than its layer holds; Lambda would import only one of them."""


@dataclass(frozen=True)
class Cargo:
    """The packages to pack, sorted by name, and what was left out with its reason."""

    packages: tuple[LockedPackage, ...]
    left_out: tuple[LeftOut, ...] = ()


def divide(unit: Unit, lock: Lock, layers: Mapping[str, Sequence[LockedPackage]]) -> Cargo:
    """Sort a unit's packages. `layers` holds the packages of the project's layers by name; the unit's own are looked at.

    Raises LayerConflictError naming every package whose version differs.
    """
    held = {package.name: (layer, package) for layer in unit.layers for package in layers.get(layer, ())}
    kept: list[LockedPackage] = []
    left_out: list[LeftOut] = []
    conflicts: list[str] = []
    for package in lock.packages:
        if unit.options.bundled is Bundled.DROP and package.name in unit.target.runtime.bundled:
            left_out.append(_leave(package, "bundled with the runtime"))
        elif package.name in held:
            layer, other = held[package.name]
            if _identity(package) != _identity(other):
                conflicts.append(
                    f"{package.name}: {package.version or 'a local one'} here, {other.version or 'a local one'} in {layer!r}"
                )
            left_out.append(_leave(package, f"in layer {layer!r}"))
        else:
            kept.append(package)
    if conflicts:
        raise LayerConflictError(
            f"function {unit.name!r} and its layers need different versions",
            details=conflicts,
            hint="pin the same version in both, or take the package out of the layer",
        )
    return Cargo(tuple(kept), tuple(left_out))


def _leave(package: LockedPackage, reason: str) -> LeftOut:
    file = package.wheel or package.sdist
    return LeftOut(package.name, package.version, reason, (file.size if file else None) or 0)


def _identity(package: LockedPackage) -> object:
    """What must be equal for two entries to be the same package."""
    return package.source or package.version
