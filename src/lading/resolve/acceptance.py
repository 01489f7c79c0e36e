"""Decides whether a wheel that was built here will run on the target: name, tags, machine, symbol versions."""

from __future__ import annotations

import platform
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lading.errors import BuildError
from lading.model.lock import LockedPackage
from lading.model.target import Target
from lading.resolve.fit import rank, why_not

MAX_ELF = 512 << 20
"""Bytes of one shared object that are read at most."""
_MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}
_VERSION = re.compile(r"(GLIBC|GLIBCXX|CXXABI)_(\d+(?:\.\d+)+)$")


class WrongPlatformError(BuildError):
    """The package has native code, and what this machine makes of it does not run on the target."""


class WrongPackageError(BuildError):
    """The build made a wheel of another name or version than the lock says, or a broken one."""


def is_portable(path: Path) -> bool:
    """True for a wheel whose tags promise nothing native (`…-none-any`)."""
    return path.stem.endswith("-none-any")


def accept(path: Path, package: LockedPackage, target: Target, *, matching_python: bool) -> str:
    """The wheel's version. Raises WrongPackageError or WrongPlatformError."""
    version = _check_identity(path, package)
    label = f"{package.name} {version}"
    if rank(path.name, target) is None:
        raise _wrong_platform(label, target, [f"{path.name}: {why_not(path.name, target)}"])
    if not is_portable(path) and not matching_python:
        raise _wrong_platform(label, target, [f"no Python {target.runtime.python_version} was used to build it"])
    try:
        problems = list(_native_problems(path, target))
    except (zipfile.BadZipFile, OSError) as error:
        raise WrongPackageError(f"the build of {label} made a broken wheel: {error}") from error
    if problems:
        raise _wrong_platform(label, target, problems)
    return version


def _check_identity(path: Path, package: LockedPackage) -> str:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    try:
        name, version = parse_wheel_filename(path.name)[:2]
        same = not package.version or Version(package.version) == version
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise WrongPackageError(f"the build of {package.name} made a wheel with a bad name: {error}") from error
    if name != package.name or not same:
        wanted = f"{package.name} {package.version}".strip()
        raise WrongPackageError(
            f"the build of {wanted} made {path.name}", hint="the source's own name or version differs from the lock's"
        )
    return str(version)


def _wrong_platform(label: str, target: Target, reasons: list[str]) -> WrongPlatformError:
    name = label.split()[0]
    here = f"Python {target.runtime.python_version} on {target.architecture.machine} Linux"
    hint = (
        f"choose a version of {name} that has a wheel for {target}; or build its wheel on {target.runtime.os.name} "
        f"({here}) and give the folder with --find-links"
    )
    message = (
        f"{label} has native code, and what this machine ({platform.machine()}) makes of it does not run on {target}"
    )
    return WrongPlatformError(message, details=reasons, hint=hint)


def _native_problems(path: Path, target: Target) -> Iterator[str]:
    """What keeps the wheel's shared objects and programs from loading on the target."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.is_dir() or member.file_size > MAX_ELF:
                continue
            with archive.open(member) as start:
                native = start.read(4) == b"\x7fELF"
            if native:
                with archive.open(member) as file:
                    yield from elf_problems(file, member.filename, target)


def elf_problems(file: IO[bytes], name: str, target: Target) -> Iterator[str]:
    """Wrong machine, or symbol versions newer than the target's libraries have."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerNeedSection

    try:
        elf = ELFFile(file)
        machine = _MACHINES.get(elf["e_machine"], str(elf["e_machine"]))
        if machine != target.architecture.machine:
            yield f"{name} is {machine} code"
            return
        if not elf.num_sections():
            yield f"{name} has no section headers: what it needs can't be read"
        for section in elf.iter_sections():
            if isinstance(section, GNUVerNeedSection):
                for library, versions in section.iter_versions():
                    for version in versions:
                        yield from _too_new(f"{name} needs {version.name} of {library.name}", version.name, target)
    except (ELFError, KeyError, AssertionError) as error:
        yield f"{name} is a broken ELF file: {error}"


def _too_new(message: str, version: str, target: Target) -> Iterator[str]:
    match = _VERSION.match(version)
    newest = target.runtime.os.symbol_versions.get(match[1]) if match else None
    if match and newest and _numbers(match[2]) > _numbers(newest):
        yield f"{message}; {target.runtime.os.name} has {match[1]}_{newest} at most"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
