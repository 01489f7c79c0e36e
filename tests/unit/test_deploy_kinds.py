"""What neither endpoint of the end-to-end tests serves, Kafka and file systems: against AWS's documented answers and model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from lading.aws.functions import FunctionFound
from lading.config import load
from lading.deploy.instruction import Instruction, Verb, fill
from lading.deploy.kinds import function, mapping
from lading.deploy.parts import part_tags
from lading.deploy.place import Place
from lading.deploy.policy import deployer_policy
from lading.deploy.unit import Package, Subject, Unit

CLUSTER = "arn:aws:kafka:eu-west-1:111122223333:cluster/orders/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0-5"
ACCESS = "arn:aws:elasticfilesystem:eu-west-1:111122223333:access-point/fsap-0123456789abcdef0"
SECRET = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:kafka-abcdef"
MSK = f"type = 'kafka', source = '{CLUSTER}', topics = ['orders'], consumer-group = 'shop', batch-size = 50"
SERVERS = "bootstrap-servers = ['b:9092', 'a:9092']"
OWN = f"type = 'kafka', {SERVERS}, topics = ['orders'], source-access = {{ BASIC_AUTH = '{SECRET}' }}"
ANSWERS: dict[str, dict[str, Any]] = {
    MSK: {
        "UUID": "14e0db71-5d35-4eb5-b481-8945cf9d1001", "BatchSize": 50,
        "MaximumBatchingWindowInSeconds": 0, "EventSourceArn": CLUSTER, "State": "Enabled",
        "Topics": ["orders"], "StartingPosition": "LATEST", "DestinationConfig": {"OnFailure": {}},
        "AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "shop"},
    },
    OWN: {
        "UUID": "14e0db71-5d35-4eb5-b481-8945cf9d1002", "BatchSize": 100,
        "State": "Enabled", "Topics": ["orders"], "StartingPosition": "LATEST",
        "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["a:9092", "b:9092"]}},
        "SourceAccessConfigurations": [{"Type": "BASIC_AUTH", "URI": SECRET}],
    },
}  # fmt: skip
"""As ListEventSourceMappings gives what such a call made. Source: Lambda API reference, EventSourceMappingConfiguration."""


def unit_of(root: Path, lines: str) -> Unit:
    root.mkdir(exist_ok=True)
    (root / ".git").mkdir(exist_ok=True)
    text = f'[tool.lading.deploy]\nproject = "kinds"\n[tool.lading.functions.f]\nhandler = "app.handler"\n{lines}\n'
    (root / "pyproject.toml").write_text(text, "utf-8")
    (root / "app.py").write_text("def handler(event, context):\n    return event\n", "utf-8")
    project = load(root)
    place = Place("111122223333", "eu-west-1", "aws", project.deployment)
    return Unit(Subject("f", "f", place), project.functions[0], Package(root / "f.zip", "digest", 10, 20))


def refused(one: Instruction) -> str:
    """What botocore's model says against a call; empty when nothing."""
    model = botocore.session.get_session().get_service_model("lambda").operation_model(one.operation)
    report = ParamValidator().validate(fill(one.parameters, lambda *_: b"-"), model.input_shape)
    return str(report.generate_report())


@pytest.mark.parametrize("event", [MSK, OWN], ids=["msk", "self-managed"])
def test_kafka_is_made_left_alone_changed_and_removed(tmp_path: Path, event: str) -> None:
    unit = unit_of(tmp_path, f"events.e = {{ {event} }}")
    [(key, want)] = mapping.wanted(unit).items()
    [made] = mapping.diff(unit.subject, key, want, None)
    assert isinstance(made, Instruction) and made.operation == "CreateEventSourceMapping" and refused(made) == ""
    assert made.parameters["Topics"] == ["orders"] and made.parameters["StartingPosition"] == "LATEST"
    assert list(mapping.diff(unit.subject, key, want, ANSWERS[event])) == []
    changed = unit_of(
        tmp_path, f"events.e = {{ {event.replace(', batch-size = 50', '')}, window = 5, enabled = false }}"
    )
    [(same, other)] = mapping.wanted(changed).items()
    [update] = mapping.diff(unit.subject, key, other, ANSWERS[event])
    assert same == key, "the source is the same, so it is no other mapping"
    assert isinstance(update, Instruction) and update.operation == "UpdateEventSourceMapping" and refused(update) == ""
    assert {change.name for change in update.changes} >= {"MaximumBatchingWindowInSeconds", "Enabled"}
    [gone] = mapping.diff(unit.subject, key, None, ANSWERS[event])
    assert isinstance(gone, Instruction) and gone.parameters == {"UUID": ANSWERS[event]["UUID"]}


def found(unit: Unit, **more: Any) -> FunctionFound:
    """A function that is as `unit` wants it, but for what is stated here."""
    configuration = {"FunctionName": "f", "CodeSha256": "digest", **function.wanted_configuration(unit), **more}
    tags = {**unit.place.marks("f"), **part_tags(function.own_keys(unit))}
    return FunctionFound(configuration, tags)


def test_file_systems_are_made_changed_and_removed(tmp_path: Path) -> None:
    network = "vpc = { subnets = ['subnet-1'], security-groups = ['sg-1'] }"
    unit = unit_of(tmp_path, f"{network}\nfile-systems = [{{ arn = '{ACCESS}', path = '/mnt/data' }}]")
    there = [{"Arn": ACCESS, "LocalMountPath": "/mnt/data"}]
    parts = function.own_keys(unit)
    [made] = function.instructions(unit, None, parts, frozenset())
    assert isinstance(made, Instruction) and made.parameters["FileSystemConfigs"] == there
    assert refused(made) == ""
    assert list(function.instructions(unit, found(unit), parts, parts)) == []
    elsewhere = found(unit, FileSystemConfigs=[{**there[0], "LocalMountPath": "/mnt/x"}])
    [changed] = function.instructions(unit, elsewhere, parts, parts)
    assert isinstance(changed, Instruction) and changed.parameters == {"FunctionName": "f", "FileSystemConfigs": there}
    plain = unit_of(tmp_path, network)
    [removed] = function.instructions(plain, found(plain, FileSystemConfigs=there), parts, parts)
    assert isinstance(removed, Instruction) and removed.parameters["FileSystemConfigs"] == [] and refused(removed) == ""


def test_another_code_signing_configuration_comes_before_the_code(tmp_path: Path) -> None:
    arn = "arn:aws:lambda:eu-west-1:111122223333:code-signing-config:csc-0123456789abcdef{}"
    unit = unit_of(tmp_path, f"code-signing = '{arn.format(1)}'")
    parts, seen = function.own_keys(unit), found(unit, CodeSha256="other")
    was = FunctionFound(seen.configuration, seen.tags, signing=arn.format(0))
    steps = [one for one in function.instructions(unit, was, parts, parts) if isinstance(one, Instruction)]
    assert [one.operation for one in steps] == ["PutFunctionCodeSigningConfig", "UpdateFunctionCode"]
    assert steps[1].after == (steps[0].id,)
    plain = unit_of(tmp_path, "")
    gone = [
        one
        for one in function.instructions(plain, was, function.own_keys(plain), parts)
        if isinstance(one, Instruction)
    ]
    assert [(one.operation, one.verb) for one in gone[:2]] == [
        ("DeleteFunctionCodeSigningConfig", Verb.DELETE), ("UpdateFunctionCode", Verb.UPDATE),
    ]  # fmt: skip
    allowed = {action for one in deployer_policy(load(tmp_path), unit.place)["Statement"] for action in one["Action"]}
    assert "lambda:UpdateFunctionCode" in allowed


def test_who_prunes_images_may_see_which_versions_use_them(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    text = (
        '[tool.lading.deploy]\nproject = "kinds"\n{}\n'
        '[tool.lading.functions.f]\nhandler = "app.handler"\npackage = "image"\nbase = "base"\n'
    )
    for line, asked in (("", False), ("keep-images = 3", True)):
        (tmp_path / "pyproject.toml").write_text(text.format(line), "utf-8")
        (tmp_path / "app.py").write_text("def handler(event, context):\n    return event\n", "utf-8")
        project = load(tmp_path)
        place = Place("111122223333", "eu-west-1", "aws", project.deployment)
        allowed = {action for one in deployer_policy(project, place)["Statement"] for action in one["Action"]}
        assert ("lambda:ListVersionsByFunction" in allowed) is asked
