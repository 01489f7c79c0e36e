"""What a project's file declares, before defaults and checks: the same shape whichever format it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Table = Mapping[str, Any]


@dataclass(frozen=True)
class Declaration:
    """Tables with the keys of the schema. `prefix` is where they stand in `origin`, for messages."""

    root: Path
    """Folder that relative paths start from."""
    origin: Path
    defaults: Table = field(default_factory=dict)
    functions: Table = field(default_factory=dict)
    layers: Table = field(default_factory=dict)
    prefix: str = "tool.lading"
    name: str = ""
    """Of the one function, when none is named."""
    document: Table = field(default_factory=dict)
    """The project's pyproject.toml or script block."""
    requirements: Path | None = None
    """The file that the user pointed at as the requirements."""
    skipped: tuple[str, ...] = ()
    own_requirements: bool = False
    """True where each source folder states its own requirements and the root's aren't everyone's (SAM)."""

    def where(self, tables: str, name: str) -> str:
        """The place of a function or layer in the origin."""
        return f"{self.prefix}.{name}" if self.own_requirements else f"{self.prefix}.{tables}.{name}"
