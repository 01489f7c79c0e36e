"""One key of a table: its type, its bounds, and the tables that may have it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PROJECT, FUNCTION, LAYER = "project", "function", "layer"


class Kind(StrEnum):
    """The type of a value, as the reference page names it."""

    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    STRINGS = "list of strings"
    VARIABLES = "table of strings"
    REQUIREMENTS = "path, list or table"
    TABLES = "table of tables"
    TABLE = "table"
    NAMED = "table of tables, by name"
    LIST = "list of tables"
    FREE = "any table"


@dataclass(frozen=True)
class Key:
    """One key. `levels` are the tables that may have it; at the project's level it is the default for the others."""

    name: str
    kind: Kind
    levels: tuple[str, ...]
    default: str
    meaning: str
    choices: tuple[str, ...] = ()
    bounds: tuple[int, int] | None = None
    length: int | None = None
    also: Kind | None = None
    """Another type that the value may have."""
    keys: tuple[Key, ...] = ()
    """Of a TABLE, of each table of NAMED and LIST. With a key `type`, the others' levels are its choices."""
    pattern: str = ""
    """A regular expression that the whole text matches."""
    example: str = ""
    required: bool = False
