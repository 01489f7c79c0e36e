"""Custom runtimes, layers and wrapper scripts in real environments: what starts, what it finds, how it fails."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lading.model.progress import Silent
from lading.sandbox.host import Host
from lading.sandbox.spec import ColdStart
from lading.service.events import Event, EventStream, LogLine
from lading.service.pool.custom_runtime import find_any_target
from lading.service.pool.environment import Environment
from lading.service.pool.function import Budgets, FunctionVersion, InvokeRequest, Outcome
from lading.service.pool.local import LocalFunction, LocalOptions, prepare
from lading.store import open_store

pytestmark = pytest.mark.root
BOOTSTRAP = r"""
    #!/bin/bash
    address=/dev/tcp/${AWS_LAMBDA_RUNTIME_API%:*}/${AWS_LAMBDA_RUNTIME_API#*:}
    while true; do
        exec 3<>"$address"
        printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n' >&3
        while IFS= read -r line <&3; line=${line%$'\r'}; [ -n "$line" ]; do
            case "$line" in Lambda-Runtime-Aws-Request-Id:*) id=${line#*: } ;; esac
        done
        event=$(cat <&3)
        answer="{\"event\": $event, \"tool\": \"$(shipped 2>&1)\", \"handler\": \"$_HANDLER\", \"env\": \"$AWS_EXECUTION_ENV\"}"
        exec 3<>"$address"
        printf 'POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: api\r\nConnection: close\r\n' "$id" >&3
        printf 'Content-Length: %s\r\n\r\n%s' "${#answer}" "$answer" >&3
        cat <&3 >/dev/null
    done
"""
TOOL = "#!/bin/bash\necho from the layer\n"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.skip("real environments with all walls need root")
    with Host() as found:
        yield found


def write(path: Path, text: str, mode: int = 0o755) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip(), "utf-8")
    path.chmod(mode)


def prepared(task: Path, runtime: str = "provided.al2023", **changes: Any) -> FunctionVersion:
    task.mkdir(exist_ok=True)
    target = find_any_target(runtime, "x86_64")
    cold_start = changes.pop("cold_start", ColdStart.FORK)
    function = LocalFunction("custom", task, "the.handler", target, memory=1769, **changes)
    options = LocalOptions(budgets=Budgets(init=8.0), cold_start=cold_start)
    return prepare(function, options, open_store(), Silent())


def invoke(host: Host, function: FunctionVersion, event: object = None) -> tuple[Outcome, list[str]]:
    async def once() -> tuple[Outcome, list[Event]]:
        stream, seen = EventStream(), list[Event]()
        stream.follow(seen.append)
        environment = Environment(function, host, stream)
        try:
            await environment.start()
            return await environment.invoke(InvokeRequest("id-1", json.dumps(event).encode())), seen
        finally:
            await environment.close()

    outcome, events = asyncio.run(once())
    return outcome, [event.text for event in events if isinstance(event, LogLine)]


@pytest.mark.parametrize("where", ["task", "layer"])
def test_a_bootstrap_serves(host: Host, tmp_path: Path, where: str) -> None:
    write(tmp_path / where / "bootstrap", BOOTSTRAP)
    write(tmp_path / "layer" / "bin" / "shipped", TOOL)
    outcome, _ = invoke(host, prepared(tmp_path / "task", layers=(tmp_path / "layer",)), {"n": 1})
    assert outcome.status == "success"
    expected = {"event": {"n": 1}, "tool": "from the layer", "handler": "the.handler", "env": ""}
    assert json.loads(outcome.answer.payload) == expected


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (None, 0, "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
        ("#!/bin/bash\n", 0o644, "fork/exec /var/task/bootstrap: permission denied"),
        ("no program\n", 0o755, "fork/exec /var/task/bootstrap: exec format error"),
    ],
)
def test_what_is_no_bootstrap(host: Host, tmp_path: Path, content: str | None, mode: int, message: str) -> None:
    if content is not None:
        write(tmp_path / "task" / "bootstrap", content, mode)
    outcome, log = invoke(host, prepared(tmp_path / "task"))
    assert json.loads(outcome.answer.payload) == {
        "errorType": "Runtime.InvalidEntrypoint",
        "errorMessage": f"RequestId: id-1 Error: {message}",
    }
    assert f"RequestId: id-1 Error: {message}" in log


def test_a_bootstrap_that_ends_by_itself_is_no_bad_entry(host: Host, tmp_path: Path) -> None:
    write(tmp_path / "task" / "bootstrap", "#!/bin/bash\nexit 127\n")
    outcome, _ = invoke(host, prepared(tmp_path / "task"))
    assert json.loads(outcome.answer.payload)["errorMessage"].endswith("Runtime exited with error: exit status 127")


def test_wrappers_are_for_managed_runtimes_only(host: Host, tmp_path: Path) -> None:
    write(tmp_path / "task" / "bootstrap", BOOTSTRAP)
    function = prepared(tmp_path / "task", environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/missing"})
    assert invoke(host, function, 1)[0].status == "success"


HANDLER = """
    import ctypes, os, subprocess
    def handler(event, context):
        ctypes.CDLL("libshipped.so.1")
        return [os.environ.get("WRAPPED"), subprocess.check_output(["shipped"], text=True)]
"""


@pytest.mark.network
@pytest.mark.parametrize("cold_start", list(ColdStart))
def test_programs_and_libraries_of_a_layer(host: Host, tmp_path: Path, cold_start: ColdStart) -> None:
    write(tmp_path / "task" / "the.py", HANDLER, 0o644)
    write(tmp_path / "layer" / "bin" / "shipped", TOOL)
    (tmp_path / "layer" / "lib").mkdir()
    shutil.copy(some_library(), tmp_path / "layer" / "lib" / "libshipped.so.1")
    function = prepared(tmp_path / "task", "python3.13", layers=(tmp_path / "layer",), cold_start=cold_start)
    outcome, _ = invoke(host, function)
    assert json.loads(outcome.answer.payload) == [None, "from the layer\n"]


def some_library() -> Path:
    """A shared library that this process has mapped, so that it is of this machine."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = Path(line.split(maxsplit=5)[-1])
        if path.name.startswith("libm.so") or path.name.startswith("libz.so"):
            return path
    pytest.skip("no libm or libz to copy")


@pytest.mark.network
def test_a_wrapper_starts_the_runtime(host: Host, tmp_path: Path) -> None:
    write(
        tmp_path / "task" / "the.py", "import os\ndef handler(event, context):\n    return os.environ['WRAPPED']", 0o644
    )
    write(tmp_path / "layer" / "wrap", '#!/bin/bash\nexport WRAPPED="$#"\nexec "$@"\n')
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap"}
    function = prepared(tmp_path / "task", "python3.13", layers=(tmp_path / "layer",), environment=variables)
    assert invoke(host, function)[0].answer.payload == b'"2"'


@pytest.mark.network
def test_a_wrapper_that_is_not_there(host: Host, tmp_path: Path) -> None:
    write(tmp_path / "task" / "the.py", "def handler(event, context):\n    return 1", 0o644)
    function = prepared(tmp_path / "task", "python3.13", environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/missing"})
    outcome, log = invoke(host, function)
    assert json.loads(outcome.answer.payload) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": "RequestId: id-1 Error: Runtime exited with error: exit status 127",
    }
    assert "/opt/missing: No such file or directory" in log
