"""Which packages of an older poetry.lock (one without groups) the project needs: a walk from pyproject.toml."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lading.model.names import normalize
from lading.model.requirements import Requirements
from lading.model.target import Target
from lading.resolve.pins import applies, python_matches
from lading.resolve.pylock import read_toml

Step = tuple[str, frozenset[str]]
"""A package's normalized name and the extras that are asked of it."""


def closure(
    path: Path, packages: Sequence[Mapping[str, Any]], requirements: Requirements, target: Target
) -> list[dict[str, Any]]:
    """The locked packages that the main dependencies, the chosen extras and groups lead to where markers hold."""
    known: dict[str, list[Mapping[str, Any]]] = {}
    for package in packages:
        known.setdefault(normalize(package["name"]), []).append(package)
    document = read_toml(path.with_name("pyproject.toml"))
    waiting, seen = list(_roots(document, requirements, target)), set[Step]()
    while waiting:
        step = waiting.pop()
        if step in seen:
            continue
        seen.add(step)
        for package in known.get(step[0], ()):
            waiting += _needs(package, step[1], target)
    names = {name for name, _ in seen}
    return [dict(package) for name in sorted(names) for package in known.get(name, ())]


def _roots(document: Mapping[str, Any], requirements: Requirements, target: Target) -> Iterator[Step]:
    poetry = document.get("tool", {}).get("poetry", {})
    chosen = {normalize(name) for extra in requirements.extras for name in poetry.get("extras", {}).get(extra, ())}
    yield from _table(poetry.get("dependencies", {}), chosen, target)
    for group in requirements.groups:
        yield from _table(poetry.get("group", {}).get(group, {}).get("dependencies", {}), chosen, target)
    project = document.get("project", {})
    stated = list(project.get("dependencies", ()))
    for extra in requirements.extras:
        stated += project.get("optional-dependencies", {}).get(extra, ())
    for text in stated:
        marker = text.partition(";")[2]
        if applies(marker.strip(), target, requirements.extras, ()):
            yield _pep508(text)


def _table(table: Mapping[str, Any], chosen: set[str], target: Target) -> Iterator[Step]:
    """Steps of a poetry dependency table; optional ones only when an extra chose them."""
    for name, value in table.items():
        for entry in value if isinstance(value, list) else [value]:
            options = entry if isinstance(entry, Mapping) else {}
            wanted = not options.get("optional") or normalize(name) in chosen
            if name != "python" and wanted and _holds(options, target):
                yield normalize(name), frozenset(options.get("extras", ()))


def _holds(options: Mapping[str, Any], target: Target) -> bool:
    """Whether a dependency's `markers` and `python` hold. An optional one was chosen by its extra already."""
    marker = str(options.get("markers", ""))
    if "extra ==" not in marker and not applies(marker, target, (), ()):
        return False
    return any(python_matches(_plain(part), target) for part in str(options.get("python", "")).split("||"))


def _plain(constraint: str) -> str:
    """poetry's `^3.9` and `~3.9` in PEP 440's terms."""
    constraint = re.sub(
        r"\^\s*(\d+)((?:\.\d+)*)", lambda match: f">={match[1]}{match[2]},<{int(match[1]) + 1}", constraint
    )
    constraint = re.sub(
        r"~\s*(\d+\.\d+)(\.\d+)?(?!=)", lambda match: f">={match[1]}{match[2] or ''},=={match[1]}.*", constraint
    )
    return "" if constraint.strip() == "*" else constraint.strip()


def _needs(package: Mapping[str, Any], extras: frozenset[str], target: Target) -> list[Step]:
    chosen = {_pep508(text)[0] for extra in extras for text in package.get("extras", {}).get(extra, ())}
    return list(_table(package.get("dependencies", {}), chosen, target))


def _pep508(text: str) -> Step:
    match = re.match(r"\s*([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?", text)
    if not match:
        return "", frozenset()
    return normalize(match[1]), frozenset(part.strip() for part in (match[2] or "").split(",") if part.strip())
