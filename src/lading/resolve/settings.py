"""uv's settings as far as they decide a resolution: environment, uv.toml, [tool.uv]. Read here only to notice changes
and to find index credentials; uv itself reads and obeys them.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLES = (
    "UV_BUILD_CONSTRAINT",
    "UV_CONFIG_FILE",
    "UV_CONSTRAINT",
    "UV_DEFAULT_INDEX",
    "UV_EXCLUDE",
    "UV_EXCLUDE_NEWER",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_FORK_STRATEGY",
    "UV_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_INDEX_URL",
    "UV_NO_BINARY",
    "UV_NO_BINARY_PACKAGE",
    "UV_NO_BUILD",
    "UV_NO_BUILD_PACKAGE",
    "UV_NO_CONFIG",
    "UV_NO_INDEX",
    "UV_NO_SOURCES",
    "UV_OVERRIDE",
    "UV_PRERELEASE",
    "UV_RESOLUTION",
    "UV_TORCH_BACKEND",
)
"""Environment variables of uv that decide what a resolution finds."""

KEYS = (
    "build-constraint-dependencies",
    "conflicts",
    "constraint-dependencies",
    "default-groups",
    "dependency-metadata",
    "environments",
    "exclude-dependencies",
    "exclude-newer",
    "exclude-newer-package",
    "extra-index-url",
    "find-links",
    "fork-strategy",
    "index",
    "index-strategy",
    "index-url",
    "no-binary",
    "no-binary-package",
    "no-build",
    "no-build-package",
    "no-index",
    "no-sources",
    "override-dependencies",
    "pip",
    "prerelease",
    "resolution",
    "sources",
    "torch-backend",
    "workspace",
)
"""Keys of uv.toml and [tool.uv] that do."""


@dataclass(frozen=True)
class Settings:
    """Variables that are set, and the relevant part of each configuration file (in uv's order: nearest first)."""

    variables: Mapping[str, str]
    tables: tuple[Mapping[str, Any], ...]


def read_settings(directory: Path) -> Settings:
    """The settings uv would find when run in a folder. A file that can't be parsed is left for uv to complain about."""
    variables = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    if os.environ.get("UV_NO_CONFIG"):
        return Settings(variables, ())
    return Settings(variables, tuple(relevant(table) for table in _tables(directory)))


def relevant(table: Mapping[str, Any]) -> dict[str, Any]:
    """Of a uv.toml or [tool.uv] table, what decides a resolution."""
    return {key: table[key] for key in KEYS if key in table}


def _tables(directory: Path) -> Iterator[Mapping[str, Any]]:
    chosen = os.environ.get("UV_CONFIG_FILE")
    if chosen:
        yield from _table(Path(chosen))
        return
    for folder in (directory, *directory.parents):
        found = [*_table(folder / "uv.toml")] or [*_table(folder / "pyproject.toml", "tool", "uv")]
        if found:
            yield from found
            break
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    yield from _table(home / "uv" / "uv.toml")
    yield from _table(Path("/etc/uv/uv.toml"))


def _table(path: Path, *keys: str) -> Iterator[Mapping[str, Any]]:
    try:
        table: Any = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return
    for key in keys:
        table = table.get(key) if isinstance(table, Mapping) else None
    if isinstance(table, Mapping):
        yield table


def index_urls(settings: Settings) -> tuple[str, ...]:
    """Every index as `url` or `name=url`, from the environment first, then the files."""
    found: list[str] = []
    for name in ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
        found += settings.variables.get(name, "").replace(",", " ").split()
    for table in settings.tables:
        for scope in (table, table.get("pip", {})):
            found += _index_tables(scope)
    return tuple(dict.fromkeys(found))


def _index_tables(table: Mapping[str, Any]) -> Iterator[str]:
    for index in table.get("index", ()):
        if isinstance(index, Mapping) and "url" in index:
            yield f"{index['name']}={index['url']}" if "name" in index else str(index["url"])
    if "index-url" in table:
        yield str(table["index-url"])
    for key in ("extra-index-url", "find-links"):
        yield from map(str, table.get(key, ()))
