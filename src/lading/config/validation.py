"""Checks a table against the schema. Gathers every problem; what comes back holds only keys and values that are right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lading.config.problems import Problems
from lading.config.schema import REQUIREMENT_KEYS, Key, Kind, keys_of
from lading.model.quotas import quotas
from lading.model.suggest import did_you_mean

Table = Mapping[str, Any]

HANDLER = re.compile(r"[A-Za-z_][\w-]*(?:[./][A-Za-z_][\w-]*)*\.[A-Za-z_]\w*")
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]+")


def check_table(table: object, level: str, where: str, problems: Problems) -> dict[str, Any]:
    """The known and valid entries of a table of `level` (project, function or layer)."""
    return _check(table, keys_of(level), where, problems)


def _check(table: object, keys: Mapping[str, Key], where: str, problems: Problems) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        problems.add(where, f"must be a table, not {_describe(table)}")
        return {}
    good: dict[str, Any] = {}
    for name, value in table.items():
        place = f"{where}.{name}"
        key = keys.get(name)
        if key is None:
            problems.add(place, "unknown key", did_you_mean(str(name), keys))
        elif _is_valid(key, value, place, problems):
            good[name] = value
    return good


def _is_valid(key: Key, value: object, where: str, problems: Problems) -> bool:
    before = len(problems.found)
    if not _has_type(key.kind, value):
        problems.add(where, f"must be {_ARTICLES[key.kind]}, not {_describe(value)}")
    elif isinstance(value, str):
        _check_text(key, value, where, problems)
    elif key.bounds and isinstance(value, int):
        least, most = key.bounds
        if not least <= value <= most:
            problems.add(where, f"{value} is not in {least}–{most}", "Lambda's quota")
    elif key.kind is Kind.VARIABLES and isinstance(value, Mapping):
        _check_variables(value, where, problems)
    elif key.kind is Kind.REQUIREMENTS and isinstance(value, Mapping):
        _check(value, {key.name: key for key in REQUIREMENT_KEYS}, where, problems)
    elif isinstance(value, list):
        _check_list(value, where, problems)
    return len(problems.found) == before


_ARTICLES = {
    Kind.STRING: "a string",
    Kind.INTEGER: "an integer",
    Kind.BOOLEAN: "true or false",
    Kind.STRINGS: "a list of strings",
    Kind.VARIABLES: "a table of strings",
    Kind.REQUIREMENTS: "a path, a list of requirements or a table",
    Kind.TABLES: "a table of tables",
}


def _has_type(kind: Kind, value: object) -> bool:
    strings = isinstance(value, list) and all(isinstance(item, str) for item in value)
    match kind:
        case Kind.STRING:
            return isinstance(value, str)
        case Kind.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool)
        case Kind.BOOLEAN:
            return isinstance(value, bool)
        case Kind.STRINGS:
            return strings
        case Kind.VARIABLES | Kind.TABLES:
            return isinstance(value, Mapping)
        case Kind.REQUIREMENTS:
            return strings or isinstance(value, str | Mapping)


def _check_text(key: Key, value: str, where: str, problems: Problems) -> None:
    if "\0" in value:
        problems.add(where, "holds a NUL character")
    if key.choices and value not in key.choices:
        problems.add(where, f"unknown {key.name} {value!r}", did_you_mean(value, key.choices))
    if key.length is not None and len(value) > key.length:
        problems.add(where, f"has {len(value)} characters, Lambda takes {key.length}")
    if key.name == "handler" and not HANDLER.fullmatch(value):
        problems.add(
            where, f"{value!r} is not a handler", "write module.function, such as lambda_function.lambda_handler"
        )


def _check_list(value: list[str], where: str, problems: Problems) -> None:
    for item in value:
        if not item.strip() or "\0" in item:
            problems.add(where, f"{item!r} is empty or holds a NUL character")
    for item in {item for item in value if value.count(item) > 1}:
        problems.add(where, f"{item!r} stands there twice")


def _check_variables(value: Mapping[str, object], where: str, problems: Problems) -> None:
    reserved = quotas().reserved_variables
    for name, content in value.items():
        place = f"{where}.{name}"
        if not isinstance(content, str):
            problems.add(place, f"must be a string, not {_describe(content)}", "write it in quotes")
        elif not _VARIABLE.fullmatch(name):
            problems.add(place, "not a name that Lambda takes", "letters, digits and _; a letter first; at least two")
        elif name in reserved:
            problems.add(place, "reserved by Lambda, a function can't set it", "remove it")


def _describe(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
