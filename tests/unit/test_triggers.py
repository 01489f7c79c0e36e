"""What a target makes of an event, and whether a policy lets a service in."""

from __future__ import annotations

from typing import Any

import pytest

from lading.service.control.permissions import Caller, allows
from lading.service.triggers.input import RuleNames, read_path, target_input

EVENT = {
    "id": "7", "detail-type": "Told", "time": "2026-11-26T18:00:00Z", "resources": ["a", "b"],
    "detail": {"state": 'a "b"\n', "list": [{"n": 1}, {"n": 2}, {}], "none": None, "deep": {"x.y": True}},
}  # fmt: skip
NAMES = RuleNames("arn:aws:events:eu-west-1:000000000000:rule/r", "r", "2026-11-26T18:00:01Z")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", EVENT),
        ("$.detail-type", "Told"),
        ("$.resources[1]", "b"),
        ("$.resources[2]", None),
        ("$.resources[99999999999999999999]", None),
        ("$.detail.list[*].n", [1, 2]),
        ("$.detail['deep']['x.y']", True),
        ("$.detail.nothing.there", None),
        ("$.id[0]", None),
        ("detail", None),
        ("$..n", None),
        ("$.detail[", None),
    ],
)
def test_paths(path: str, found: Any) -> None:
    assert read_path(EVENT, path) == found


@pytest.mark.parametrize(
    ("template", "paths", "expected"),
    [
        ('{"s": <s>}', {"s": "$.detail.state"}, '{"s": "a \\"b\\"\\n"}'),
        ('"it is <s>, <n>"', {"s": "$.detail.state", "n": "$.detail.list[0].n"}, '"it is a \\"b\\"\\n, 1"'),
        ('{"o": <o>, "t": "<o>"}', {"o": "$.detail.deep"}, '{"o": {"x.y":true}, "t": "{\\"x.y\\":true}"}'),
        ('{"gone": <gone>, "t": "<gone>"}', {"gone": "$.nothing"}, '{"gone": null, "t": ""}'),
        ("<unknown> <s>", {"s": "$.id"}, '<unknown> "7"'),
        ('"<aws.events.rule-name> <aws.events.rule-arn>"', {}, f'"r {NAMES.arn}"'),
        ("<aws.events.event.ingestion-time>", {}, f'"{NAMES.ingested}"'),
    ],
)
def test_templates(template: str, paths: dict[str, str], expected: str) -> None:
    target = {"InputTransformer": {"InputTemplate": template, "InputPathsMap": paths}}
    assert target_input(target, EVENT, NAMES) == expected


def test_a_template_has_the_whole_event_with_and_without_its_detail() -> None:
    target = {"InputTransformer": {"InputTemplate": "<aws.events.event.json> <aws.events.event>"}}
    whole, without = target_input(target, {"id": "7", "detail": {}}, NAMES).split(" ")
    assert (whole, without) == ('{"id":"7","detail":{}}', '{"id":"7"}')


S3 = Caller("s3.amazonaws.com", "arn:aws:s3:::pictures", "000000000000")


def statement(**more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "lambda:InvokeFunction", **more}


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([], False),
        ([statement()], True),
        ([statement(Action="lambda:*")], True),
        ([statement(Action=["lambda:GetFunction", "lambda:Invoke*"])], True),
        ([statement(Action="lambda:InvokeFunctionUrl")], False),
        ([statement(Principal="*")], True),
        ([statement(Principal={"AWS": "*"})], True),
        ([statement(Principal={"AWS": "arn:aws:iam::000000000000:root"})], False),
        ([statement(Principal={"Service": ["sns.amazonaws.com", "s3.amazonaws.com"]})], True),
        ([statement(Principal={"Service": "sns.amazonaws.com"})], False),
        ([statement(), statement(Effect="Deny")], False),
        (
            [statement(), statement(Effect="Deny", Condition={"StringEquals": {"AWS:SourceAccount": "111111111111"}})],
            True,
        ),
        ([statement(Condition={"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::pictures"}})], True),
        ([statement(Condition={"ArnLike": {"aws:sourcearn": "arn:aws:s3:::pic*"}})], True),
        ([statement(Condition={"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::other"}})], False),
        ([statement(Condition={"ArnLike": {"AWS:SourceArn": "arn:*"}})], False),
        ([statement(Condition={"ArnNotLike": {"AWS:SourceArn": "arn:aws:s3:::other"}})], True),
        ([statement(Condition={"StringEquals": {"AWS:SourceAccount": ["1", "000000000000"]}})], True),
        ([statement(Condition={"StringEquals": {"AWS:SourceAccount": "111111111111"}})], False),
        ([statement(Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}})], False),
        ([statement(Condition={"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}})], True),
        ([statement(Condition={"StringLike": {"AWS:SourceArn": "arn:aws:s3:::[p]ictures"}})], False),
        ([statement(Condition={"Bool": {"AWS:SourceArn": "true"}})], False),
    ],
)
def test_policies(statements: list[dict[str, Any]], expected: bool) -> None:
    assert allows(statements, S3) is expected
