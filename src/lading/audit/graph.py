"""Who provides which module on Lambda, and what a handler's import pulls in. Pure: reads facts, runs nothing.

Only imports that always happen can be missed for certain; guarded and lazy ones are kept apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from lading.audit.package import Import, Module, PackageFacts, extension_module
from lading.audit.stdlib import SUBMODULES_SINCE, stdlib_modules
from lading.model.target import Target

_IMPORT_NAMES = {
    "awslambdaric": ("awslambdaric", "runtime_client"),
    "python-dateutil": ("dateutil",),
}
"""Import names of bundled distributions where they differ from the distribution's own."""

_VERSION_TAGS = ("cpython-", "cp3", "pypy", "abi3", "graalpy", "cpython3")


class Provided(Enum):
    """What is known of a module name."""

    HERE = "in the artifact or a layer"
    ELSEWHERE = "by the standard library, the runtime, or code that makes modules while it runs"
    BROKEN = "by an extension module that this Python can't load"
    MISSING = "by nobody"


class Missing(NamedTuple):
    """A module nobody provides, and who asks for it."""

    module: str
    importer: str
    package: PackageFacts
    line: int


class Index:
    """All modules of an artifact and its layers by dotted name; the first in sys.path's order wins."""

    def __init__(self, target: Target, packages: Iterable[PackageFacts]) -> None:
        self.owners: dict[str, PackageFacts] = {}
        self.native: dict[str, tuple[PackageFacts, str]] = {}
        self.broken: dict[str, tuple[PackageFacts, str]] = {}
        self.parents: set[str] = set()
        self._modules: dict[str, Module | None] = {}
        self.python = target.runtime.python
        self.stdlib = stdlib_modules(self.python)
        self.bundled = frozenset(bundled_modules(target.runtime.bundled))
        self.tags = frozenset(extension_tags(target))
        for package in packages:
            self._add(package)
        self._close_parents()

    def _add(self, package: PackageFacts) -> None:
        for name in package.modules:
            self.owners.setdefault(name, package)
        for path in package.extensions:
            name, tag = extension_module(path)
            if not name or (tag and not tag.startswith(_VERSION_TAGS)):
                continue
            usable = tag in self.tags and path.endswith(".so") and path not in package.foreign
            (self.native if usable else self.broken).setdefault(name, (package, path))

    def _close_parents(self) -> None:
        for names in (self.owners, self.native, self.broken):
            for name in names:
                parent = name.rpartition(".")[0]
                while parent and parent not in self.parents:
                    self.parents.add(parent)
                    parent = parent.rpartition(".")[0]

    def has(self, name: str) -> bool:
        return name in self.owners or name in self.native or name in self.parents

    def module(self, name: str) -> Module | None:
        """The facts of a source module; None for native modules and namespace packages."""
        try:
            return self._modules[name]
        except KeyError:
            owner = self.owners.get(name)
            module = self._modules[name] = owner.modules[name] if owner else None
            return module

    def provided(self, name: str) -> Provided:
        """Who provides `name`."""
        if self.has(name):
            return Provided.HERE
        if name in self.broken:
            return Provided.BROKEN
        top = name.partition(".")[0]
        if self.has(top):
            return self._below(name)
        if top in self.stdlib:
            since = SUBMODULES_SINCE.get(name)
            return Provided.MISSING if since and since > self.python else Provided.ELSEWHERE
        return Provided.ELSEWHERE if top in self.bundled else Provided.MISSING

    def _below(self, name: str) -> Provided:
        """A submodule that no file provides: some packages make them up while they run (six.moves, Cython, sys.modules)."""
        parent, _, child = name.rpartition(".")
        while not self.has(parent):
            if parent in self.broken:
                return Provided.BROKEN
            parent, _, child = parent.rpartition(".")
        if parent in self.native:
            return Provided.ELSEWHERE
        module = self.module(parent)
        if module is None:
            # A namespace package: another part of it may be the runtime's.
            return Provided.ELSEWHERE if parent.partition(".")[0] in self.bundled else Provided.MISSING
        own = not self.owners[parent].name
        if module.defines is None or child in module.defines or (not module.is_package and not own):
            return Provided.ELSEWHERE
        return Provided.MISSING


def bundled_modules(bundled: Mapping[str, str]) -> Iterator[str]:
    """Import names of the distributions that a runtime brings."""
    for name in bundled:
        yield from _IMPORT_NAMES.get(name, (name.replace("-", "_"),))


def extension_tags(target: Target) -> tuple[str, ...]:
    """Tags between name and .so that the target's import takes (importlib.machinery.EXTENSION_SUFFIXES), best first."""
    return "cpython-{}{}-{}-linux-gnu".format(*target.runtime.python, target.architecture.machine), "abi3", ""


class Closure:
    """What importing some modules loads for certain, what of it fails, and what may be asked for later.

    `loaded` are all names; `reached` those of them that are sources in the artifact or a layer (keys of `Index.owners`).
    """

    def __init__(self, index: Index, roots: Iterable[str]) -> None:
        self.index = index
        self.loaded: set[str] = set()
        self.reached: set[str] = set()
        self.missing: dict[str, Missing] = {}
        self._later: list[tuple[str, Import]] = []
        self._follow(list(roots))

    def _follow(self, pending: list[str]) -> None:
        while pending:
            name = pending.pop()
            if name in self.loaded:
                continue
            self.loaded.add(name)
            parent = name.rpartition(".")[0]
            if parent and parent not in self.loaded:
                pending.append(parent)
            module = self.index.module(name)
            if module is None:
                continue
            self.reached.add(name)
            for item in module.imports:
                if item.kind == "always":
                    self._import(name, item, pending)
                else:
                    self._later.append((name, item))

    def _import(self, importer: str, item: Import, pending: list[str]) -> None:
        answer = self.index.provided(item.module)
        if answer is Provided.HERE:
            pending.append(item.module)
            pending.extend(full for full in _submodules(item) if self.index.has(full))
        elif answer is Provided.MISSING and item.module not in self.missing:
            self.missing[item.module] = Missing(item.module, importer, self.index.owners[importer], item.line)

    def later(self, *, own: bool) -> Iterator[tuple[str, Import]]:
        """Imports that are guarded or inside functions, with their importer: the user's own code's, or dependencies'."""
        return ((name, item) for name, item in self._later if own is not bool(self.index.owners[name].name))

    def lazy_roots(self) -> Iterator[str]:
        """What the user's own functions import when they are called, and what is provided of it."""
        for _, item in self.later(own=True):
            if item.kind == "lazy":
                yield from (name for name in (item.module, *_submodules(item)) if self.index.has(name))

    def missing_later(self, *, own: bool, kind: str = "") -> dict[str, Missing]:
        """Modules of `later` that nobody provides; `kind` chooses "guarded" or "lazy"."""
        found: dict[str, Missing] = {}
        for importer, item in self.later(own=own):
            wanted = (not kind or item.kind == kind) and item.module not in found and item.module not in self.missing
            if wanted and self.index.provided(item.module) is Provided.MISSING:
                found[item.module] = Missing(item.module, importer, self.index.owners[importer], item.line)
        return found


def _submodules(item: Import) -> Iterator[str]:
    return (f"{item.module}.{member}" for member in item.members if member != "*")
