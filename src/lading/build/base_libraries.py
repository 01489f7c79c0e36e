"""The shared libraries that programs on this machine need, as the loader would find them. Reads ELF headers; runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from lading.audit.elf import read_elf
from lading.errors import BuildError
from lading.model.facts import ElfFacts

CONFIGURATION = Path("/etc/ld.so.conf")
DEPTH = 4
"""Levels of `include` in the loader's configuration."""


class LibraryMissingError(BuildError):
    """A program needs a library that this machine doesn't have."""


def closure(programs: Iterable[Path], extra: Iterable[str], machine: str) -> dict[str, Path]:
    """soname → file of everything that `programs` load, and of those of `extra` that are here. For one machine type.

    Raises LibraryMissingError, ElfError.
    """
    folders = tuple(search_path(machine))
    found: dict[str, Path] = {}
    waiting = [(path, facts) for path in programs if (facts := facts_of(path)) is not None]
    for soname in extra:
        path = _find(soname, folders, machine)
        if path is not None:
            found[soname] = path
            waiting.append((path, facts_of(path)))  # type: ignore[arg-type]
    while waiting:
        path, facts = waiting.pop()
        own = [
            entry.replace("$ORIGIN", str(path.parent)).replace("${ORIGIN}", str(path.parent)) for entry in facts.runpath
        ]
        for soname in facts.needed:
            if soname in found:
                continue
            library = _find(soname, (*map(Path, own), *folders), machine)
            if library is None:
                raise LibraryMissingError(
                    f"{path} needs {soname}, and this machine has none", hint="install the library, or another Python"
                )
            found[soname] = library
            waiting.append((library, facts_of(library)))  # type: ignore[arg-type]
    return found


def facts_of(path: Path) -> ElfFacts | None:
    """The ELF facts of a file; None when it is not ELF."""
    with path.open("rb") as file:
        return read_elf(file, str(path))


def _find(soname: str, folders: Iterable[Path], machine: str) -> Path | None:
    """The first file of that name for the machine; a link is followed to the file itself."""
    for folder in folders:
        path = folder / soname
        if path.is_file():
            facts = facts_of(path)
            if facts is not None and facts.machine == machine:
                return path.resolve()
    return None


def search_path(machine: str) -> Iterator[Path]:
    """Where the loader looks: its configuration, then the folders it knows by itself (glibc's and Debian's)."""
    yield from _configured(CONFIGURATION, DEPTH)
    triplet = f"{machine}-linux-gnu"
    for folder in (f"lib/{triplet}", f"usr/lib/{triplet}", "lib64", "usr/lib64", "lib", "usr/lib"):
        yield Path("/", folder)


def _configured(file: Path, depth: int) -> Iterator[Path]:
    if not depth or not file.is_file():
        return
    for line in file.read_text("utf-8", "replace").splitlines():
        entry = line.partition("#")[0].strip()
        if entry.startswith("include "):
            pattern = entry.removeprefix("include ").strip().lstrip("/")
            root = Path("/") if entry.split()[1].startswith("/") else file.parent
            for included in sorted(root.glob(pattern)):
                yield from _configured(included, depth - 1)
        elif entry.startswith("/"):
            yield Path(entry)
