"""Functions that are images, through the pool: unpacked, started, invoked; AWS's words where that can't be."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from image_roots import MACHINE, python_layer, shell_layer, write_image, write_layer

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from audit_elf_maker import AARCH64, make_elf

from lading.errors import LadingError
from lading.model.progress import Silent
from lading.sandbox.host import Host
from lading.service.events import Event, EventStream, LogLine
from lading.service.pool.function import SNAP_START, FunctionVersion, InvokeRequest, Outcome
from lading.service.pool.image_function import Overrides, RootLease
from lading.service.pool.local import LocalOptions
from lading.service.pool.local_image import LocalImage, prepare_image
from lading.service.pool.pool import Pool
from lading.store import Store, open_store

pytestmark = [pytest.mark.root, pytest.mark.network]
HANDLER = "import os\ndef handler(event, context): return [event, os.getcwd(), context.function_name]\n"
SNAPPED = """
import os, time
from snapshot_restore_py import register_after_restore, register_before_snapshot
steps = [f"init {os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']}"]
register_before_snapshot(lambda: steps.append("before"))
register_after_restore(lambda: steps.append("after"))
with open("/tmp/kept", "w") as file:
    file.write("kept")
time.sleep(0.5)
def handler(event, context):
    steps.append("invoke")
    return [steps, os.getcwd(), open("/tmp/kept").read()]
"""
EXTENSION = """#!/usr/local/bin/python3
import json, os, urllib.request
base = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2020-01-01/extension"
request = urllib.request.Request(f"{base}/register", b'{"events": ["INVOKE"]}', {"Lambda-Extension-Name": "watch"})
identity = urllib.request.urlopen(request).headers["Lambda-Extension-Identifier"]
while True:
    event = urllib.request.Request(f"{base}/event/next", headers={"Lambda-Extension-Identifier": identity})
    print("extension saw", json.load(urllib.request.urlopen(event))["eventType"], flush=True)
"""
# a custom runtime: one event through the Runtime API, by a shell alone it can't be done; Python without AWS's client
CUSTOM = """#!/usr/local/bin/python3
import os, urllib.request
base = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation"
while True:
    with urllib.request.urlopen(f"{base}/next") as event:
        identity, body = event.headers["Lambda-Runtime-Aws-Request-Id"], event.read()
    urllib.request.urlopen(f"{base}/{identity}/response", b'{"custom": %s}' % body).close()
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.skip("real environments with all walls need root")
    if os.uname().machine != MACHINE:
        pytest.skip(f"these images are made of the parts of an {MACHINE} machine")
    with Host() as found:
        yield found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def layout(host: Host, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    files = {
        "srv/app.py": HANDLER,
        "srv/snapped.py": SNAPPED,
        "runtime": CUSTOM,
        "plain": "x",
        "other": "",
        "arm/python3.13": "",
        "opt/extensions/watch": EXTENSION,
    }
    own = write_layer(folder / "own", files)
    (own / "plain").chmod(0o644)
    for name in ("other", "arm/python3.13"):
        (own / name).write_bytes(make_elf(machine=AARCH64))
    layers = [shell_layer(folder / "shell"), python_layer(folder / "python"), own]
    process = {"Entrypoint": ["python3", "-m", "awslambdaric"], "Cmd": ["app.handler"], "WorkingDir": "/srv", "User": "nobody",
               "Env": ["PATH=/usr/local/bin:/bin"]}  # fmt: skip
    return write_image(store, layers, folder / "layout", process)


Prepare = Callable[..., FunctionVersion]


@pytest.fixture
def prepared(store: Store, layout: Path) -> Prepare:
    def make(**overrides: Any) -> FunctionVersion:
        function = LocalImage("pictured", str(layout), Overrides(**overrides), memory=1769, timeout=20)
        return prepare_image(function, LocalOptions(), store, Silent())

    return make


def run(host: Host, function: FunctionVersion, count: int = 1) -> tuple[list[Outcome], list[str]]:
    lines: list[str] = []

    def follow(event: Event) -> None:
        if isinstance(event, LogLine):
            lines.append(event.text)

    async def all_of_it() -> list[Outcome]:
        stream = EventStream()
        stream.follow(follow)
        pool = Pool(host, stream)
        try:
            return [
                await pool.invoke(function, InvokeRequest(f"id-{number}", json.dumps({"n": number}).encode()))
                for number in range(count)
            ]
        finally:
            await pool.close()

    return asyncio.run(all_of_it()), lines


def test_an_image_answers_and_its_root_is_let_go(host: Host, prepared: Prepare) -> None:
    function = prepared()
    closed: list[bool] = []
    assert isinstance(function.root, RootLease)
    lease = RootLease(function.root.folders, lambda: closed.append(True))
    outcomes, lines = run(host, replace(function, root=lease), 3)
    assert [json.loads(one.answer.payload) for one in outcomes] == [[{"n": n}, "/srv", "pictured"] for n in range(3)]
    assert [one.cold for one in outcomes] == [True, False, False]
    assert not [line for line in lines if line.startswith("INIT_START")]
    assert sum(line == "extension saw INVOKE" for line in lines) == 3
    assert closed == []
    lease.release()
    assert closed == [True]


def test_a_custom_runtime_in_an_image(host: Host, prepared: Prepare) -> None:
    outcomes, _ = run(host, prepared(entry=("/runtime",), command=()), 2)
    assert [json.loads(one.answer.payload) for one in outcomes] == [{"custom": {"n": 0}}, {"custom": {"n": 1}}]


CASES = {
    "no such program": ({"entry": ("/nowhere",)}, "Runtime.InvalidEntrypoint", "fork/exec /nowhere: no such file or directory"),
    "not executable": ({"entry": ("/plain",)}, "Runtime.InvalidEntrypoint", "fork/exec /plain: permission denied"),
    "not on the path": ({"entry": ("uvicorn",)}, "Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [uvicorn]"),
    "for another processor": ({"entry": ("/other",)}, "Runtime.InvalidEntrypoint", "fork/exec /other: exec format error"),
    "client for another processor": ({"entry": ("/arm/python3.13", "-m", "awslambdaric")}, "Runtime.InvalidEntrypoint",
                                     "fork/exec /arm/python3.13: exec format error"),
    "no folder": ({"folder": "/no"}, "Runtime.InvalidWorkingDir", "the working directory doesn't exist: /no"),
    "relative folder": ({"folder": "no"}, "Runtime.InvalidWorkingDir",
                        "the working directory 'no' is invalid, it needs to be an absolute path"),
    "ends": ({"entry": ("/bin/sh", "-c", "exit 3")}, "Runtime.ExitError", "Runtime exited with error: exit status 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_can_t_be_started_is_told_in_aws_s_words(case: str, host: Host, prepared: Prepare) -> None:
    overrides, kind, message = CASES[case]
    [outcome], lines = run(host, prepared(**overrides))
    assert json.loads(outcome.answer.payload) == {
        "errorType": kind,
        "errorMessage": f"RequestId: id-0 Error: {message}",
    }
    launch = [line for line in lines if line.startswith("IMAGE\tLaunch error")]
    if kind == "Runtime.ExitError":
        assert not launch
    else:
        assert launch[0].split("\t")[1] == f"Launch error: {message}" and "WorkingDir: [" in launch[0]


def test_a_snapshot_of_an_image(host: Host, prepared: Prepare) -> None:
    function = replace(prepared(command=("snapped.handler",)), initialization_type=SNAP_START, version="1")
    assert isinstance(function.root, RootLease)
    closed: list[bool] = []
    lease = RootLease(function.root.folders, lambda: closed.append(True))
    outcomes, lines = run(host, replace(function, root=lease), 2)
    for outcome in outcomes:
        steps, folder, kept = json.loads(outcome.answer.payload)
        assert steps[:3] == ["init snap-start", "before", "after"], lines
        assert (folder, kept) == ("/srv", "kept")
    assert outcomes[0].restore is not None
    assert [line.split(" ")[0] for line in lines if "_" in line.split(" ")[0]] == ["INIT_REPORT", "RESTORE_REPORT"]
    lease.release()
    assert closed == [True], "neither its template nor its copy holds the root any more"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("/runtime",), "no snapshot of this image: the image's entry point is not AWS's Python client"),
        (("python3", "-S", "-m", "awslambdaric"), "no snapshot of this image"),
    ],
)
def test_images_of_which_no_snapshot_can_be_taken(
    host: Host, prepared: Prepare, entry: tuple[str, ...], message: str
) -> None:
    function = replace(prepared(entry=entry), initialization_type=SNAP_START, version="1")
    with pytest.raises(LadingError, match=message) as refused:
        run(host, function)
    assert "entry point is AWS's Python client" in refused.value.hint
