"""What goes wrong in real environments, and what the caller and the log get: AWS's types, messages and lines."""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from lading.errors import LadingError, SandboxError
from lading.model.progress import Silent
from lading.model.target import find_target
from lading.sandbox.host import Host
from lading.sandbox.spec import ColdStart, Isolation, Network
from lading.service.events import EventStream, LogLine
from lading.service.pool.environment import Environment
from lading.service.pool.function import Budgets, FunctionVersion, InvokeRequest, Outcome
from lading.service.pool.local import LocalFunction, LocalOptions, prepare
from lading.store import open_store

pytestmark = [pytest.mark.root, pytest.mark.network]
BUDGETS = Budgets(init=5.0, linger=0.01, shutdown_internal=0.3, shutdown_external=1.0)


WALLS = {
    "fork": (Isolation.ROOT, ColdStart.FORK),
    "exec": (Isolation.ROOT, ColdStart.EXEC),
    "user": (Isolation.USER, ColdStart.FORK),
    "process": (Isolation.PROCESS, ColdStart.EXEC),
}
"""Every isolation, and the strongest by both cold-start paths."""


@pytest.fixture(scope="module", params=list(WALLS))
def walls(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def host(walls: str) -> Iterator[Host]:
    import os

    if os.geteuid() != 0:
        pytest.skip("real environments with all walls need root")
    try:
        host = Host(WALLS[walls][0])
    except SandboxError as error:
        pytest.skip(error.message)
    with host:
        yield host


@dataclass
class Ran:
    """What a run of several invokes came to."""

    outcomes: list[Outcome]
    lines: list[str] = field(default_factory=list)

    def body(self, number: int = 0) -> Any:
        return json.loads(self.outcomes[number].answer.payload)

    @property
    def log(self) -> str:
        return "\n".join(self.lines)


Run = Callable[..., Ran]


@pytest.fixture
def limited(walls: str) -> None:
    if WALLS[walls][0] is not Isolation.ROOT:
        pytest.skip(f"isolation {walls} limits no memory: that needs control groups")


@pytest.fixture
def own_tmp(walls: str) -> None:
    if walls == "process":
        pytest.skip("isolation process has no /tmp of its own, only a folder in TMPDIR without a limit")


@pytest.fixture
def run(host: Host, tmp_path: Path, walls: str) -> Run:
    """Write a handler, make one environment, invoke it with each event in turn."""
    tmp_path.chmod(0o755)

    def run_code(code: str, *events: Any, **changes: Any) -> Ran:
        function = prepare_function(tmp_path, code, walls, changes)
        return asyncio.run(run_all(host, function, [json.dumps(event).encode() for event in events or ({},)]))

    return run_code


def prepare_function(folder: Path, code: str, walls: str, changes: dict[str, Any]) -> FunctionVersion:
    task = folder / "task"
    task.mkdir(exist_ok=True)
    (task / "app.py").write_text(textwrap.dedent(code), "utf-8")
    budgets = changes.pop("budgets", BUDGETS)
    function = LocalFunction(
        "fails", task, changes.pop("handler", "app.handler"), find_target("python3.13", "x86_64"), memory=1769
    )
    isolation, cold_start = WALLS[walls]
    network = Network.OUTGOING if isolation is Isolation.PROCESS else Network.NONE
    options = LocalOptions(isolation=isolation, cold_start=cold_start, network=network, budgets=budgets)
    try:
        return prepare(replace(function, **changes), options, open_store(), Silent())
    except LadingError as error:
        if "python" in error.message or "index" in error.message:
            pytest.skip(f"{error.message} ({error.hint})")
        raise


async def run_all(host: Host, function: FunctionVersion, events: list[bytes]) -> Ran:
    stream = EventStream()
    ran = Ran([])
    stream.follow(lambda event: ran.lines.append(event.text) if isinstance(event, LogLine) else None)
    environment = Environment(function, host, stream)
    try:
        await environment.start()
        for number, event in enumerate(events, 1):
            ran.outcomes.append(await environment.invoke(InvokeRequest(f"id-{number}", event)))
    finally:
        await environment.close()
    return ran


def test_a_success_and_its_lines(run: Run) -> None:
    ran = run("def handler(event, context):\n    print('hello')\n    return {'n': event['n']}", {"n": 1}, {"n": 2})
    assert [ran.body(0), ran.body(1)] == [{"n": 1}, {"n": 2}]
    assert re.fullmatch(
        r"INIT_START Runtime Version: python:3\.13\S*\tRuntime Version ARN: \S+\n"
        r"START RequestId: id-1 Version: \$LATEST\nhello\nEND RequestId: id-1\n"
        r"REPORT RequestId: id-1\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 1769 MB\t"
        r"Max Memory Used: \d+ MB\tInit Duration: [\d.]+ ms\t\n"
        r"START RequestId: id-2 Version: \$LATEST\nhello\nEND RequestId: id-2\n"
        r"REPORT RequestId: id-2\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 1769 MB\t"
        r"Max Memory Used: \d+ MB\t",
        ran.log,
    )
    first, second = ran.outcomes
    assert first.init is not None
    assert second.init is None
    assert first.billed >= first.duration + first.init
    assert first.memory >= 1


def test_a_handler_exception(run: Run, walls: str) -> None:
    ran = run("def handler(event, context):\n    raise ValueError('no')", {}, {})
    body = ran.body()
    assert (body["errorMessage"], body["errorType"], body["requestId"]) == ("no", "ValueError", "id-1")
    assert '/app.py", line 2' in body["stackTrace"][-1]
    assert "/var/task/app.py" in body["stackTrace"][-1] or walls == "process"
    assert ran.outcomes[0].answer.function_error == "Unhandled"
    report = next(line for line in ran.lines if line.startswith("[ERROR] ValueError: no"))
    assert report.splitlines()[1] == "Traceback (most recent call last):", "one event, several lines"
    assert "\r" not in ran.log
    assert ran.outcomes[1].status == "error", "the environment lives on"
    assert ran.log.count("INIT_START") == 1


def test_timeout_then_init_again_with_tmp_kept(run: Run) -> None:
    ran = run(
        """
        import os, time
        kept = os.environ.get("TMPDIR", "/tmp") + "/kept"
        count = 0
        def handler(event, context):
            global count
            count += 1
            if event.get("sleep"):
                open(kept, "w").write("x")
                time.sleep(30)
            return [count, os.path.exists(kept)]
        """,
        {"sleep": True},
        {},
        timeout=2.0,
    )
    assert ran.body(0) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": "RequestId: id-1 Error: Task timed out after 2.00 seconds",
    }
    assert ran.outcomes[0].status == "timeout"
    assert 2000 <= ran.outcomes[0].duration < 6000
    assert re.search(r"Z id-1 Task timed out after 2\.00 seconds\nEND RequestId: id-1\n", ran.log)
    assert re.search(r"REPORT RequestId: id-1\t.*\tStatus: timeout\t", ran.log)
    assert ran.body(1) == [1, True], "globals are gone, /tmp is not"
    assert ran.outcomes[1].init is None, "the init was part of the invoke"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os._exit(0)", "Runtime exited without providing a reason"),
        ("import os; os._exit(3)", "Runtime exited with error: exit status 3"),
        ("import sys; sys.exit(1)", "Runtime exited with error: exit status 1"),
        ("import ctypes; ctypes.string_at(0)", "Runtime exited with error: signal: segmentation fault"),
        ("import os; os.kill(os.getpid(), 9)", "Runtime exited with error: signal: killed"),
        ("import os; os.abort()", "Runtime exited with error: signal: aborted"),
    ],
    ids=["exit 0", "exit 3", "sys.exit", "segfault", "kill", "abort"],
)
def test_the_process_ends(run: Run, code: str, message: str) -> None:
    ran = run(
        f"def handler(event, context):\n    if event:\n        {code}\n    return 'alive'", {"end": 1}, {}, timeout=60.0
    )
    assert ran.body(0) == {"errorType": "Runtime.ExitError", "errorMessage": f"RequestId: id-1 Error: {message}"}
    assert ran.outcomes[0].status == "failure"
    assert f"RequestId: id-1 Error: {message}\nRuntime.ExitError\nEND RequestId: id-1" in ran.log
    assert re.search(r"REPORT RequestId: id-1\t.*\tStatus: error\tError Type: Runtime\.ExitError\t", ran.log)
    assert ran.body(1) == "alive", "the next invoke begins with init"


def test_out_of_memory(run: Run, limited: None) -> None:
    ran = run(
        "def handler(event, context):\n    if event:\n        x = bytearray(400 << 20)\n    return 'alive'",
        {"eat": 1},
        {},
        memory=160,
        timeout=20.0,
    )
    assert ran.body(0) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": "RequestId: id-1 Error: Runtime exited with error: signal: killed",
    }
    assert ran.outcomes[0].memory <= 160
    assert ran.body(1) == "alive"


@pytest.mark.parametrize(
    ("code", "handler", "error_type", "message"),
    [
        (
            "import nothing_like_it",
            "app.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module",
        ),
        ("x = 1", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("x = 1", "handler", "Runtime.MalformedHandlerName", "Bad handler 'handler'"),
        ("def handler(:", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
        ("raise KeyError('start')", "app.handler", "KeyError", "'start'"),
    ],
)
def test_init_errors(run: Run, code: str, handler: str, error_type: str, message: str) -> None:
    ran = run(code, handler=handler)
    body = ran.body()
    assert body["errorType"] == error_type
    assert body["errorMessage"].startswith(message)
    assert body["requestId"] == ""
    counted = error_type if error_type.startswith("Runtime.") else "Runtime.Unknown"
    assert re.search(
        rf"INIT_REPORT Init Duration: [\d.]+ ms\tPhase: init\tStatus: error\tError Type: {counted}\t", ran.log
    )
    assert re.search(
        rf"INIT_REPORT Init Duration: [\d.]+ ms\tPhase: invoke\tStatus: error\tError Type: {counted}", ran.log
    )
    assert "Error: the runtime" not in ran.log
    assert ran.log.index("Phase: invoke") < ran.log.index("START RequestId: id-1")


def test_init_too_slow_then_in_time(run: Run) -> None:
    ran = run(
        """
        import os, time
        second = os.environ.get("TMPDIR", "/tmp") + "/second"
        if not os.path.exists(second):
            open(second, "w").close()
            time.sleep(30)
        def handler(event, context):
            return "late"
        """,
        budgets=replace(BUDGETS, init=2.0),  # the first init has to get as far as its sleep, on a busy machine too
        timeout=60.0,
    )
    assert re.search(r"INIT_REPORT Init Duration: [\d.]+ ms\tPhase: init\tStatus: timeout\t", ran.log)
    assert ran.body() == "late"


def test_init_that_never_ends_is_a_timeout(run: Run) -> None:
    ran = run("import time\ntime.sleep(30)", budgets=replace(BUDGETS, init=0.3), timeout=0.7)
    assert ran.body()["errorMessage"] == "RequestId: id-1 Error: Task timed out after 0.70 seconds"
    assert re.search(r"Phase: invoke\tStatus: timeout\t", ran.log)


def test_a_process_that_ends_in_init(run: Run) -> None:
    ran = run("import os\nos._exit(5)")
    assert ran.body()["errorType"] == "Runtime.ExitError"
    assert ran.body()["errorMessage"].endswith("Runtime exited with error: exit status 5")
    assert ran.log.count("INIT_REPORT") == 2


def test_what_json_cannot_hold(run: Run) -> None:
    body = run("def handler(event, context):\n    return {1, 2}").body()
    assert body["errorType"] == "Runtime.MarshalError"
    assert body["errorMessage"] == "Unable to marshal response: Object of type set is not JSON serializable"


def test_a_response_too_large(run: Run) -> None:
    ran = run("def handler(event, context):\n    return 'x' * event['size']", {"size": 7_000_000}, {"size": 3})
    assert ran.body(0) == {
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
        "errorType": "Function.ResponseSizeTooLarge",
    }
    assert ran.body(1) == "xxx"


def test_a_full_tmp(run: Run, own_tmp: None) -> None:
    ran = run(
        """
        def handler(event, context):
            with open("/tmp/big", "wb") as file:
                for _ in range(600):
                    file.write(bytes(1 << 20))
        """,
        timeout=20.0,
    )
    assert ran.body()["errorType"] == "OSError"
    assert "No space left on device" in ran.body()["errorMessage"]
    assert ran.outcomes[0].memory < 128, "it has 512 MB in /tmp, and no more memory than before"


@pytest.mark.parametrize("log_format", ["Text", "JSON"])
def test_a_line_over_the_limit_goes_on_in_the_next_event(run: Run, log_format: str) -> None:
    ran = run(
        "def handler(event, context):\n    print('a' * 300_000)\n    print('next')", timeout=20.0, log_format=log_format
    )
    own = [line for line in ran.lines if line.startswith(("a", "next"))]
    assert [len(line) for line in own] == [262_118, 300_000 - 262_118, 4]
    report = ran.lines[-1]
    assert report.startswith("REPORT") if log_format == "Text" else json.loads(report)["type"] == "platform.report"


def test_what_tmp_holds_is_no_memory_and_gives_none(run: Run, limited: None) -> None:
    """In one invoke more than the function has memory; afterwards memory ends where it did."""
    ran = run(
        """
        data = []
        def handler(event, context):
            if "files" in event:
                with open("/tmp/kept", "wb", buffering=0) as file:
                    for _ in range(event["files"]):
                        file.write(bytes(1 << 20))
                return "kept"
            while True:
                data.append(b"1" * (1 << 20))
        """,
        {"files": 480},
        {},
        timeout=60.0,
        memory=320,  # with less, its share of a CPU takes long to fill both
    )
    assert ran.body(0) == "kept"
    assert ran.outcomes[0].memory < 320
    assert "signal: killed" in ran.outcomes[1].answer.payload.decode()
    assert 250 < ran.outcomes[1].memory <= 320


def test_a_child_that_takes_the_memory_is_the_one_that_is_killed(run: Run, limited: None) -> None:
    ran = run(
        """
        import subprocess, sys
        BOMB = "data = [b'1' * (1 << 20) for _ in iter(int, 1)]"
        def handler(event, context):
            return subprocess.run([sys.executable, "-c", BOMB]).returncode
        """,
        timeout=60.0,
        memory=256,
    )
    assert ran.body() == -9


def test_a_child_left_behind_is_frozen_and_then_ended(run: Run) -> None:
    ran = run(
        """
        import subprocess
        child = None
        def handler(event, context):
            global child
            if child is None:
                child = subprocess.Popen(["/bin/sh", "-c", "sleep 600"])
            return child.poll()
        """,
        {},
        {},
    )
    assert [ran.body(0), ran.body(1)] == [None, None]


def test_json_logs(run: Run) -> None:
    ran = run("def handler(event, context):\n    return 1", log_format="JSON")
    records = [json.loads(line) for line in ran.lines]
    assert [record["type"] for record in records] == [
        "platform.initStart",
        "platform.initReport",
        "platform.start",
        "platform.report",
    ]
    assert records[-1]["record"]["requestId"] == "id-1"
    assert set(records[-1]["record"]["metrics"]) == {
        "durationMs",
        "billedDurationMs",
        "memorySizeMB",
        "maxMemoryUsedMB",
        "initDurationMs",
    }
    assert records[-1]["record"]["status"] == "success"


def test_output_without_a_line_end_and_long_lines(run: Run) -> None:
    ran = run("def handler(event, context):\n    print('a' * 300_000)\n    print('rest', end='')")
    assert [len(line) for line in ran.lines if line.startswith("a")] == [262_118, 300_000 - 262_118]
    assert ran.lines.index("rest") < ran.lines.index("END RequestId: id-1")


def test_the_variables_of_the_function(run: Run, walls: str) -> None:
    ran = run("import os\ndef handler(event, context):\n    return dict(os.environ)", environment={"MINE": "1"})
    body = ran.body()
    assert body["AWS_LAMBDA_FUNCTION_NAME"] == "fails"
    assert body["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "1769"
    assert body["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    place = "127.0.0.1" if walls == "process" else "169.254.100.1"
    assert body["AWS_LAMBDA_RUNTIME_API"].split(":")[0] == place
    assert body["MINE"] == "1"
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", body["AWS_LAMBDA_LOG_STREAM_NAME"])
