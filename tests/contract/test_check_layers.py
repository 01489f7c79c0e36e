"""`lading check` and `lading explain` on layers, on artifacts with a manifest, and as a person sees them."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lading.cli.main import main
from lading.model.artifact import Manifest, PackedPackage

HANDLER = "import shop\ndef handler(event, context): ...\n"
METADATA = "Name: {name}\nVersion: 1.0\n{more}\n"


def write(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100644 << 16
            archive.writestr(info, text)
    return path


def distribution(name: str, *requires: str, root: str = "", body: str = "") -> dict[str, str]:
    more = "".join(f"Requires-Dist: {line}\n" for line in requires)
    info = f"{name}-1.0.dist-info"
    return {
        f"{root}{name}/__init__.py": body,
        f"{root}{info}/METADATA": METADATA.format(name=name, more=more),
        f"{root}{info}/RECORD": f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/RECORD,,\n",
    }


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    code = main([str(argument) for argument in (*arguments, "--json")])
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, value


def serious(value: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in value["findings"] if finding["severity"] != "advice"]


@pytest.mark.parametrize("root", ["python/", "python/lib/python3.13/site-packages/"])
def test_a_layer_completes_a_function(root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    function = write(tmp_path / "f.zip", {"app.py": HANDLER})
    layer = write(tmp_path / "layer.zip", distribution("shop", root=root))
    code, value = run(capsys, "check", function, "--runtime", "python3.13", "--handler", "app.handler")
    assert (code, serious(value)) == (5, ["missing-module"])
    code, value = run(
        capsys, "check", function, "--runtime", "python3.13", "--handler", "app.handler", "--layer", layer
    )
    assert (code, serious(value)) == (0, [])


def test_a_layer_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = write(tmp_path / "layer.zip", distribution("shop", root="python/", body="import nothere"))
    code, value = run(capsys, "check", layer)
    assert (code, value["kind"], serious(value)) == (0, "layer", ["missing-module"])
    assert value["findings"][0]["file"] == "python/shop/__init__.py"


def test_a_layer_for_another_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = write(tmp_path / "layer.zip", distribution("shop", root="python/lib/python3.12/site-packages/"))
    code, value = run(capsys, "check", layer, "--runtime", "python3.13")
    assert (code, serious(value)) == (5, ["layer-python"])


def test_six_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    function = write(tmp_path / "f.zip", {"app.py": HANDLER})
    layer = write(tmp_path / "layer.zip", distribution("shop", root="python/"))
    options = [part for _ in range(6) for part in ("--layer", layer)]
    code, value = run(capsys, "check", function, "--handler", "app.handler", *options)
    assert (code, serious(value)) == (5, ["layer-count"])


def test_a_handler_for_a_layer_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = write(tmp_path / "layer.zip", distribution("shop", root="python/"))
    assert main(["check", str(layer), "--handler", "app.handler"]) == 2
    assert "is a layer" in capsys.readouterr().err


def manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "name": "orders", "kind": "function", "runtime": "python3.12", "architecture": "arm64", "handler": "app.handler",
        "sha256": "0", "code_sha256": "0", "size": 1, "unzipped": 1, "files": 1,
        "packages": (PackedPackage("six", "1.0", "0", 1, 1, direct=True),),
    }  # fmt: skip
    return Manifest(**{**fields, **changes})


def test_the_manifest_beside_says_what_it_is_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"app.py": HANDLER, **distribution("shop", "six"), **distribution("six")}
    path = write(tmp_path / "orders.zip", files)
    (tmp_path / "orders.manifest.json").write_text(manifest().to_json())
    code, value = run(capsys, "check", path)
    assert (code, value["runtime"], value["architecture"], value["handlers"]) == (
        0,
        "python3.12",
        "arm64",
        ["app.handler"],
    )
    assert value["notes"] == []
    _, explained = run(capsys, "explain", path)
    assert {entry["name"]: entry["because"] for entry in explained["packages"]} == {"six": [], "shop": []}


def test_a_manifest_that_names_unseen_layers_softens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "orders.zip", {"app.py": HANDLER})
    (tmp_path / "orders.manifest.json").write_text(
        manifest(layers=("arn:aws:lambda:eu-west-1:1:layer:shop:1",)).to_json()
    )
    code, value = run(capsys, "check", path)
    assert (code, serious(value)) == (0, ["missing-module"])


def test_a_broken_manifest_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "orders.zip", {"app.py": HANDLER})
    (tmp_path / "orders.manifest.json").write_text('{"schema_version": 99}')
    assert main(["check", str(path)]) == 5
    assert "hint:" in capsys.readouterr().err


# Explain


def test_explain_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "app.py": HANDLER,
        **distribution("shop", "cart>=1", body="#" * 5000),
        **distribution("cart", "six"),
        **distribution("six"),
    }
    path = write(tmp_path / "f.zip", files)
    _, value = run(capsys, "explain", path)
    assert {entry["name"]: entry["because"] for entry in value["packages"]} == {
        "shop": [],
        "cart": ["shop"],
        "six": ["shop", "cart"],
    }
    assert value["own"]["files"] == 1
    assert value["tree"]["branches"][0]["name"] == "shop"
    assert sum(branch["size"] for branch in value["tree"]["branches"]) == value["tree"]["size"] == value["unzipped"]
    assert main(["explain", str(path), "--depth", "1"]) == 0
    text = capsys.readouterr().out
    assert "required by shop → cart" in text
    assert "(own code)" in text


def test_explain_refuses_what_is_no_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.zip").write_bytes(b"no")
    assert main(["explain", str(tmp_path / "x.zip")]) == 5
    assert "hint:" in capsys.readouterr().err


# As installed


def test_the_command_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "f.zip", {"app.py": HANDLER})
    command = [sys.executable, "-c", "from lading.cli.main import run; run()", "check", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={"NO_COLOR": "1", "PATH": ""})
    assert done.returncode == 5
    assert "error[missing-module]" in done.stderr
    assert "note: assuming --handler app.handler" in done.stderr
    assert "would fail on python3.13 on x86_64 (1 error" in done.stdout
    assert "\x1b[" not in done.stdout + done.stderr
