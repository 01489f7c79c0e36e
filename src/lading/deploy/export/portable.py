"""A project's functions as they are anywhere: account, region and partition are marks that each format writes in its own way.

What is wanted of a function comes from the same `wanted` as a deployment's, so the files say what `lading deploy` would do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lading.deploy.place import Place
from lading.deploy.unit import Package, Subject, Unit, looks_secret
from lading.errors import DeployError
from lading.model.deployment import Reference
from lading.model.project import LayerConfig, Project

ACCOUNT, REGION, PARTITION = "\ue000", "\ue001", "\ue002"
"""Marks, from Unicode's private use: no text of a project has them."""
_MARKS = re.compile(f"([{ACCOUNT}{REGION}{PARTITION}])")


class ExportError(DeployError):
    """Something of the project can't be written down."""


@dataclass(frozen=True)
class Portable:
    """What is exported. `packages` by name of function and layer."""

    project: Project
    units: tuple[Unit, ...]
    packages: Mapping[str, Package] = field(hash=False)

    @property
    def layers(self) -> tuple[LayerConfig, ...]:
        return self.project.layers


@dataclass(frozen=True)
class Exported:
    """`files` by name, as text; `notes` are sentences on what a format can't say, or what is left to do."""

    files: Mapping[str, str] = field(hash=False)
    notes: tuple[str, ...] = ()


def make_portable(project: Project, packages: Mapping[str, Package]) -> Portable:
    """Raises ExportError for text that can't be told from a mark."""
    place = Place(ACCOUNT, REGION, PARTITION, project.deployment)
    units = []
    for config in project.functions:
        if any(_MARKS.search(value) for value in (*config.environment.values(), config.description)):
            raise ExportError(
                f"{config.name}: its description or environment has characters U+E000 to U+E002",
                hint="they stand for account and region in exported files: take others",
            )
        units.append(Unit(Subject(config.name, place.name(config.name), place), config, packages[config.name]))
    return Portable(project, tuple(units), packages)


def pieces(text: str) -> Iterator[tuple[bool, str]]:
    """(is a mark, text) in order, nothing empty."""
    for piece in _MARKS.split(text):
        if piece:
            yield bool(_MARKS.fullmatch(piece)), piece


def has_marks(text: str) -> bool:
    return _MARKS.search(text) is not None


@dataclass(frozen=True)
class Variables:
    """A function's environment by where the values come from."""

    plain: Mapping[str, str] = field(hash=False)
    secret: tuple[str, ...]
    """Names under which the project has values that must not stand in a file."""
    kept: Mapping[str, Reference] = field(hash=False)
    """Values that AWS keeps."""


def variables_of(unit: Unit) -> Variables:
    environment = unit.config.environment
    plain = {name: value for name, value in environment.items() if not looks_secret(name)}
    secret = tuple(sorted(name for name in environment if looks_secret(name)))
    return Variables(plain, secret, {one.variable: one for one in unit.wish.references})


def identifier(*names: str) -> str:
    """Letters and digits, each word with a capital: `nightly-report` → `NightlyReport`."""
    words = [word for name in names for word in re.split(r"[^A-Za-z0-9]+", name) if word]
    return "".join(word[0].upper() + word[1:] for word in words)


def snake(*names: str) -> str:
    """Lower case with underscores, not beginning with a digit."""
    text = re.sub(r"[^A-Za-z0-9]+", "_", "_".join(names)).strip("_").lower()
    return f"_{text}" if text[:1].isdigit() else text


class Names:
    """Names that are the same in two units get a number."""

    def __init__(self, form: Callable[..., str]) -> None:
        self._form = form
        self._taken: dict[str, tuple[str, ...]] = {}

    def __call__(self, *names: str) -> str:
        """The same for the same names."""
        base = self._form(*names)
        candidate, number = base, 1
        while self._taken.setdefault(candidate, names) != names:
            number += 1
            candidate = f"{base}{number}"
        return candidate


def differing(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """What isn't empty and isn't what AWS takes anyway."""
    return {key: value for key, value in values.items() if value not in (None, "", [], {}) and value != usual.get(key)}
