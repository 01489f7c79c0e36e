"""Filter criteria of event source mappings: patterns over records. Pure.

Source: Lambda Developer Guide, "Control which events Lambda sends to your function", "Filter rule syntax".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Rule = Callable[[Any, bool], bool]
"""Of a value, and whether it is there at all."""
MOST_FILTERS = 10
DEPTH = 32


class PatternError(ValueError):
    """A pattern that isn't one."""


class Filters:
    """A record passes when one of the patterns matches it, or when there are none."""

    def __init__(self, patterns: list[str]) -> None:
        """Raises PatternError."""
        if len(patterns) > MOST_FILTERS:
            raise PatternError(f"{len(patterns)} filters, more than {MOST_FILTERS}")
        self._patterns = [_read(text) for text in patterns]

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def take(self, record: Mapping[str, Any]) -> bool:
        return not self._patterns or any(_matches(pattern, record) for pattern in self._patterns)

    def wants_structure(self, member: str) -> bool:
        """Whether some pattern looks into a member: a text there is then read as JSON."""
        return any(isinstance(pattern.get(member), dict) for pattern in self._patterns)


def _read(text: str) -> dict[str, Any]:
    try:
        pattern = json.loads(text)
    except (ValueError, RecursionError):
        raise PatternError("not JSON") from None
    if not isinstance(pattern, dict) or not pattern:
        raise PatternError("not an object")
    _check(pattern, 0)
    return pattern


def _check(pattern: Any, depth: int) -> None:
    """Raises PatternError for what no record could ever be held against."""
    if depth > DEPTH:
        raise PatternError("too deep")
    for name, wanted in pattern.items():
        if name == "$or":
            if not isinstance(wanted, list) or len(wanted) < 2 or not all(isinstance(one, dict) for one in wanted):
                raise PatternError("$or needs a list of two or more objects")
            for one in wanted:
                _check(one, depth + 1)
        elif isinstance(wanted, dict):
            if not wanted:
                raise PatternError(f"{name} is empty")
            _check(wanted, depth + 1)
        elif isinstance(wanted, list) and wanted:
            for one in wanted:
                _rule(one)
        else:
            raise PatternError(f"{name} is neither an object nor a list")


def _matches(pattern: Mapping[str, Any], value: Any) -> bool:
    for name, wanted in pattern.items():
        if name == "$or":
            if not any(_matches(one, value) for one in wanted):
                return False
            continue
        there = isinstance(value, Mapping) and name in value
        found = value[name] if there else None
        if isinstance(wanted, dict):
            if not _matches(wanted, found):
                return False
        elif not any(_holds(_rule(one), found, there=there) for one in wanted):
            return False
    return True


def _holds(rule: Rule, found: Any, *, there: bool) -> bool:
    """Of a list, one element is enough; an empty one is as if it weren't there."""
    values = found if isinstance(found, list) else [found]
    return any(rule(value, there) for value in values) if values else rule(None, not there)


def _rule(wanted: Any) -> Rule:
    """Raises PatternError."""
    if not isinstance(wanted, dict):
        if isinstance(wanted, list):
            raise PatternError("a list in a list")
        return lambda value, there: there and _same(value, wanted)
    if len(wanted) != 1:
        raise PatternError("a rule has one name")
    [(name, operand)] = wanted.items()
    if name == "exists" and isinstance(operand, bool):
        return lambda value, there: there is operand
    if name == "prefix" and isinstance(operand, str):
        return lambda value, there: isinstance(value, str) and value.startswith(operand)
    if name == "suffix" and isinstance(operand, str):
        return lambda value, there: isinstance(value, str) and value.endswith(operand)
    if name == "equals-ignore-case" and isinstance(operand, str):
        return lambda value, there: isinstance(value, str) and value.casefold() == operand.casefold()
    if name == "anything-but":
        return _anything_but(operand)
    if name == "numeric" and isinstance(operand, list):
        return _numeric(operand)
    raise PatternError(f"no such rule: {name[:50]}")


def _anything_but(operand: Any) -> Rule:
    if isinstance(operand, dict):
        rule = _rule(operand)
        if set(operand) - {"prefix", "suffix", "equals-ignore-case"}:
            raise PatternError("anything-but takes prefix, suffix or equals-ignore-case")
        return lambda value, there: there and not rule(value, there)
    unwanted = operand if isinstance(operand, list) else [operand]
    if not unwanted or any(isinstance(one, dict | list) for one in unwanted):
        raise PatternError("anything-but takes texts and numbers")
    return lambda value, there: there and not any(_same(value, one) for one in unwanted)


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _numeric(operand: list[Any]) -> Rule:
    tests = list(zip(operand[::2], operand[1::2], strict=False))
    if not operand or len(operand) % 2 or len(operand) > 4:
        raise PatternError("numeric takes one comparison or two")
    for sign, bound in tests:
        if sign not in _COMPARISONS or not _is_number(bound):
            raise PatternError("numeric takes =, <, <=, > or >= and a number")
    return lambda value, there: _is_number(value) and all(_COMPARISONS[sign](value, bound) for sign, bound in tests)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(value: Any, wanted: Any) -> bool:
    """JSON's equality: true isn't 1."""
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)
