"""Checks a table against the schema. Gathers every problem; what comes back holds only keys and values that are right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lading.config.keys import Key, Kind
from lading.config.problems import Problems
from lading.config.schema import REFERENCE_KEYS, REQUIREMENT_KEYS, keys_of
from lading.model.limits import number
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
    for needed in keys.values():
        if needed.required and needed.name not in table:
            problems.add(where, f"{needed.name!r} is missing", f"such as {needed.name} = {needed.example}")
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
    kind = key.also if key.also and _has_type(key.also, value) else key.kind
    if not _has_type(kind, value):
        articles = _ARTICLES[key.kind] + (f" or {_ARTICLES[key.also]}" if key.also else "")
        problems.add(where, f"must be {articles}, not {_describe(value)}")
    elif isinstance(value, str):
        _check_text(key, value, where, problems)
    elif key.bounds and isinstance(value, int):
        least, most = key.bounds
        if not least <= value <= most:
            problems.add(where, f"{value} is not in {least}–{most}", "Lambda's quota")
    elif kind is Kind.VARIABLES and isinstance(value, Mapping):
        check = {"environment": _check_variables, "labels": _check_labels}.get(key.name, _check_tags)
        check(value, where, problems)
    elif kind is Kind.REQUIREMENTS and isinstance(value, Mapping):
        _check(value, {key.name: key for key in REQUIREMENT_KEYS}, where, problems)
    elif kind in (Kind.TABLE, Kind.NAMED, Kind.LIST):
        _check_inner(key, kind, value, where, problems)
    elif isinstance(value, list):
        _check_list(value, where, problems)
    return len(problems.found) == before


def _check_inner(key: Key, kind: Kind, value: Any, where: str, problems: Problems) -> None:
    """The tables in a value, each against the keys that it may have; without keys, anything goes."""
    if not key.keys:
        return
    if kind is Kind.TABLE:
        inner = {where: value}
    elif kind is Kind.NAMED:
        inner = {f"{where}.{name}": table for name, table in value.items()}
    else:
        inner = {f"{where}[{number}]": table for number, table in enumerate(value)}
    for place, table in inner.items():
        _check(table, _keys_for(key, table), place, problems)


def _keys_for(key: Key, table: object) -> dict[str, Key]:
    """All of them, or where a `type` says which, those of that type."""
    kinds = next((inner.choices for inner in key.keys if inner.name == "type"), ())
    chosen = table.get("type") if isinstance(table, Mapping) else None
    if not kinds or chosen not in kinds:
        return {inner.name: inner for inner in key.keys}
    return {inner.name: inner for inner in key.keys if not inner.levels or chosen in inner.levels}


_ARTICLES = {
    Kind.STRING: "a string",
    Kind.INTEGER: "an integer",
    Kind.BOOLEAN: "true or false",
    Kind.STRINGS: "a list of strings",
    Kind.VARIABLES: "a table of strings",
    Kind.REQUIREMENTS: "a path, a list of requirements or a table",
    Kind.TABLES: "a table of tables",
    Kind.TABLE: "a table",
    Kind.NAMED: "a table of tables",
    Kind.LIST: "a list of tables",
    Kind.FREE: "a table",
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
        case Kind.VARIABLES | Kind.TABLES | Kind.TABLE | Kind.FREE:
            return isinstance(value, Mapping)
        case Kind.NAMED:
            return isinstance(value, Mapping) and all(isinstance(item, Mapping) for item in value.values())
        case Kind.LIST:
            return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)
        case Kind.REQUIREMENTS:
            return strings or isinstance(value, str | Mapping)


def _check_text(key: Key, value: str, where: str, problems: Problems) -> None:
    if "\0" in value:
        problems.add(where, "holds a NUL character")
    if key.choices and value not in key.choices:
        problems.add(where, f"unknown {key.name} {value!r}", did_you_mean(value, key.choices))
    if key.length is not None and len(value) > key.length:
        problems.add(where, f"has {len(value)} characters, Lambda takes {key.length}")
    if key.pattern and not re.fullmatch(key.pattern, value):
        problems.add(where, f"{value!r} is not what AWS takes", f"such as {key.example}")
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
        if isinstance(content, Mapping):
            _check_reference(content, place, problems)
        elif not isinstance(content, str):
            problems.add(place, f"must be a string, not {_describe(content)}", "write it in quotes")
        if not _VARIABLE.fullmatch(name):
            problems.add(place, "not a name that Lambda takes", "letters, digits and _; a letter first; at least two")
        elif name in reserved:
            problems.add(place, "reserved by Lambda, a function can't set it", "remove it")


def _check_reference(content: Mapping[str, object], where: str, problems: Problems) -> None:
    """A value that AWS keeps: { ssm = "NAME" } or { secret = "NAME", field = "KEY" }."""
    _check(content, {key.name: key for key in REFERENCE_KEYS}, where, problems)
    if ("ssm" in content) == ("secret" in content):
        problems.add(where, "names neither or both of `ssm` and `secret`", "write one of them")
    elif "field" in content and "ssm" in content:
        problems.add(where, "a parameter has no `field`", "remove it")


def _check_tags(value: Mapping[str, object], where: str, problems: Problems) -> None:
    if len(value) > number("tags", "most"):
        problems.add(where, f"{len(value)} tags, AWS takes {number('tags', 'most')}", "remove some")
    for name, content in value.items():
        place = f"{where}.{name}"
        if not isinstance(content, str):
            problems.add(place, f"must be a string, not {_describe(content)}", "write it in quotes")
        elif len(content) > number("tags", "value") or not 0 < len(name) <= number("tags", "key"):
            problems.add(place, "is too long for a tag", "keys up to 128 characters, values up to 256")
        elif name.lower().startswith(("aws:", "lading:")):
            problems.add(place, "a prefix that is reserved", "take another name")


def _check_labels(value: Mapping[str, object], where: str, problems: Problems) -> None:
    for name, content in value.items():
        place = f"{where}.{name}"
        if not isinstance(content, str):
            problems.add(place, f"must be a string, not {_describe(content)}", "write it in quotes")
        elif not name or "=" in name:
            problems.add(place, "no name of a label", "such as org.opencontainers.image.source")


def _describe(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
