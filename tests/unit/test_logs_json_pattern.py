"""Patterns over JSON log lines, as CloudWatch Logs' guide has them."""

from __future__ import annotations

import json

import pytest

from lading.service.contract.errors import ApiError
from lading.service.logs.pattern import compile_pattern

LINE = json.dumps({
    "level": "ERROR", "took": 120.5, "count": 3, "ok": True, "bad": False, "none": None, "ip": "10.0.0.7", "a b": "spaced",
    "user": {"id": 7, "tags": ["x", {"deep": "y"}]}, "text": 'say "hi"', "number": "3",
})  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ('{ $.level = "ERROR" }', True),
        ("{$.level=ERROR}", True),
        ('{ $.level = "error" }', False),
        ('{ $.level != "INFO" }', True),
        ('{ $.level = "ERR*" }', True),
        ("{ $.ip = 10.0.* }", True),
        ("{ $.ip != 10.0.* }", False),
        ("{ $.took > 120 }", True),
        ("{ $.took >= 1.205e2 && $.took <= 120.5 }", True),
        ("{ $.took < 120.5 }", False),
        ("{ $.count = 3 }", True),
        ("{ $.count = 3.0 }", True),
        ("{ $.number = 3 }", True),
        ("{ $.number > 2 }", False),
        ("{ $.ok IS TRUE }", True),
        ("{ $.bad is false }", True),
        ("{ $.none IS NULL }", True),
        ("{ $.gone IS NULL }", False),
        ("{ $.gone NOT EXISTS }", True),
        ("{ $.none NOT EXISTS }", False),
        ('{ $.gone != "x" }', False),
        ("{ $.ok = true }", True),
        ("{ $.user.id = 7 }", True),
        ('{ $.user.tags[0] = "x" && $.user.tags[1].deep = y }', True),
        ("{ $.user.tags[9999999999999].deep NOT EXISTS }", True),
        ("{ $['a b'] = spaced }", True),
        (r'{ $.text = "say \"hi\"" }', True),
        ("{ $.user = 7 }", False),
        ("{ $.ok > 0 }", False),
        ("{ $.level = INFO || $.count = 3 && $.took > 200 }", False),
        ("{ ($.level = INFO || $.count = 3) && $.took > 100 }", True),
    ],
)
def test_patterns(pattern: str, expected: bool) -> None:
    assert compile_pattern(pattern)(LINE + "\n") is expected


@pytest.mark.parametrize("message", ["", "plain {text}", "[" * 100_000, "3", "null"])
def test_what_is_no_object_matches_nothing(message: str) -> None:
    assert not compile_pattern("{ $.a = * }")(message)


@pytest.mark.parametrize(
    "pattern",
    [
        "{", "{}", "{ $.a }", "{ $.a = }", "{ a = 1 }", "{ $.a = 1", "{ $.a = 1 && }", "{ ($.a = 1 }", "{ $.a > x }",
        "{ $.a IS GONE }", "{ $.a = 1 } x", "{ $.a = 1 $.b = 2 }", "{ " + "(" * 1_000 + "$.a = 1" + ")" * 1_000 + " }",
    ],
)  # fmt: skip
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ApiError) as caught:
        compile_pattern(pattern)
    assert caught.value.code == "InvalidParameterException"


def test_regular_expressions_are_not_here() -> None:
    with pytest.raises(ApiError) as caught:
        compile_pattern("{ $.a = %x% }")
    assert caught.value.status == 501
