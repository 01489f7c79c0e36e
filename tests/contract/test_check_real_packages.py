"""No false alarms: real packages, as pip would lay them out for Lambda, are clean; the ones that can't work there are told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lading.cli.main import main

pytestmark = pytest.mark.network

CLEAN = {
    "data": (["numpy", "pandas", "boto3", "requests", "pydantic"], "import numpy, pandas, boto3, requests, pydantic"),
    "native": (
        ["cryptography", "lxml", "pillow", "orjson", "psycopg2-binary"],
        "import cryptography.hazmat.bindings._rust, lxml.etree, PIL.Image, orjson, psycopg2",
    ),
    "web": (["werkzeug", "flask", "fastapi", "sqlalchemy"], "import werkzeug, flask, fastapi, sqlalchemy.orm"),
    "language models": (["langchain-core", "openai"], "import langchain_core.prompts, openai"),
    "science": (["scipy", "scikit-learn"], "import scipy.stats, sklearn.linear_model"),
    "vision": (["opencv-python-headless"], "import cv2"),
}


def install(folder: Path, packages: list[str], line: str) -> None:
    from uv import find_uv_bin

    command = [
        find_uv_bin(), "pip", "install", "--quiet", "--target", str(folder), "--python-platform", "x86_64-manylinux_2_28",
        "--python-version", "3.13", "--only-binary", ":all:", *packages,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"can't install {', '.join(packages)}: {done.stderr.strip()[-300:]}")
    (folder / "lambda_function.py").write_text(f"{line}\n\n\ndef lambda_handler(event, context): ...\n")


def check(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[dict[str, Any]]]:
    target = ["--runtime", "python3.13", "--architecture", "x86_64"]
    code = main(["check", str(folder), *target, "--json", *options])
    return code, json.loads(capsys.readouterr().out)["findings"]


@pytest.mark.parametrize("what", CLEAN)
def test_real_packages_are_clean(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packages, line = CLEAN[what]
    install(tmp_path, packages, line)
    code, findings = check(tmp_path, capsys)
    assert (code, [finding for finding in findings if finding["severity"] != "advice"]) == (0, [])


def test_opencv_with_windows_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(tmp_path, ["opencv-python"], "import cv2")
    code, findings = check(tmp_path, capsys)
    missing = {finding["message"].split()[1] for finding in findings if finding["severity"] == "error"}
    assert code == 5
    assert {"libGL.so.1", "libgthread-2.0.so.0"} <= missing
    assert all("headless" in finding["fix"] for finding in findings if finding["severity"] == "error")


def test_the_wrong_architecture_and_python_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(tmp_path, ["orjson"], "import orjson")
    code, findings = check(tmp_path, capsys, "--architecture", "arm64")
    assert (code, findings[0]["code"]) == (5, "elf-machine")
    code, findings = check(tmp_path, capsys, "--runtime", "python3.12")
    assert (code, findings[0]["code"]) == (5, "extension-python")


def test_a_package_taken_out_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    install(tmp_path, ["requests"], "import requests")
    shutil.rmtree(tmp_path / "certifi")
    code, findings = check(tmp_path, capsys)
    assert code == 5
    assert any(finding["code"] == "missing-module" and "certifi" in finding["message"] for finding in findings)
