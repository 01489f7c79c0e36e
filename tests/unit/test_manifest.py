"""A manifest says what is in an artifact; reading gives back what was written, and nothing else is taken for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lading.errors import AuditError
from lading.model.artifact import Artifact, LeftOut, Manifest, PackedPackage, manifest_path, read_manifest
from lading.model.finding import Finding, Severity

MANIFEST = Manifest(
    name="orders",
    kind="function",
    runtime="python3.13",
    architecture="arm64",
    handler="app.handler",
    sha256="ab" * 32,
    code_sha256="q6urq6s=",
    size=10,
    unzipped=20,
    files=2,
    packages=(PackedPackage("six", "1.17.0", "cd" * 32, 34, 12, direct=True),),
    left_out=(
        LeftOut("boto3", "1.40.0", "bundled with the runtime", 100),
        LeftOut("urllib3", "2.5.0", "in layer 'x'", 11),
    ),
    layers=("shared",),
    bytecode="on",
    bytecode_left_out=("pandas",),
)


def test_a_manifest_reads_back() -> None:
    assert read_manifest(MANIFEST.to_json()) == MANIFEST


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '"x"', '{"schema_version": 1}', json.dumps({"schema_version": 1, "nam": "x"})]
)
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(AuditError, match="not a manifest"):
        read_manifest(text)


def test_a_later_version_is_refused_by_number() -> None:
    with pytest.raises(AuditError, match="version 99"):
        read_manifest('{"schema_version": 99}')


def test_an_artifact_knows_what_it_saved_and_whether_it_failed() -> None:
    artifact = Artifact(Path("dist/orders.zip"), MANIFEST)
    assert artifact.saved == 111
    assert not artifact.failed
    assert Artifact(artifact.path, MANIFEST, (Finding("x", Severity.ERROR, "broken"),)).failed
    assert manifest_path(artifact.path) == Path("dist/orders.manifest.json")
