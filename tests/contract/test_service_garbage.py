"""Packages that nothing refers to go at the next start; those that anything refers to stay."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from serve_zips import zipped

from lading.service.control.control import Control, Origin, open_control
from lading.service.control.names import Scope

ORIGIN = Origin(Scope("000000000000", "eu-west-1"), "http://127.0.0.1:4566")
ROLE = "arn:aws:iam::000000000000:role/r"


def call(control: Control, operation: str, **parameters: Any) -> dict[str, Any]:
    return control.run(operation, parameters, ORIGIN)


def create(control: Control, name: str, text: str, **parameters: Any) -> None:
    code = {"ZipFile": zipped({"app.py": text})}
    call(
        control,
        "CreateFunction",
        FunctionName=name,
        Runtime="python3.13",
        Role=ROLE,
        Handler="a.h",
        Code=code,
        **parameters,
    )
    settle(control, name)


def settle(control: Control, name: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = call(control, "GetFunctionConfiguration", FunctionName=name)
        if found["State"] == "Active" and found["LastUpdateStatus"] == "Successful":
            return
        time.sleep(0.005)
    raise AssertionError(found)


def layer(control: Control, name: str, text: str) -> str:
    content = {"ZipFile": zipped({"python/lib.py": text})}
    return str(call(control, "PublishLayerVersion", LayerName=name, Content=content)["LayerVersionArn"])


def on_disk(root: Path) -> set[str]:
    """Digests of the packages and of the trees that are there."""
    return {path.name for path in (root / "store").rglob("*") if len(path.name) == 64} | {
        path.name for path in (root / "trees").iterdir()
    }


def test_what_nothing_refers_to_goes_at_the_next_start(tmp_path: Path) -> None:
    control = open_control(tmp_path)
    create(control, "gone", "one")
    create(control, "kept", "two", Layers=[layer(control, "used", "three")])
    layer(control, "stands", "four")
    before = on_disk(tmp_path)
    call(control, "DeleteFunction", FunctionName="gone")
    call(control, "DeleteLayerVersion", LayerName="used", VersionNumber=1)
    assert on_disk(tmp_path) == before, "nothing goes while environments may run in it"
    control.close()
    control = open_control(tmp_path)
    try:
        after = on_disk(tmp_path)
        code = call(control, "GetFunction", FunctionName="kept")["Code"]["Location"].split("/")[-1].split("?")[0]
        assert after < before and len(before - after) == 1
        assert code in after and control.packages.has(code)
        for digest in after:
            assert control.packages.tree(digest).is_dir()
    finally:
        control.close()


def test_old_code_goes_and_versions_keep_theirs(tmp_path: Path) -> None:
    control = open_control(tmp_path)
    create(control, "f", "one", Publish=True)
    for text in ("two", "three"):
        call(control, "UpdateFunctionCode", FunctionName="f", ZipFile=zipped({"app.py": text}))
        settle(control, "f")
    assert len(on_disk(tmp_path)) == 3
    control.close()
    control = open_control(tmp_path)
    try:
        assert len(on_disk(tmp_path)) == 2
        assert call(control, "GetFunctionConfiguration", FunctionName="f", Qualifier="1")["State"] == "Active"
    finally:
        control.close()
