"""What is known of a native file without running it."""

from __future__ import annotations

from dataclasses import dataclass


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
