"""Why each distribution is in an artifact, and what takes the space: data for `lading explain`. Pure."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lading.audit.distributions import needed_requirement, requirement_name
from lading.audit.package import PackageFacts
from lading.model.target import Target

_DEEPEST = 64


@dataclass(frozen=True)
class Reason:
    """A distribution and the shortest way to it from what was asked for: names from a root to itself."""

    package: PackageFacts
    path: tuple[str, ...]
    optional: bool = False
    """True when a step on the way is an extra, so metadata alone doesn't make it needed."""

    @property
    def is_root(self) -> bool:
        return len(self.path) == 1


@dataclass(frozen=True)
class Branch:
    """A folder or file and the bytes below it, largest first. `compressed` is its share of the zip."""

    name: str
    size: int
    compressed: int
    branches: tuple[Branch, ...] = ()


def explain(packages: Iterable[PackageFacts], target: Target, direct: Iterable[str] = ()) -> tuple[Reason, ...]:
    """A reason for every named distribution, largest first. Roots are `direct`, or those that no other one requires."""
    named = {package.name: package for package in packages if package.name}
    needs = {name: _needs(package, target, named) for name, package in named.items()}
    roots = [name for name in direct if name in named] or _unrequired(needs)
    paths = _shortest(roots, needs)
    # What a circle of requirements holds together has no root of its own: the first of them stands for it.
    for name in sorted(named):
        if name not in paths:
            paths.update({key: path for key, path in _shortest([name], needs).items() if key not in paths})
    reasons = [
        Reason(named[name], path, optional=any(needs[a][b] for a, b in itertools.pairwise(path)))
        for name, path in paths.items()
    ]
    return tuple(sorted(reasons, key=lambda reason: (-reason.package.size, reason.package.name)))


def _needs(package: PackageFacts, target: Target, named: Mapping[str, PackageFacts]) -> dict[str, bool]:
    """Names that a distribution requires and that are there → whether only an extra asks for them."""
    found: dict[str, bool] = {}
    for line in package.requires:
        name = requirement_name(line)
        if name in named and name != package.name:
            optional = needed_requirement(line, target) is None
            found[name] = found.get(name, True) and optional
    return found


def _unrequired(needs: Mapping[str, Mapping[str, bool]]) -> list[str]:
    required = {name for found in needs.values() for name in found}
    return sorted(set(needs) - required)


def _shortest(roots: Iterable[str], needs: Mapping[str, Mapping[str, bool]]) -> dict[str, tuple[str, ...]]:
    """Shortest paths, firm requirements before extras."""
    paths: dict[str, tuple[str, ...]] = {root: (root,) for root in roots}
    for extras in (False, True):
        pending = deque(paths)
        while pending:
            name = pending.popleft()
            for needed in sorted(needs[name]):
                if needed not in paths and (extras or not needs[name][needed]):
                    paths[needed] = (*paths[name], needed)
                    pending.append(needed)
    return paths


def size_tree(packages: Iterable[PackageFacts], depth: int) -> Branch:
    """Folders down to `depth` levels (at least 1, at most 64), with the bytes of everything below each."""
    root: dict[str, _Node] = {}
    total = _Node()
    for package in packages:
        prefix = package.root.split("/") if package.root else []
        for path, (size, compressed) in package.files.items():
            total.add(size, compressed)
            level = root
            for part in [*prefix, *path.split("/")][: min(max(depth, 1), _DEEPEST)]:
                node = level.setdefault(part, _Node())
                node.add(size, compressed)
                level = node.below
    return Branch("", total.size, total.compressed, _branches(root))


class _Node:
    def __init__(self) -> None:
        self.size = self.compressed = 0
        self.below: dict[str, _Node] = {}

    def add(self, size: int, compressed: int) -> None:
        self.size += size
        self.compressed += compressed


def _branches(level: Mapping[str, _Node]) -> tuple[Branch, ...]:
    made = [Branch(name, node.size, node.compressed, _branches(node.below)) for name, node in level.items()]
    return tuple(sorted(made, key=lambda branch: (-branch.size, branch.name)))
