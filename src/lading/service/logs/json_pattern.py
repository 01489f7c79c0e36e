"""Filter patterns over JSON: { $.level = "ERROR" && ($.took > 100 || $.user.id NOT EXISTS) }. Pure.

Source: CloudWatch Logs user guide, "Filter pattern syntax", JSON log events. Regular expressions are refused.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.control.refusal import not_here

DEPTH = 50
"""Of parentheses."""
Matches = Callable[[Any], bool]
_TOKEN = re.compile(
    r"""\s*(?:(?P<sign>&&|\|\||\(|\)|!=|<=|>=|=|<|>)
    |(?P<selector>\$(?:\.[\w@/-]+|\[\d+\]|\['[^']*'\]|\["[^"]*"\])*)
    |"(?P<text>(?:[^"\\]|\\.)*)"
    |(?P<word>[^\s"()&|=!<>]+))""",
    re.VERBOSE,
)
_STEP = re.compile(r"\.([\w@/-]+)|\[(\d+)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")
_COMPARED = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_MISSING = object()


def compile_json_pattern(pattern: str) -> Callable[[str], bool]:
    """Whether a message is JSON that matches. Raises ApiError for a pattern that is wrong."""
    if not pattern.endswith("}"):
        raise _wrong(pattern)
    reader = _Reader(pattern, _tokens(pattern))
    matches = reader.alternatives(0)
    if reader.tokens:
        raise _wrong(pattern)

    def matches_message(message: str) -> bool:
        if "{" not in message and "[" not in message:
            return False
        try:
            return matches(json.loads(message))
        except (ValueError, RecursionError):
            return False

    return matches_message


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def _tokens(pattern: str) -> list[_Token]:
    """The last one first."""
    found, at, inside = [], 0, pattern[1:-1].rstrip()
    while at < len(inside):
        match = _TOKEN.match(inside, at)
        if match is None or match.lastgroup is None:
            raise _wrong(pattern)
        found.append(_Token(match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found[::-1]


@dataclass
class _Reader:
    """Reads || of && of comparisons and parentheses."""

    pattern: str
    tokens: list[_Token]

    def alternatives(self, depth: int) -> Matches:
        found = [self._together(depth)]
        while self._takes("||"):
            found.append(self._together(depth))
        return lambda value: any(one(value) for one in found)

    def _together(self, depth: int) -> Matches:
        found = [self._one(depth)]
        while self._takes("&&"):
            found.append(self._one(depth))
        return lambda value: all(one(value) for one in found)

    def _one(self, depth: int) -> Matches:
        if self._takes("("):
            if depth == DEPTH:
                raise _wrong(self.pattern)
            inner = self.alternatives(depth + 1)
            if not self._takes(")"):
                raise _wrong(self.pattern)
            return inner
        steps = _STEP.findall(self._next("selector").text)
        first = self._next()
        if first.kind == "word":
            return _states(self.pattern, first.text, self._next("word").text, steps)
        if first.kind != "sign" or first.text not in (*_COMPARED, "=", "!="):
            raise _wrong(self.pattern)
        return _compares(self.pattern, first.text, self._next(), steps)

    def _takes(self, sign: str) -> bool:
        if self.tokens and self.tokens[-1] == _Token("sign", sign):
            self.tokens.pop()
            return True
        return False

    def _next(self, kind: str = "") -> _Token:
        if not self.tokens or (kind and self.tokens[-1].kind != kind):
            raise _wrong(self.pattern)
        return self.tokens.pop()


def _states(pattern: str, first: str, second: str, steps: list[Any]) -> Matches:
    """IS TRUE, IS FALSE, IS NULL, NOT EXISTS."""
    wanted = {("IS", "TRUE"): True, ("IS", "FALSE"): False, ("IS", "NULL"): None, ("NOT", "EXISTS"): _MISSING}
    key = first.upper(), second.upper()
    if key not in wanted:
        raise _wrong(pattern)
    return lambda value: _find(value, steps) is wanted[key]


def _compares(pattern: str, sign: str, token: _Token, steps: list[Any]) -> Matches:
    """Numbers as numbers, texts with * for anything. What isn't there equals nothing, and differs from nothing."""
    if token.kind not in ("text", "word"):
        raise _wrong(pattern)
    if token.kind == "word" and token.text.startswith("%"):
        raise not_here("a filter pattern with a regular expression", "use * for any text")
    number = _number(token.text) if token.kind == "word" else None
    if sign in _COMPARED:
        if number is None:
            raise _wrong(pattern)
        compare, bound = _COMPARED[sign], number

        def compares(value: Any) -> bool:
            found = _find(value, steps)
            return isinstance(found, int | float) and not isinstance(found, bool) and compare(found, bound)

        return compares
    text = re.sub(r"\\(.)", r"\1", token.text)
    same = re.compile(".*".join(map(re.escape, re.split(r"\*+", text))), re.DOTALL)

    def equals(value: Any) -> bool:
        found = _find(value, steps)
        if found is _MISSING or found is None or isinstance(found, dict | list):
            return False
        if number is not None and isinstance(found, int | float) and not isinstance(found, bool):
            met = found == number
        else:
            met = same.fullmatch(found if isinstance(found, str) else json.dumps(found)) is not None
        return met == (sign == "=")

    return equals


def _find(value: Any, steps: list[tuple[str, str, str, str]]) -> Any:
    for name, index, single, double in steps:
        if index:
            place = int(index) if len(index) < 10 else -1
            value = value[place] if isinstance(value, list) and 0 <= place < len(value) else _MISSING
        else:
            value = value.get(name or single or double, _MISSING) if isinstance(value, dict) else _MISSING
    return value


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?", text) else None


def _wrong(pattern: str) -> ApiError:
    return ApiError("InvalidParameterException", f"Invalid filter pattern: {pattern[:200]}")
