"""After deploying, with the installed command against the local service: invoke, log, status; and what is exported."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import hcl2
import pytest
from conftest import LADING, Command
from following import Following
from serve_support import REGION, client, service

HANDLER = """
def lambda_handler(event, context):
    print("seen", event)
    if event.get("fail"):
        raise RuntimeError("as asked")
    return {"version": context.function_version, "event": event}
"""
PROJECT = """
[tool.lading]
runtime = "python3.11"
[tool.lading.deploy]
project = "remote"
[tool.lading.functions.orders]
alias = "live"
"""

pytestmark = [pytest.mark.root, pytest.mark.network]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service(neighbours={}) as address:
        yield address


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, lading: Command, url: str) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "lambda_function.py").write_text(HANDLER)
    lading("deploy", "--yes", cwd=folder, env=environment(url))
    return folder


def environment(url: str) -> Mapping[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
    return {**keys, "AWS_ENDPOINT_URL": url}


def test_the_deployed_function_is_invoked(lading: Command, project: Path, url: str) -> None:
    ran = lading("invoke", "orders", "--remote", "-e", '{"a": 1}', cwd=project, env=environment(url))
    assert json.loads(ran.out) == {"version": "1", "event": {"a": 1}}
    assert "START RequestId" in ran.err
    assert "REPORT RequestId" in ran.err
    latest = lading("invoke", "--remote", "--qualifier", "$LATEST", cwd=project, env=environment(url))
    assert json.loads(latest.out)["version"] == "$LATEST"


def test_its_failure_is_the_command_s(lading: Command, project: Path, url: str) -> None:
    ran = lading("invoke", "orders", "--remote", "-e", '{"fail": 1}', cwd=project, env=environment(url), code=1)
    assert json.loads(ran.out)["errorType"] == "RuntimeError"


def test_its_log_is_printed_and_followed(lading: Command, project: Path, url: str) -> None:
    """By name, or of the project's only function."""
    api = client(url)
    api.invoke(FunctionName="orders", Qualifier="live", Payload=b'{"mark": "of-this-test"}')
    assert "of-this-test" in lading("logs", "--remote", cwd=project, env=environment(url)).out
    assert "name it" in lading("logs", cwd=project, env=environment(url), code=2).err
    following = (LADING, "logs", "orders", "--remote", "-f")
    with Following(following, project, lading.environment(environment(url))) as log:
        log.printed("of-this-test")
        for mark in ("first", "second"):
            api.invoke(FunctionName="orders", Qualifier="live", Payload=json.dumps({"mark": f"the-{mark}"}).encode())
            log.printed(f"the-{mark}")


def test_status_tells_what_runs_where(lading: Command, project: Path, url: str) -> None:
    client(url).invoke(FunctionName="orders", Qualifier="live", Payload=b'{"fail": 1}')
    [one] = lading("status", "--json", cwd=project, env=environment(url)).json
    assert (one["name"], one["region"], one["state"], one["runtime"]) == ("orders", REGION, "Active", "python3.11")
    assert one["aliases"] == ["live → 1"]
    assert "as asked" in one["last_error"]
    assert "live → 1" in lading("status", cwd=project, env=environment(url)).out


def test_a_function_that_is_not_there_says_so(lading: Command, tmp_path: Path, url: str) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT.replace("functions.orders", "functions.nobody"))
    (tmp_path / "lambda_function.py").write_text(HANDLER)
    [one] = lading("status", "--json", cwd=tmp_path, env=environment(url)).json
    assert one["state"] == "not deployed"
    ran = lading("invoke", "nobody", "--remote", cwd=tmp_path, env=environment(url), code=None)
    assert ran.code != 0
    assert "Function not found" in ran.err


def test_options_of_places_need_remote(lading: Command, project: Path) -> None:
    ran = lading("invoke", "orders", "--qualifier", "live", cwd=project, code=2)
    assert "--qualifier without --remote" in ran.err
    ran = lading("invoke", "orders", "--remote", "--debug", cwd=project, code=2)
    assert "--debug together with --remote" in ran.err


def external(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """As Terraform's data source `external` runs a program: a query on its input, one flat object of texts as its output."""
    program = [LADING, "build", "--json", "--flat"]
    ran = subprocess.run(
        program,
        cwd=folder,
        env=environment,
        input='{"any": "query"}',
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    found: dict[str, str] = json.loads(ran.stdout)
    return found


def test_a_build_that_fails_ends_so_for_terraform(tmp_path: Path, lading: Command) -> None:
    ran = lading("build", "--json", "--flat", cwd=tmp_path, code=None)
    assert ran.code != 0 and ran.out == "" and "error: " in ran.err


def test_exported_files_refer_to_what_is_built(lading: Command, project: Path) -> None:
    flat = external(project, lading.environment())
    assert all(isinstance(value, str) for value in flat.values())
    assert Path(flat["orders.path"]).stat().st_size == int(flat["orders.size"])
    ran = lading("export", "terraform", cwd=project)
    text = Path(ran.out.strip()).read_text()
    assert flat["orders.code_sha256"] in text
    assert hcl2.loads(text)["resource"]
    for name in ("cloudformation", "sam", "cdk"):
        written = [Path(line) for line in lading("export", name, "--no-build", cwd=project).out.split()]
        assert flat["orders.sha256"][:32] in "".join(path.read_text() for path in written)
