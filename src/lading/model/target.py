"""Where an artifact will run: a Lambda runtime on an architecture. Facts come from data/runtimes.toml, never from code."""

from __future__ import annotations

import datetime as dt
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import resources
from typing import TYPE_CHECKING, Any

from lading.errors import ConfigError
from lading.model.suggest import did_you_mean

if TYPE_CHECKING:
    from packaging.tags import Tag


class Architecture(StrEnum):
    """AWS's names of the instruction sets."""

    X86_64 = "x86_64"
    ARM64 = "arm64"

    @property
    def machine(self) -> str:
        """The name in wheel tags and `uname -m`."""
        return "aarch64" if self is Architecture.ARM64 else "x86_64"


@dataclass(frozen=True)
class OperatingSystem:
    """An Amazon Linux release: what native code may expect from it."""

    name: str
    glibc: tuple[int, int]
    symbol_versions: Mapping[str, str] = field(hash=False)
    """Newest version of each symbol family, e.g. {"GLIBC": "2.34", "GLIBCXX": "3.4.29", "CXXABI": "1.3.13"}."""
    libraries: frozenset[str] = field(hash=False)
    """sonames in the zip runtime's library folders."""
    uncertain: frozenset[str] = field(default=frozenset(), hash=False)
    """sonames that AWS's base images have and that nobody has seen in the zip runtime: worth a warning, not an error."""


@dataclass(frozen=True)
class Runtime:
    """A managed Lambda runtime, by AWS's identifier ("python3.13")."""

    name: str
    python: tuple[int, int]
    os: OperatingSystem
    deprecated: dt.date | None
    bundled: Mapping[str, str] = field(hash=False)
    """Normalized name → version of the distributions that the runtime brings itself (boto3 and its family, the client)."""
    search_path: tuple[str, ...]
    """`sys.path` as a function sees it, in order."""

    @property
    def python_version(self) -> str:
        return ".".join(map(str, self.python))


@dataclass(frozen=True)
class Target:
    """A runtime on an architecture: what a wheel, an ELF file and a bytecode file must fit."""

    runtime: Runtime
    architecture: Architecture

    @property
    def key(self) -> str:
        """A name for files and cache keys: "python313-x86_64" (no dot, as PEP 751 asks of lock names)."""
        return f"{self.runtime.name.replace('.', '')}-{self.architecture}"

    def __str__(self) -> str:
        return f"{self.runtime.name} on {self.architecture}"

    @functools.cached_property
    def tags(self) -> tuple[Tag, ...]:
        """Wheel tags that run there, best first. manylinux up to the target's glibc, never musllinux."""
        from packaging.tags import compatible_tags, cpython_tags

        interpreter = "cp{}{}".format(*self.runtime.python)
        platforms = list(_platforms(self.runtime.os.glibc, self.architecture.machine))
        cpython = cpython_tags(self.runtime.python, platforms=platforms)
        generic = compatible_tags(self.runtime.python, interpreter, platforms)
        return tuple(dict.fromkeys([*cpython, *generic]))

    @property
    def marker_environment(self) -> dict[str, str]:
        """PEP 508 environment of the target, for `packaging.markers`."""
        version = self.runtime.python_version
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{version}.0",
            "os_name": "posix",
            "platform_machine": self.architecture.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{version}.0",
            "python_version": version,
            "sys_platform": "linux",
        }


_LEGACY = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}


def _platforms(glibc: tuple[int, int], machine: str) -> list[str]:
    """manylinux platforms for a glibc, newest first, with legacy aliases (PEP 600), then plain linux."""
    major, newest = glibc
    oldest = 17 if machine == "aarch64" else 5
    names: list[str] = []
    for minor in range(newest, oldest - 1, -1):
        names.append(f"manylinux_{major}_{minor}_{machine}")
        legacy = _LEGACY.get((major, minor))
        if legacy:
            names.append(f"{legacy}_{machine}")
    names.append(f"linux_{machine}")
    return names


@functools.cache
def _catalog() -> dict[str, Any]:
    return tomllib.loads(resources.files("lading.model.data").joinpath("runtimes.toml").read_text("utf-8"))


@functools.cache
def runtimes() -> Mapping[str, Runtime]:
    """Every managed Python runtime that lading knows, oldest first."""
    data = _catalog()
    systems = {
        name: OperatingSystem(
            name=name,
            glibc=_pair(entry["glibc"]),
            symbol_versions=entry["symbol-versions"],
            libraries=frozenset(entry["libraries"]),
            uncertain=frozenset(entry.get("uncertain-libraries", ())),
        )
        for name, entry in data["os"].items()
    }
    return {name: _runtime(name, entry, systems) for name, entry in data["runtime"].items()}


def _runtime(name: str, entry: Mapping[str, Any], systems: Mapping[str, OperatingSystem]) -> Runtime:
    return Runtime(
        name=name,
        python=_pair(entry["python"]),
        os=systems[entry["os"]],
        deprecated=entry.get("deprecated"),
        bundled=entry["bundled"],
        search_path=tuple(entry["search-path"]),
    )


def _pair(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def find_target(runtime: str, architecture: str) -> Target:
    """The target of AWS's two names. Raises ConfigError, with the nearest name, for one that lading doesn't know."""
    known = runtimes()
    if runtime not in known:
        raise ConfigError(f"unknown runtime {runtime!r}", hint=did_you_mean(runtime, known))
    try:
        return Target(known[runtime], Architecture(architecture))
    except ValueError:
        choices = [a.value for a in Architecture]
        raise ConfigError(f"unknown architecture {architecture!r}", hint=did_you_mean(architecture, choices)) from None
