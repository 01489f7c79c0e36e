"""`lading invoke --debug`: a real debugger attaches over the socket, stops at a line of the project's file, and goes on."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from conftest import LADING, Command, Write
from debug_client import DebugClient
from following import Following

pytestmark = [pytest.mark.root, pytest.mark.network]
CODE = """
    loaded = 1

    def lambda_handler(event, context):
        secret = event * 6
        return secret
"""


@pytest.fixture(autouse=True)
def rooted() -> None:
    if os.geteuid() != 0:
        pytest.skip("lading invoke with all walls needs root")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def step(debugger: DebugClient) -> tuple[dict[str, object], int]:
    """Where it stopped: the innermost frame, and the thread."""
    thread = debugger.event("stopped")["threadId"]
    return debugger.ask("stackTrace", threadId=thread)["stackFrames"][0], thread


@pytest.mark.parametrize("options", [("--isolation", "root"), ("--isolation", "user"), ("--artifact", ".")])
def test_breakpoints_in_the_projects_files(write: Write, lading: Command, options: tuple[str, ...]):
    project = write("debugged", {"lambda_function.py": CODE})
    port, file = free_port(), str(project / "lambda_function.py")
    command = [
        LADING,
        "invoke",
        "-e",
        "7",
        "--debug",
        "--debug-address",
        f"127.0.0.1:{port}",
        "--network",
        "none",
        *options,
    ]
    with Following(command, project, lading.environment()) as invoking:
        invoking.said(f"waiting for a debugger at 127.0.0.1:{port}")
        invoking.said("INIT_START")
        with DebugClient(port) as debugger:
            assert debugger.attach({file: [1, 5]}) == {file: [True, True]}
            frame, thread = step(debugger)
            assert (frame["source"]["path"], frame["line"]) == (file, 1), "module level, in the init phase"
            debugger.ask("continue", threadId=thread)
            frame, thread = step(debugger)
            assert (frame["source"]["path"], frame["line"]) == (file, 5)
            assert debugger.ask("evaluate", expression="secret", frameId=frame["id"])["result"] == "42"
            left = "[name for name in __import__('os').environ if 'PYDEV' in name or 'ECLIPSE' in name]"
            assert debugger.ask("evaluate", expression=left, frameId=frame["id"])["result"] == "[]"
            debugger.send("continue", threadId=thread)
            assert invoking.printed() == "42"
        assert invoking.process.wait(60) == 0


def test_with_watch_each_reload_waits_for_a_debugger(write: Write, lading: Command):
    project = write("both", {"lambda_function.py": CODE})
    port, path = free_port(), project / "lambda_function.py"
    command = [LADING, "invoke", "-e", "7", "--debug", "--debug-address", f"127.0.0.1:{port}", "--watch"]
    with Following([*command, "--network", "none"], project, lading.environment()) as invoking:
        for result in ("42", "49"):
            invoking.said("INIT_START")
            with DebugClient(port) as debugger:
                debugger.attach({str(path): [5]})
                frame, thread = step(debugger)
                assert debugger.ask("evaluate", expression="secret", frameId=frame["id"])["result"] == result
                debugger.send("continue", threadId=thread)
                assert invoking.printed() == result
            path.write_text(path.read_text().replace("* 6", "* 7"))
        invoking.said("INIT_START")
        assert invoking.interrupt() == 0, invoking  # also while it waits for a debugger


def test_a_port_in_use_is_said(write: Write, lading: Command):
    project = write("taken", {"lambda_function.py": CODE})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        ran = lading("invoke", "--debug", "--debug-address", address, "--network", "none", cwd=project, code=2)
    assert f"error: can't wait for a debugger at {address}" in ran.err
    assert "--debug-address" in ran.err.partition("hint:")[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--timeout", "5"), "--timeout together with --debug"),
        (("--concurrency", "2"), "--concurrency together with --debug"),
        (("--debug-address", "5678"), "not an address: '5678'"),
    ],
)
def test_wrong_use(write: Write, lading: Command, options: tuple[str, ...], message: str):
    project = write("wrong", {"lambda_function.py": CODE})
    assert f"error: {message}" in lading("invoke", "--debug", *options, cwd=project, code=2).err


def test_no_debugger_for_a_custom_runtime(tmp_path: Path, lading: Command):
    (tmp_path / "bootstrap").write_text("#!/bin/sh\n")
    tmp_path.chmod(0o755)
    options = ("--artifact", ".", "--runtime", "provided.al2023", "--network", "none", "-e", json.dumps(1))
    ran = lading("invoke", "--debug", *options, cwd=tmp_path, code=2)
    assert "error: no debugger for runtime provided.al2023" in ran.err
