"""What is known of files without running them: ELF headers and imports. Gathered once per wheel, kept, read by the audit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class ElfFacts:
    """An ELF shared object or executable. `versions` are the symbol versions it needs ("GLIBC_2.17", "GLIBCXX_3.4.29")."""

    path: str
    """Inside the artifact, or relative to the wheel's install root."""
    machine: str
    """"x86_64", "aarch64", or another of `uname -m`'s names."""
    soname: str = ""
    needed: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    """DT_RUNPATH or DT_RPATH entries, with $ORIGIN unexpanded."""
    versions: tuple[str, ...] = ()
    executable: bool = False
    """True for a program (has an interpreter), False for a shared object."""


class ImportKind(StrEnum):
    """When an import statement runs, and whether failing is planned for."""

    ALWAYS = "always"
    """At module level, unguarded: missing means ImportError at import."""
    GUARDED = "guarded"
    """Inside try/except ImportError (or broader), or a platform/version condition."""
    LAZY = "lazy"
    """Inside a function: runs later or never."""


@dataclass(frozen=True)
class ImportFacts:
    """One imported module, absolute ("numpy.core"). For `from a import b` both `a` and, as `submember`, `b` are kept."""

    module: str
    kind: ImportKind
    line: int
    members: tuple[str, ...] = ()
    """Names after `from module import`; each may be a submodule or an attribute."""


@dataclass(frozen=True)
class ModuleFacts:
    """A Python source file: its dotted name from the import root, and what it imports."""

    path: str
    name: str
    is_package: bool
    imports: tuple[ImportFacts, ...] = ()
    defines: tuple[str, ...] | None = None
    """Top-level names it binds; None when it can't be known (a star import, exec). Used to find a handler."""
    error: str = ""
    """A syntax error, as "line 3: invalid syntax"; then imports is empty."""
