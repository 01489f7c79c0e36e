"""The example that is deployed: made, invoked, changed, taken back and removed by the installed command, on the local service."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command
from deploy_support import ENVIRONMENT, Endpoint, everything
from serve_support import service

pytestmark = [pytest.mark.network, pytest.mark.root]


def test_from_nothing_and_back(tmp_path: Path, lading: Command, interpreters: Mapping[str, Path]) -> None:
    if "3.13" not in interpreters:
        pytest.skip("the example asks for Python 3.13, which isn't on this machine")
    folder = tmp_path / "deployed"
    shutil.copytree(ROOT / "examples" / "deployed", folder, ignore=shutil.ignore_patterns("dist", ".lading"))
    with service(neighbours={}) as url:
        target = Endpoint("local", url)
        empty = everything(target)

        def run(*arguments: str, code: int = 0) -> str:
            return lading(*arguments, cwd=folder, env={**ENVIRONMENT, "AWS_ENDPOINT_URL": url}, code=code).out

        def quoted() -> Any:
            return json.loads(run("invoke", "quote", "--remote", "-e", "quote/event.json"))

        assert "+ function quote: CreateFunction" in run("plan", "--detailed-exitcode", code=2)
        assert everything(target) == empty, "a plan changes nothing"
        made = run("deploy")
        for part in ("URL of quote:live", "rule remind-mondays", "alias remind:live", "log group /aws/lambda/quote"):
            assert f"+ {part}: " in made
        assert quoted() == {"price": 15.83, "currency": "EUR", "version": "1"}
        assert "nothing to do" in run("deploy")

        code = folder / "quote" / "quote.py"
        source = code.read_text()
        code.write_text(source.replace('PRICES[event["zone"]]', 'PRICES[event["region"]]'))
        broken = lading("deploy", cwd=folder, env={**ENVIRONMENT, "AWS_ENDPOINT_URL": url}, code=8)
        assert "version 2 failed its smoke test" in broken.err
        assert quoted()["version"] == "1", "callers never met it"

        code.write_text(source.replace("9.50", "10.00"))
        run("deploy")
        assert quoted() == {"price": 16.67, "currency": "EUR", "version": "3"}
        assert "version: 3 → 1" in run("rollback", "1", "-n", "quote")
        assert quoted() == {"price": 15.83, "currency": "EUR", "version": "1"}
        [quote, remind] = json.loads(run("status", "--json"))
        assert (quote["aliases"], remind["aliases"]) == (["live → 1"], ["live → 1"])

        run("destroy", "--yes")
        assert everything(target) == empty
