"""Every example is built and invoked with the installed command, and answers what its own code should make of its event."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command

pytestmark = [pytest.mark.network, pytest.mark.root]

EXAMPLES = ROOT / "examples"
RUNTIME = "3.13"
"""What the examples ask for; the newest Python of this machine stands in where it isn't installed."""


def is_report(answer: Any) -> None:
    assert answer["rows"] == 6
    assert answer["cold"] is True
    assert answer["report"] == [
        {"region": "east", "count": 2, "sum": 40.99, "mean": 20.49},
        {"region": "south", "count": 2, "sum": 34.5, "mean": 17.25},
        {"region": "north", "count": 2, "sum": 20.75, "mean": 10.38},
    ]
    assert answer["would_store_at"].startswith("https://reports.s3.")
    assert answer["would_send_bytes"] == len(json.dumps(answer["report"]))
    assert set(answer["versions"]) == {"python", "boto3", "numpy", "pandas", "requests"}


def is_invoice(answer: Any) -> None:
    assert answer["total"] == 1235.5
    assert "punched cards" in answer["text"] and "Total: 1235.50" in answer["text"]


def is_reminder(answer: Any) -> None:
    assert answer == {"text": "Dear Ada, 1235.50 is open since 1 day."}


def is_workdays(answer: Any) -> None:
    assert answer == ["2026-11-23", "2026-11-24", "2026-11-25"]


def is_converted(answer: Any) -> None:
    assert answer == {"json": json.dumps({"name": "lading", "tags": ["zip", "layer"]}, indent=2)}


def is_described(answer: Any) -> None:
    assert answer == {"name": "Describe", "memory": "128", "event_keys": ["a", "b"]}


def is_quoted(answer: Any) -> None:
    assert answer == {"price": 15.83, "currency": "EUR", "version": "$LATEST"}


@dataclass(frozen=True)
class Example:
    """`path` is what `lading build` is given, `function` the name in the project, `event` relative to the folder."""

    folder: str
    function: str
    event: str
    check: Callable[[Any], None]
    path: str = "."

    def __str__(self) -> str:
        return f"{self.folder}-{self.function}"


CASES = [
    Example("pandas-report", "pandas-report", "event.json", is_report),
    Example("layers", "invoice", "invoice/event.json", is_invoice),
    Example("layers", "reminder", "reminder/event.json", is_reminder),
    Example("script", "workdays", "event.json", is_workdays, path="workdays.py"),
    Example("deployed", "quote", "quote/event.json", is_quoted),
    Example("sam", "Convert", "convert/event.json", is_converted),
    Example("sam", "Describe", "describe/event.json", is_described),
]


@pytest.fixture(scope="module")
def runtime(interpreters: Mapping[str, Path]) -> list[str]:
    """The option that says for which runtime to build here."""
    if RUNTIME in interpreters:
        return ["--runtime", f"python{RUNTIME}"]
    if not interpreters:
        pytest.skip("no Python from 3.9 to 3.14 on this machine to run a function with")
    newest = max(interpreters, key=lambda version: int(version.split(".")[1]))
    return ["--runtime", f"python{newest}"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples: tests leave the checkout as it is."""
    copy = tmp_path_factory.mktemp("examples") / "examples"
    shutil.copytree(EXAMPLES, copy, ignore=shutil.ignore_patterns("dist", ".lading", "__pycache__"))
    return copy


def test_no_example_is_left_out() -> None:
    events = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.glob("*/**/event.json")}
    assert events == {f"{case.folder}/{case.event}" for case in CASES}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="execution environments need root")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_example_builds_and_answers(case: Example, folders: Path, runtime: list[str], lading: Command) -> None:
    folder = folders / case.folder
    built = lading("build", case.path, *runtime, "--json", cwd=folder).json
    assert not built["failed"]
    assert case.function in {artifact["name"] for artifact in built["artifacts"]}

    options = ["-C", case.path, "-e", case.event, *runtime]
    ran = lading("invoke", case.function, *options, cwd=folder)
    case.check(json.loads(ran.out))
    for line in ("START RequestId: ", "END RequestId: ", "REPORT RequestId: ", "Init Duration: "):
        assert ran.err.count(line) == 1, ran.err


def test_nothing_is_built_twice(folders: Path, runtime: list[str], lading: Command) -> None:
    lading("build", *runtime, cwd=folders / "layers")
    again = lading("build", *runtime, "--json", cwd=folders / "layers").json
    assert {artifact["name"]: artifact["built"] for artifact in again["artifacts"]} == {
        "templates": False,
        "invoice": False,
        "reminder": False,
    }
