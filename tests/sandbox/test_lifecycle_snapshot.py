"""SnapStart in the pool over real environments: init and restore phases, hooks that fail, extensions, templates that go."""

from __future__ import annotations

import asyncio
import json
import os
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_lifecycle_extensions import EXTENSION, layer
from test_walls_leftovers import eventually

from lading.errors import LadingError, SandboxError
from lading.model.progress import Silent
from lading.model.target import find_target
from lading.sandbox.host import Host
from lading.sandbox.spec import Isolation
from lading.service.events import Event, EventStream, LogLine
from lading.service.pool.function import Budgets, FunctionVersion, InvokeRequest, Outcome
from lading.service.pool.local import LocalFunction, LocalOptions, SnapStartRefusedError, check_snap_start, prepare
from lading.service.pool.local_any import prepare as prepare_any
from lading.service.pool.pool import Pool
from lading.service.pool.snapshots import Means, RestoreError, SnapshotError, Templates
from lading.store import open_store

pytestmark = [pytest.mark.root, pytest.mark.network]
HOOKS = """
    import os, time
    from snapshot_restore_py import register_after_restore, register_before_snapshot
    SEEN = []
    register_before_snapshot(SEEN.append, "registered first")
    register_before_snapshot(SEEN.append, "registered last")
    register_after_restore(SEEN.append, "restored first")
    register_after_restore(SEEN.append, "restored last")
    def handler(event, context):
        if event == "sleep":
            time.sleep(30)
        return SEEN
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.skip("real environments with all walls need root")
    with Host(spares=1) as found:
        yield found


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., FunctionVersion]:
    def make_function(code: str, budgets: Budgets | None = None, **changes: Any) -> FunctionVersion:
        task = tmp_path / f"task{len(list(tmp_path.iterdir()))}"
        task.mkdir()
        (task / "app.py").write_text(textwrap.dedent(code), "utf-8")
        target = find_target("python3.13", "x86_64")
        function = LocalFunction("snapped", task, "app.handler", target, memory=1769, snap_start=True)
        options = LocalOptions(budgets=budgets or Budgets(linger=0.01))
        return prepare(replace(function, **changes), options, open_store(), Silent())

    return make_function


def run(host: Host, function: FunctionVersion, *events: object) -> tuple[list[Outcome | BaseException], list[str]]:
    """One invoke after the other; outcomes or errors, and all lines of the log."""
    stream, seen = EventStream(), list[Event]()
    stream.follow(seen.append)

    async def go() -> list[Outcome | BaseException]:
        pool, outcomes = Pool(host, stream), list[Outcome | BaseException]()
        try:
            for number, event in enumerate(events):
                request = InvokeRequest(f"id-{number}", json.dumps(event).encode())
                outcomes += await asyncio.gather(pool.invoke(function, request), return_exceptions=True)
        finally:
            await pool.close()
        return outcomes

    outcomes = asyncio.run(go())
    assert eventually(lambda: host._live == {}), "templates and environments end with their pool"
    return outcomes, [event.text for event in seen if isinstance(event, LogLine)]


def test_hooks_run_in_awss_order_and_the_log_tells_of_the_restore(host: Host, make: Callable[..., FunctionVersion]):
    [first, again], lines = run(host, make(HOOKS), 1, 2)
    assert isinstance(first, Outcome) and isinstance(again, Outcome)
    expected = ["registered last", "registered first", "restored first", "restored last"]
    assert json.loads(first.answer.payload) == json.loads(again.answer.payload) == expected
    assert first.restore is not None and first.restore > 0 and first.init is None and again.restore is None
    starts = [line.split(" ")[0].split("\t")[0] for line in lines]
    assert starts == ["INIT_START", "INIT_REPORT", "RESTORE_START", "RESTORE_REPORT", *["START", "END", "REPORT"] * 2]
    assert "Restore Duration" in lines[6] and "Init Duration" not in lines[6] and "Restore" not in lines[9]
    billed = [int(part.split(": ")[1].split(" ")[0]) for part in lines[6].split("\t") if part.startswith("Billed")]
    assert billed[0] >= billed[1] >= 1, "the hooks' part of the restore is billed with the invoke"
    assert first.billed == billed[0] and billed[1] < first.restore + 1


def test_a_user_namespace_takes_snapshots_too(make: Callable[..., FunctionVersion]):
    """Without root's means: no control groups, one user for all copies."""
    try:
        host = Host(Isolation.USER)
    except SandboxError as error:
        pytest.skip(error.message)
    function = make(
        """
        import os, random, time
        SEEN = {"kind": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "count": 0}
        def handler(event, context):
            SEEN["count"] += 1
            time.sleep(2)
            return [SEEN, random.random()]
        """
    )
    function = replace(function, spec=replace(function.spec, isolation=Isolation.USER))

    async def both() -> list[Outcome]:
        pool = Pool(host, EventStream())
        try:
            await pool.take_snapshot(function)
            requests = [InvokeRequest(f"id-{number}", b"{}") for number in range(2)]
            return list(await asyncio.gather(*(pool.invoke(function, request, queue=True) for request in requests)))
        finally:
            await pool.close()

    with host:
        outcomes = asyncio.run(both())
    (first, one), (second, other) = (json.loads(outcome.answer.payload) for outcome in outcomes)
    assert first == second == {"kind": "snap-start", "count": 1}, "two copies, not one after the other"
    assert one != other
    assert all(outcome.restore is not None and outcome.init is None for outcome in outcomes)


def test_json_log_has_awss_records(host: Host, make: Callable[..., FunctionVersion]):
    _, lines = run(host, make(HOOKS, log_format="JSON"), 1)
    records = [json.loads(line) for line in lines]
    kinds = [record["type"] for record in records if "type" in record]
    assert kinds == ["platform.initStart", "platform.initReport", "platform.restoreStart", "platform.restoreReport",
                     "platform.start", "platform.report"]  # fmt: skip
    by_kind = {record["type"]: record["record"] for record in records if "type" in record}
    assert by_kind["platform.initStart"]["initializationType"] == "snap-start"
    assert by_kind["platform.restoreReport"]["status"] == "success"
    assert set(by_kind["platform.report"]["metrics"]) >= {"restoreDurationMs", "billedRestoreDurationMs"}


def test_a_timeout_spends_the_environment_and_the_next_one_is_restored(
    host: Host, make: Callable[..., FunctionVersion]
):
    [late, after], lines = run(host, make(HOOKS, timeout=1.5), "sleep", 1)
    assert isinstance(late, Outcome) and isinstance(after, Outcome)
    assert (late.status, after.status) == ("timeout", "success")
    assert late.environment != after.environment
    assert sum(line.startswith("RESTORE_REPORT") for line in lines) == 2
    assert sum(line.startswith("INIT_START") for line in lines) == 1


FAILURES = {
    "import": ("import nothing_like_this", SnapshotError, "Runtime.ImportModuleError", "INIT_REPORT", "error"),
    "before": (
        "import snapshot_restore_py as s\n@s.register_before_snapshot\ndef before(): raise ValueError('no snapshot please')",
        SnapshotError, "Runtime.BeforeSnapshotError", "INIT_REPORT", "error",
    ),
    "exit": ("import os; os._exit(3)", SnapshotError, "Runtime.ExitError", "INIT_REPORT", "error"),
    "slow init": ("import time; time.sleep(60)", SnapshotError, "Sandbox.Timedout", "INIT_REPORT", "timeout"),
    "after": (
        "import snapshot_restore_py as s\n@s.register_after_restore\ndef after(): raise ValueError('not restored please')",
        RestoreError, "Runtime.AfterRestoreError", "RESTORE_REPORT", "error",
    ),
    "after exits": (
        "import os\nfrom snapshot_restore_py import register_after_restore\nregister_after_restore(os._exit, 4)",
        RestoreError, "Runtime.ExitError", "RESTORE_REPORT", "error",
    ),
    "slow after": (
        "import time\nfrom snapshot_restore_py import register_after_restore\nregister_after_restore(time.sleep, 60)",
        RestoreError, "Sandbox.Timedout", "RESTORE_REPORT", "timeout",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAILURES)
def test_failures_are_said_as_aws_says_them(host: Host, make: Callable[..., FunctionVersion], kind: str):
    code, error, error_type, report, status = FAILURES[kind]
    budgets = Budgets(linger=0.01, snapshot=1.5, restore=1.5)
    [failed], lines = run(host, make(code + "\ndef handler(event, context): return 1\n", budgets, timeout=1.0), 1)
    assert type(failed) is error, failed
    assert isinstance(failed, LadingError)
    assert error_type in failed.message
    [line] = [line for line in lines if line.startswith(report)]
    assert f"Status: {status}" in line
    assert status == "timeout" or f"Error Type: {error_type}" in line
    if kind in ("before", "after"):
        assert any("please" in text for text in lines), "the client reports the exception"


def test_extensions_start_in_every_environment(host: Host, make: Callable[..., FunctionVersion], tmp_path: Path):
    function = make("def handler(event, context): return event", layers=(layer(tmp_path, EXTENSION),))
    [first], lines = run(host, function, 7)
    assert isinstance(first, Outcome) and first.answer.payload == b"7"
    assert sum(line == "registered snapped False" for line in lines) == 2, (
        "in the template's walls, and in the restored ones"
    )
    assert any(line.startswith("saw SHUTDOWN") for line in lines)


def test_templates_are_made_once_and_the_longest_unused_goes(host: Host, make: Callable[..., FunctionVersion]):
    one, other = make("def handler(event, context): return 1"), make("def handler(event, context): return 2")
    initialised: list[str] = []
    stream = EventStream()
    stream.follow(lambda event: initialised.append(event.text) if isinstance(event, LogLine) else None)

    async def go() -> None:
        templates = Templates(Means(host, stream), limit=1)
        first, same = await asyncio.gather(templates.get(one), templates.get(one))
        assert first is same
        assert templates.memory > 0
        second = await templates.get(other)
        while first.alive:
            await asyncio.sleep(0.01)
        assert second.alive, "what is wanted now stays, whatever it takes"
        assert (await templates.get(one)).alive
        templates.drop(one)
        await templates.close()

    asyncio.run(go())
    assert sum(text.startswith("INIT_START") for text in initialised) == 3
    assert eventually(lambda: host._live == {})


def test_what_snapstart_is_not_for_is_refused(tmp_path: Path):
    (tmp_path / "oci-layout").touch()
    image = LocalFunction("image", tmp_path, "", find_target("python3.13", "x86_64"), snap_start=True)
    with pytest.raises(SnapStartRefusedError, match="1024 MB"):
        prepare_any(replace(image, ephemeral_storage=1024), LocalOptions(), open_store(), Silent())
    plain = replace(image, artifact=tmp_path / "code")
    with pytest.raises(SnapStartRefusedError, match="isolation process"):
        prepare_any(plain, LocalOptions(isolation=Isolation.PROCESS), open_store(), Silent())
    with pytest.raises(SnapStartRefusedError, match=r"python3\.11") as refused:
        check_snap_start("python3.11", 512)
    assert "python3.12" in str(refused.value.hint)
    with pytest.raises(SnapStartRefusedError, match="1024 MB"):
        check_snap_start("python3.13", 1024)
    check_snap_start("python3.12", 512)
