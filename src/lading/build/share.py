"""Dependencies that several functions have in common, as a layer of their own. Pure: a project becomes another project."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lading.model.lock import Lock, LockedPackage
from lading.model.project import FunctionConfig, LayerConfig, LayerReference, Project
from lading.model.quotas import quotas
from lading.model.requirements import RequirementKind, Requirements
from lading.model.target import Target


@dataclass(frozen=True)
class Shared:
    """A project whose functions share layers, and what those layers hold, by name: no further resolution is needed."""

    project: Project
    locks: Mapping[str, Lock] = field(hash=False)

    @property
    def proposal(self) -> str:
        """The `[tool.lading]` lines that make the layers lasting."""
        lines: list[str] = []
        for name in self.locks:
            layer = self.project.layer(name)
            assert layer is not None
            listed = ", ".join(f'"{specifier}"' for specifier in layer.requirements.specifiers)
            users = [
                function.name for function in self.project.functions if LayerReference(name=name) in function.layers
            ]
            lines += [f"[tool.lading.layers.{name}]", f"requirements = [{listed}]", f"# used by {', '.join(users)}", ""]
        return "\n".join(lines).rstrip()


def share_dependencies(project: Project, locks: Mapping[str, Lock]) -> Shared:
    """One layer per target more, of the published packages that two or more of its functions need in the same version;
    those functions use it. `locks` holds each function's lock by name. Nothing is added where nothing is common.
    """
    layers: list[LayerConfig] = []
    made: dict[str, Lock] = {}
    functions = {function.name: function for function in project.functions}
    targets = list(dict.fromkeys(function.target for function in project.functions))
    for target in targets:
        users = [function for function in project.functions if function.target == target and _has_room(function)]
        common = _common([locks[function.name] for function in users])
        if not common:
            continue
        name = _free_name(project, target, alone=len(targets) == 1)
        made[name] = Lock(target.key, common)
        layers.append(_layer(name, users[0], common))
        for function in users:
            if set(common) & set(locks[function.name].packages):
                functions[function.name] = replace(function, layers=(*function.layers, LayerReference(name=name)))
    return Shared(replace(project, functions=tuple(functions.values()), layers=(*project.layers, *layers)), made)


def _layer(name: str, user: FunctionConfig, packages: tuple[LockedPackage, ...]) -> LayerConfig:
    pinned = tuple(f"{package.name}=={package.version}" for package in packages)
    requirements = Requirements(RequirementKind.INLINE, specifiers=pinned)
    return LayerConfig(name, user.target, requirements, options=user.options, description="What several functions need")


def _common(locks: list[Lock]) -> tuple[LockedPackage, ...]:
    """Wheels that at least two locks hold, sorted by name; none of a package that they hold in several versions."""
    counted = Counter(package for lock in locks for package in lock.packages if package.wheel is not None)
    versions = Counter(package.name for package in counted)
    common = [package for package, number in counted.items() if number > 1 and versions[package.name] == 1]
    return tuple(sorted(common, key=lambda package: package.name))


def _has_room(function: FunctionConfig) -> bool:
    return len(function.layers) < quotas().layers


def _free_name(project: Project, target: Target, *, alone: bool) -> str:
    name = "shared" if alone else f"shared-{target.key}"
    taken = {layer.name for layer in project.layers} | {function.name for function in project.functions}
    while name in taken:
        name += "-dependencies"
    return name
