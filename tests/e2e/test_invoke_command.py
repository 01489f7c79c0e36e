"""`lading invoke` as installed: result on stdout, log on stderr, exit codes, the table, errors with hints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.network]
LADING = [sys.executable, "-m", "lading.cli.main"]


@pytest.fixture(scope="module", autouse=True)
def rooted() -> None:
    if os.geteuid() != 0:
        pytest.skip("lading invoke with all walls needs root")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "lambda_function.py").write_text(
        "import os\n"
        "def lambda_handler(event, context):\n"
        "    print('got', event)\n"
        "    if event.get('fail'):\n"
        "        raise RuntimeError('asked to')\n"
        "    return {'event': event, 'mine': os.environ.get('MINE'), 'arn': context.invoked_function_arn}\n",
        "utf-8",
    )
    return folder


def invoke(folder: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [*LADING, "invoke", *arguments]
    return subprocess.run(command, cwd=folder, input=given, capture_output=True, text=True, timeout=120, check=False)


def test_result_and_log_are_apart(project: Path) -> None:
    done = invoke(project, "--artifact", ".", "-e", '{"a": 1}', "--env", "MINE=yes")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["event"] == {"a": 1}
    assert json.loads(done.stdout)["mine"] == "yes"
    assert re.search(
        r"START RequestId: \S+ Version: \$LATEST\ngot \{'a': 1\}\nEND RequestId: \S+\nREPORT ", done.stderr
    )


def test_a_custom_runtime(tmp_path: Path) -> None:
    bootstrap = tmp_path / "bootstrap"
    bootstrap.write_text("#!/bin/bash\necho started $_HANDLER\nexit 3\n", "utf-8")
    bootstrap.chmod(0o755)
    tmp_path.chmod(0o755)
    done = invoke(tmp_path, "--artifact", ".", "--runtime", "provided.al2023", "--handler", "mine", "-e", "1")
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["errorMessage"].endswith("Runtime exited with error: exit status 3")
    assert "started mine" in done.stderr


def test_the_project_is_built_first(project: Path) -> None:
    done = invoke(project, "-e", '{"a": 2}')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["event"] == {"a": 2}
    again = invoke(project, "--no-build")
    assert again.returncode == 0, again.stderr


def test_a_folder_that_a_function_could_not_read(project: Path) -> None:
    project.chmod(0o700)
    done = invoke(project, "--artifact", ".")
    assert done.returncode == 2
    assert "is closed to other users" in done.stderr
    assert "hint: chmod o+rx" in done.stderr


def test_a_failing_function_is_exit_code_1(project: Path) -> None:
    done = invoke(project, "--artifact", ".", "-e", '{"fail": true}')
    assert done.returncode == 1
    assert json.loads(done.stdout)["errorType"] == "RuntimeError"
    assert "[ERROR] RuntimeError: asked to\nTraceback" in done.stderr


def test_events_from_stdin_and_file(project: Path) -> None:
    done = invoke(project, "--artifact", ".", "-e", "-", given='{"from": "stdin"}')
    assert json.loads(done.stdout)["event"] == {"from": "stdin"}
    (project / "event.json").write_text('{"from": "file"}', "utf-8")
    done = invoke(project, "--artifact", ".", "-e", "event.json")
    assert json.loads(done.stdout)["event"] == {"from": "file"}


def test_many_print_a_table_and_a_timeline(project: Path) -> None:
    done = invoke(project, "--artifact", ".", "--count", "30", "--concurrency", "3", "--memory", "1769")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^warm, run +2\d +[\d.]+ ms +[\d.]+ ms +[\d.]+ ms$", done.stdout, re.MULTILINE)
    assert re.search(r"^invokes +30 in ", done.stdout, re.MULTILINE)
    assert re.search(r"^cost +\$[\d.]+ per million", done.stdout, re.MULTILINE)
    assert len(re.findall(r"^[0-9a-f]{8} \|.{60}\|$", done.stdout, re.MULTILINE)) <= 3


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--artifact", ".", "-e", "{nonsense"], "the event is not JSON", "try: -e"),
        (["--artifact", ".", "-e", "missing.json"], "can't read the event missing.json", "give a file"),
        (["--artifact", ".", "--env", "X"], "not a variable: 'X'", "NAME=VALUE"),
        (["--artifact", ".", "--runtime", "python3.99"], "unknown runtime 'python3.99'", "python3."),
    ],
)
def test_wrong_use(project: Path, arguments: list[str], message: str, hint: str) -> None:
    done = invoke(project, *arguments)
    assert done.returncode == 2
    assert f"error: {message}" in done.stderr
    assert hint in done.stderr


def test_snap_start_restores_what_the_init_left(project: Path) -> None:
    (project / "lambda_function.py").write_text(
        "import os, random, time\nprint('init')\nstarted = time.time()\n"
        "def lambda_handler(event, context):\n    time.sleep(0.2)\n"
        "    return [started, os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']]\n",
        "utf-8",
    )
    done = invoke(project, "--artifact", ".", "--snap-start", "--count", "3", "--concurrency", "3", "-v")
    assert done.returncode == 0, done.stderr
    results, table = done.stdout.splitlines()[:3], done.stdout.splitlines()[3:]
    assert len(set(results)) == 1 and json.loads(results[0])[1] == "snap-start"
    assert any(line.startswith("cold, restore") for line in table)
    assert done.stderr.splitlines().count("init") == 1
    assert done.stderr.count("RESTORE_REPORT Restore Duration: ") == 3


def test_snap_start_that_fails_says_why(project: Path) -> None:
    (project / "lambda_function.py").write_text("raise RuntimeError('at import')\n", "utf-8")
    done = invoke(project, "--artifact", ".", "--snap-start")
    assert done.returncode != 0
    assert "error: no snapshot of" in done.stderr and "hint: " in done.stderr and "at import" in done.stderr
    refused = invoke(project, "--artifact", ".", "--snap-start", "--runtime", "python3.11")
    assert refused.returncode == 2 and "error: no SnapStart for python3.11" in refused.stderr
    beside = invoke(project, "--artifact", ".", "--snap-start", "--watch")
    assert beside.returncode == 2 and "--watch together with --snap-start" in beside.stderr


def test_verbose_shows_each_result_and_log_cold_then_warm(project: Path) -> None:
    (project / "lambda_function.py").write_text(
        "import time\nstarted = time.time()\ndef lambda_handler(event, context):\n    return started\n", "utf-8"
    )
    done = invoke(project, "--artifact", ".", "--count", "2", "-v", "--memory", "1769")
    first, second, *table = done.stdout.splitlines()
    assert first == second, "the second invoke is warm: the same process"
    assert any(line.startswith("warm, run") for line in table)
    assert [
        line.split()[0]
        for line in done.stderr.splitlines()
        if line.startswith(("INIT_START", "START", "END", "REPORT"))
    ] == [
        "INIT_START",
        *["START", "END", "REPORT"] * 2,
    ]
