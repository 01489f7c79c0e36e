"""Filter criteria: which records pass; partial batch responses: which records failed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lading.service.sources.pattern import Filters, PatternError
from lading.service.sources.response import failed_records

RECORD = {
    "body": {"kind": "order", "total": 12.5, "tags": ["a", "b"], "gone": None, "paid": True, "none": []},
    "awsRegion": "eu-west-1",
}


@pytest.mark.parametrize(
    ("pattern", "passes"),
    [
        ({"awsRegion": ["eu-west-1"]}, True),
        ({"awsRegion": ["us-east-1"]}, False),
        ({"body": {"kind": ["order", "return"]}}, True),
        ({"body": {"kind": [{"prefix": "or"}], "total": [{"numeric": [">", 10, "<=", 12.5]}]}}, True),
        ({"body": {"kind": [{"prefix": "or"}], "total": [{"numeric": [">", 12.5]}]}}, False),
        ({"body": {"kind": [{"suffix": "der"}]}}, True),
        ({"body": {"kind": [{"equals-ignore-case": "ORDER"}]}}, True),
        ({"body": {"kind": [{"anything-but": ["return"]}]}}, True),
        ({"body": {"kind": [{"anything-but": {"prefix": "or"}}]}}, False),
        ({"body": {"missing": [{"anything-but": ["x"]}]}}, False),
        ({"body": {"missing": [{"exists": False}]}}, True),
        ({"body": {"kind": [{"exists": True}]}}, True),
        ({"body": {"gone": [None]}}, True),
        ({"body": {"missing": [None]}}, False),
        ({"body": {"tags": ["b"]}}, True),
        ({"body": {"tags": ["c"]}}, False),
        ({"body": {"none": [{"exists": False}]}}, True),
        ({"body": {"paid": [True]}}, True),
        ({"body": {"paid": [1]}}, False),
        ({"body": {"total": ["12.5"]}}, False),
        ({"body": {"kind": {"deeper": ["x"]}}}, False),
        ({"$or": [{"awsRegion": ["x"]}, {"body": {"total": [12.5]}}]}, True),
        ({"$or": [{"awsRegion": ["x"]}, {"awsRegion": ["y"]}]}, False),
    ],
)
def test_patterns(pattern: dict[str, Any], passes: bool) -> None:
    assert Filters([json.dumps(pattern)]).take(RECORD) is passes


def test_one_of_several_is_enough_and_none_lets_all_through() -> None:
    assert Filters(['{"awsRegion": ["x"]}', '{"awsRegion": ["eu-west-1"]}']).take(RECORD)
    assert Filters([]).take(RECORD) and not Filters([])
    assert Filters(['{"body": {"a": [1]}}']).wants_structure("body")
    assert not Filters(['{"body": ["a"]}']).wants_structure("body")


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "{}", '{"a": "b"}', '{"a": []}', '{"a": {}}', '{"a": [[1]]}', '{"a": [{"nosuch": 1}]}',
     '{"a": [{"prefix": 1}]}', '{"a": [{"numeric": [">"]}]}', '{"a": [{"numeric": ["~", 1]}]}', '{"$or": [{"a": [1]}]}',
     '{"a": [{"prefix": "x", "suffix": "y"}]}', '{"a":' * 40 + "[1]" + "}" * 40, "[" * 100_000],
)  # fmt: skip
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(PatternError):
        Filters([text])


@pytest.mark.parametrize(
    ("payload", "failed"),
    [
        (b"", ""),
        (b"null", ""),
        (b"{}", ""),
        (b'{"batchItemFailures": []}', ""),
        (b'{"batchItemFailures": null}', ""),
        (b'{"batchItemFailures": [{"itemIdentifier": "b"}]}', "b"),
        (b'{"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "a"}]}', "ab"),
        (b'{"batchItemFailures": [{"itemIdentifier": ""}]}', "abc"),
        (b'{"batchItemFailures": [{"itemIdentifier": null}]}', "abc"),
        (b'{"batchItemFailures": [{"itemIdentifier": "z"}]}', "abc"),
        (b'{"batchItemFailures": [{"wrong": "b"}]}', "abc"),
        (b'{"batchItemFailures": "b"}', "abc"),
        (b'"text"', "abc"),
        (b"not json", "abc"),
    ],
)
def test_partial_batch_responses(payload: bytes, failed: str) -> None:
    assert failed_records(payload, list("abc")) == frozenset(failed)
