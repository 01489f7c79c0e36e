"""Sets of third-party requirements, as the user wrote them down somewhere."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class RequirementKind(StrEnum):
    """Where a set of requirements is written."""

    FILE = "requirements.txt"
    PYPROJECT = "pyproject.toml"
    SCRIPT = "PEP 723 script"
    INLINE = "inline"
    UV_LOCK = "uv.lock"
    POETRY_LOCK = "poetry.lock"
    PDM_LOCK = "pdm.lock"
    PIPFILE_LOCK = "Pipfile.lock"
    PYLOCK = "pylock.toml"

    @property
    def is_lock(self) -> bool:
        """True where exact versions and hashes are given and must be honoured."""
        return self in _LOCKS


_LOCKS = frozenset(
    {
        RequirementKind.UV_LOCK,
        RequirementKind.POETRY_LOCK,
        RequirementKind.PDM_LOCK,
        RequirementKind.PIPFILE_LOCK,
        RequirementKind.PYLOCK,
    }
)


@dataclass(frozen=True)
class Requirements:
    """One set of third-party requirements. Equal values resolve once per target, however many functions share them."""

    kind: RequirementKind
    path: Path | None = None
    """The file (absolute) that states them; None for INLINE."""
    specifiers: tuple[str, ...] = ()
    """PEP 508 strings: all of an INLINE set; for other kinds, what lading's own tables add to the file."""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    member: Path | None = None
    """Folder (absolute) of the uv workspace member that is meant, where `path` is the lock of the whole workspace."""

    @property
    def home(self) -> Path | None:
        """The folder whose pyproject.toml says what the extras and groups are; None without a file."""
        return self.member or (self.path.parent if self.path else None)

    @property
    def is_empty(self) -> bool:
        return self.path is None and not self.specifiers
