"""Writes docs/reference/configuration.md from the schema. `python -m lading.config.reference FILE`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from lading.config.keys import FUNCTION, LAYER, PROJECT, Key, Kind
from lading.config.places import DEFAULT_EXCLUDES
from lading.config.schema import KEYS, REFERENCE_KEYS, REQUIREMENT_KEYS
from lading.config.versions import DEFAULT_RUNTIME

HEAD = f"""\
# Configuration

Written from the table that lading validates with, by
`python -m lading.config.reference docs/reference/configuration.md`; a test keeps it so.

`[tool.lading]` stands in `pyproject.toml`, or in the `# /// script` block of a single file. Its keys are the defaults of all
functions (`[tool.lading.functions.NAME]`) and layers (`[tool.lading.layers.NAME]`). A key that isn't listed here is an error.
Which files are found, and in which order, is in [the guide to inputs](../guides/inputs.md).

Without `runtime`: the version in `.python-version`, else {DEFAULT_RUNTIME}, in both cases if
`requires-python` allows it; else the newest runtime that it allows.
Without `source`: the first of `NAME/`, `src/` and the project's folder that holds the handler.
"""
TITLES = {
    PROJECT: "## `[tool.lading]`\n",
    FUNCTION: "## `[tool.lading.functions.NAME]`\n",
    LAYER: "## `[tool.lading.layers.NAME]`\n",
}


def reference() -> str:
    """All of docs/reference/configuration.md."""
    parts = [HEAD]
    for level, title in TITLES.items():
        parts += [title, _table(key for key in KEYS if level in key.levels)]
    parts += ["## `requirements` as a table\n", _table(REQUIREMENT_KEYS)]
    parts += ["## Values of `environment` that AWS keeps\n", _table(REFERENCE_KEYS)]
    for key in KEYS:
        if key.keys:
            parts += _inner(key, key.name)
    patterns = "\n".join(DEFAULT_EXCLUDES)
    parts.append(
        f'## Left out by default\n\nAnd the output folder. Lift one with `exclude = ["!PATTERN"]`.\n\n```\n{patterns}\n```\n'
    )
    return "\n".join(parts)


def _table(keys: Iterable[Key]) -> str:
    rows = [_row(key) for key in keys]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def _inner(key: Key, path: str) -> list[str]:
    """The keys of a table, then those of the tables in it."""
    noun = {Kind.NAMED: f"`{path}.NAME`", Kind.LIST: f"A table of `{path}`"}.get(
        key.also or key.kind, f"`{path}` as a table"
    )
    parts = [f"## {noun}\n", _table(key.keys)]
    for inner in key.keys:
        if inner.keys:
            parts += _inner(inner, f"{path}.{inner.name}")
    return parts


def _row(key: Key) -> str:
    kind = " or ".join(f'`"{choice}"`' for choice in key.choices) or str(key.kind)
    if key.also:
        kind += f" or {key.also}"
    if key.bounds:
        kind += " {}–{}".format(*key.bounds)
    if key.length:
        kind += f", at most {key.length} characters"
    if key.levels and not set(key.levels) & {PROJECT, FUNCTION, LAYER}:
        kind += f" ({', '.join(key.levels)})"
    if not key.default:
        return f"| `{key.name}` | {kind} | {'must be there' if key.required else ''} | {key.meaning} |"
    default = f"`{key.default}`" if key.default[0] in '"[{0123456789' or key.default == "false" else key.default
    return f"| `{key.name}` | {kind} | {default} | {key.meaning} |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), "utf-8")
