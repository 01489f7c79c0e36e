"""Will the loader take an artifact's native files? Processor, Python version, libraries and symbol versions."""

from __future__ import annotations

import functools
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lading.audit.codes import found
from lading.audit.graph import Closure, extension_tags
from lading.audit.package import PackageFacts, extension_module
from lading.model.facts import ElfFacts
from lading.model.finding import Finding, Severity
from lading.model.target import OperatingSystem, Target

_OWN_LIBRARY = {"GLIBCXX": "libstdc++.so.6", "CXXABI": "libstdc++.so.6", "GCC": "libgcc_s.so.1"}
_SPECIAL_VERSIONS = {"GLIBC_ABI_DT_RELR": "2.36", "GLIBC_ABI_GNU2_TLS": "2.42", "GLIBC_ABI_GNU_TLS": "2.42"}
"""glibc's feature marks, and the first release that has them."""
_VERSION = re.compile(r"^([A-Z]+)_(\d+(?:\.\d+)*)$")
_MUSL = re.compile(r"^(?:libc\.musl-|ld-musl-)")


class Library(NamedTuple):
    """A native file of the artifact or a layer, at its place on Lambda ("/var/task/numpy.libs/libx.so")."""

    place: str
    package: PackageFacts
    facts: ElfFacts


def check_native(
    target: Target, code: tuple[PackageFacts, ...], layers: tuple[PackageFacts, ...], closure: Closure
) -> Iterator[Finding]:
    """All findings on native files of `code`; `layers` only provide."""
    auditor = _Auditor(target, code, layers, closure)
    for package in code:
        yield from auditor.check_foreign(package)
        yield from auditor.check_names(package)
    for library in auditor.code:
        yield from auditor.check(library)
    yield from auditor.missing_libraries()


class _Auditor:
    def __init__(
        self, target: Target, code: tuple[PackageFacts, ...], layers: tuple[PackageFacts, ...], closure: Closure
    ) -> None:
        self.target = target
        self.closure = closure
        self.code = [_placed(package, facts, "/var/task") for package in code for facts in package.elf]
        everything = self.code + [_placed(package, facts, "/opt") for package in layers for facts in package.elf]
        machine = target.architecture.machine
        self.places = {library.place for library in everything if library.facts.machine == machine}
        # A soname with a version is often a link to the file that has it; links are files of the artifact too.
        self.files = self.places | {
            posixpath.join(base, package.root, path)
            for packages, base in ((code, "/var/task"), (layers, "/opt"))
            for package in packages
            for path in package.files
            if ".so" in path
        }
        self.by_name: dict[str, list[Library]] = defaultdict(list)
        for library in everything:
            for name in {posixpath.basename(library.place), library.facts.soname} - {""}:
                self.by_name[name].append(library)
        self.fitting = {library.package.name for library in self.code if library.facts.machine == machine}
        self.missing: dict[tuple[str, str], list[Library]] = defaultdict(list)
        self.imported_later: dict[str, frozenset[str]] = {}

    # Names

    def check_foreign(self, package: PackageFacts) -> Iterator[Finding]:
        for path, problem in package.foreign.items():
            name, _ = extension_module(path)
            if name and not self._has_usable_twin(name):
                message = f"not a Linux library: {problem}"
                yield found("elf-foreign", message, file=_inside(package, path), package=package.name)

    def check_names(self, package: PackageFacts) -> Iterator[Finding]:
        wanted = extension_tags(self.target)[0]
        for path in package.extensions:
            name, tag = extension_module(path)
            if name in self.closure.index.broken and path not in package.foreign and not self._has_usable_twin(name):
                if self.closure.index.broken[name][1] != path:
                    continue
                message = f"built for {_describe_tag(tag)}; {self.target.runtime.name} imports {wanted}"
                yield found("extension-python", message, file=_inside(package, path), package=package.name)

    def _has_usable_twin(self, name: str) -> bool:
        return name in self.closure.index.native or name in self.closure.index.owners

    # One file

    def check(self, library: Library) -> Iterator[Finding]:
        if library.facts.machine != self.target.architecture.machine:
            yield from self.check_machine(library)
            return
        name, _ = self.extension(library)
        if name and name in self.closure.index.broken and not self._has_usable_twin(name):
            return  # already said: this Python does not see it
        self.check_libraries(library)
        yield from self.check_versions(library)

    def check_machine(self, library: Library) -> Iterator[Finding]:
        name, tag = self.extension(library)
        index = self.closure.index
        if name and tag not in index.tags and self._has_usable_twin(name):
            return  # one of several builds side by side, and another fits
        certain = bool(name and name in self.closure.loaded) or library.package.name not in self.fitting
        message = f"built for {library.facts.machine}, and the target is {self.target.architecture.machine}"
        yield found(
            "elf-machine",
            message,
            file=_inside(library.package, library.facts.path),
            package=library.package.name,
            severity=Severity.ERROR if certain else Severity.WARNING,
        )

    def extension(self, library: Library) -> tuple[str, str]:
        """Module name and tag of an extension module; empty for a shared library, which import never opens by itself."""
        name, tag = extension_module(library.facts.path)
        plain_library = (
            not tag and posixpath.basename(library.facts.path).startswith("lib") and name not in self.closure.loaded
        )
        return ("", "") if plain_library else (name, tag)

    def severity(self, library: Library) -> Severity:
        """Error for what an import at start loads, or what a package that is imported loads in a way nobody can see."""
        return Severity.ERROR if library.place in self.loaded else Severity.WARNING

    @functools.cached_property
    def loaded(self) -> frozenset[str]:
        """Places of the native files that starting loads: extension modules, and the libraries they need in turn."""
        pending = [library for library in self.code if self.starts(library)]
        places = {library.place for library in pending}
        while pending:
            for name in pending.pop().facts.needed:
                for other in self.by_name.get(name, ()):
                    if other.place not in places:
                        places.add(other.place)
                        pending.append(other)
        return frozenset(places)

    def starts(self, library: Library) -> bool:
        name, _ = self.extension(library)
        top = name.partition(".")[0]
        if not name or top not in self.closure.loaded:
            return False
        return name in self.closure.loaded or name not in self.later(top)

    def later(self, top: str) -> frozenset[str]:
        """Modules that some module of the package `top` imports guardedly or in a function."""
        if top not in self.imported_later:
            index = self.closure.index
            names: set[str] = set()
            for name, owner in index.owners.items():
                if name == top or name.startswith(top + "."):
                    for item in owner.modules[name].imports:
                        if item.kind != "always":
                            names.add(item.module)
                            names.update(f"{item.module}.{member}" for member in item.members)
            self.imported_later[top] = frozenset(names)
        return self.imported_later[top]

    # Libraries

    def check_libraries(self, library: Library) -> None:
        """Notes what is missing; `missing_libraries` says it once per package and library."""
        for name in library.facts.needed:
            if not self.provided(name, library):
                self.missing[library.package.name, name].append(library)

    def missing_libraries(self) -> Iterator[Finding]:
        for (package, name), libraries in self.missing.items():
            worst = min((self.severity(library) for library in libraries), key=list(Severity).index)
            first = next(library for library in libraries if self.severity(library) is worst)
            file = _inside(first.package, first.facts.path)
            who = f"needs {name}" + (f" (as {len(libraries) - 1} more do)" if len(libraries) > 1 else "")
            if name in self.target.runtime.os.uncertain:
                yield found(
                    "library-uncertain",
                    f"{who}, which the zip runtime is not known to have",
                    file=file,
                    package=package,
                )
            elif self.by_name.get(name):
                place = self.by_name[name][0]
                # What a package keeps in its own folders it usually loads by path before it is needed.
                if _family(place.package.name) != _family(package):
                    message = f"{who}, which is at {place.place}, outside the loader's search path"
                    yield found("library-path", message, file=file, package=package)
            else:
                fix = "install the manylinux wheel, not the musllinux one" if _MUSL.match(name) else _known_fix(package)
                message = f"{who}, which neither the artifact nor {self.target.runtime.name} has"
                yield found("library-missing", message, file=file, package=package, severity=worst, fix=fix)

    def provided(self, name: str, library: Library) -> bool:
        runtime = self.target.runtime
        python = f"libpython{runtime.python_version}.so.1.0"
        if name in runtime.os.libraries or name in (python, "libpython3.so"):
            return True
        if "/" in name:
            return posixpath.normpath(name) in self.files
        folder = posixpath.dirname(library.place)
        for entry in library.facts.runpath:
            expanded = entry.replace("${ORIGIN}", folder).replace("$ORIGIN", folder)
            if posixpath.normpath(posixpath.join("/", expanded, name)) in self.files:
                return True
        return any(f"{place}/{name}" in self.files for place in ("/var/task", "/var/task/lib", "/opt/lib"))

    # Symbol versions

    def check_versions(self, library: Library) -> Iterator[Finding]:
        system = self.target.runtime.os
        worst: dict[str, str] = {}
        for version in library.facts.versions:
            family, number = _family_and_number(version)
            own = _OWN_LIBRARY.get(family)
            if own and own in library.facts.needed and own in self.by_name:
                continue  # the artifact brings its own copy of that library
            if number and _too_new(family, number, system) and _pair(number) > _pair(worst.get(family, "0")):
                worst[family] = number
        for family, number in worst.items():
            has = system.symbol_versions.get(family, "none")
            yield found(
                "symbol-version",
                f"needs {family}_{number}; {self.target.runtime.name} has {family}_{has} ({system.name})",
                file=_inside(library.package, library.facts.path),
                package=library.package.name,
                severity=self.severity(library),
            )


def _placed(package: PackageFacts, facts: ElfFacts, base: str) -> Library:
    return Library(posixpath.join(base, package.root, facts.path), package, facts)


def _inside(package: PackageFacts, path: str) -> str:
    return posixpath.join(package.root, path)


def _family(package: str) -> str:
    """Distributions that are made to be loaded together, such as nvidia-cublas and nvidia-cudnn."""
    return package.partition("-")[0]


def _known_fix(package: str) -> str:
    if package in ("opencv-python", "opencv-contrib-python"):
        return f"use {package}-headless: Lambda has no display"
    return ""


def _family_and_number(version: str) -> tuple[str, str]:
    if version in _SPECIAL_VERSIONS:
        return "GLIBC", _SPECIAL_VERSIONS[version]
    match = _VERSION.match(version)
    return (match[1], match[2]) if match else ("", "")


def _too_new(family: str, number: str, system: OperatingSystem) -> bool:
    known: Mapping[str, str] = system.symbol_versions
    return family in known and _pair(number) > _pair(known[family])


def _pair(number: str) -> tuple[int, ...]:
    return tuple(map(int, number.split(".")))


def _describe_tag(tag: str) -> str:
    match = re.match(r"(?:cpython-|cp)(\d)(\d+)(t?)(?:-(.*))?$", tag)
    if not match:
        return tag or "Windows"
    threads = " (free-threaded)" if match[3] else ""
    return f"Python {match[1]}.{match[2]}{threads}" + (f" on {match[4]}" if match[4] else "")
