"""Which packages of an older poetry.lock (one without groups) the project needs: a walk from pyproject.toml."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lading.model.project import Requirements
from lading.resolve.pylock import read_toml

Step = tuple[str, frozenset[str]]
"""A package's normalized name and the extras that are asked of it."""


def closure(path: Path, packages: Sequence[Mapping[str, Any]], requirements: Requirements) -> list[dict[str, Any]]:
    """The locked packages reached from the main dependencies, the chosen extras and groups.

    Markers on the way are not judged: a package too many is harmless, one too few is not.
    """
    known: dict[str, list[Mapping[str, Any]]] = {}
    for package in packages:
        known.setdefault(_name(package["name"]), []).append(package)
    document = read_toml(path.with_name("pyproject.toml"))
    waiting, seen = list(_roots(document, requirements)), set[Step]()
    while waiting:
        step = waiting.pop()
        if step in seen:
            continue
        seen.add(step)
        for package in known.get(step[0], ()):
            waiting += _needs(package, step[1])
    names = {name for name, _ in seen}
    return [dict(package) for name in sorted(names) for package in known.get(name, ())]


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def _roots(document: Mapping[str, Any], requirements: Requirements) -> Iterator[Step]:
    poetry = document.get("tool", {}).get("poetry", {})
    chosen = {_name(name) for extra in requirements.extras for name in poetry.get("extras", {}).get(extra, ())}
    yield from _table(poetry.get("dependencies", {}), chosen)
    for group in requirements.groups:
        yield from _table(poetry.get("group", {}).get(group, {}).get("dependencies", {}), chosen)
    project = document.get("project", {})
    stated = list(project.get("dependencies", ()))
    for extra in requirements.extras:
        stated += project.get("optional-dependencies", {}).get(extra, ())
    yield from map(_pep508, stated)


def _table(table: Mapping[str, Any], chosen: set[str]) -> Iterator[Step]:
    """Steps of a poetry dependency table; optional ones only when an extra chose them."""
    for name, value in table.items():
        for entry in value if isinstance(value, list) else [value]:
            options = entry if isinstance(entry, Mapping) else {}
            if name != "python" and (not options.get("optional") or _name(name) in chosen):
                yield _name(name), frozenset(options.get("extras", ()))


def _needs(package: Mapping[str, Any], extras: frozenset[str]) -> list[Step]:
    chosen = {_pep508(text)[0] for extra in extras for text in package.get("extras", {}).get(extra, ())}
    return list(_table(package.get("dependencies", {}), chosen))


def _pep508(text: str) -> Step:
    match = re.match(r"\s*([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?", text)
    if not match:
        return "", frozenset()
    return _name(match[1]), frozenset(part.strip() for part in (match[2] or "").split(",") if part.strip())
