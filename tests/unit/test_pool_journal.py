"""Records of an environment's life as subscribers get them: which, in what order, with which of AWS's fields."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from lading.runtimeapi.effects import Responded
from lading.runtimeapi.extensions import Extension
from lading.runtimeapi.states import ExtensionState
from lading.sandbox.spec import SandboxSpec
from lading.service.events import EventStream, LogLine
from lading.service.pool import faults, logs
from lading.service.pool.exchange import Exchange
from lading.service.pool.faults import Fault
from lading.service.pool.function import FunctionVersion, InvokeRequest
from lading.service.pool.journal import Journal

SPEC = SandboxSpec(code=Path("/code"), interpreter=Path("/python"), client=Path("/client"))
TRACE = "Root=1-62e900b2-710d76f009d6e7785905449a;Parent=0efbd19962d95b05;Sampled=1"
Written = tuple[Journal, list[dict[str, Any]], list[str]]


def written(log_format: str = "Text") -> Written:
    stream, lines, records = EventStream(), list[str](), list[dict[str, Any]]()
    stream.follow(lambda event: lines.append(event.text) if isinstance(event, LogLine) else None)
    journal = Journal(FunctionVersion("arn", "f", SPEC, log_format=log_format), "0" * 32, stream)
    journal.follow = records.append
    return journal, records, lines


def exchange(trace_id: str = "") -> Exchange:
    return Exchange(InvokeRequest("id-1", b"{}", trace_id=trace_id), None, time.monotonic(), first=True)


def test_what_platform_runtime_done_says() -> None:
    async def work() -> None:
        one = exchange()
        one.dispatched = time.monotonic()
        one.complete(Responded("id-1", b'"four"', "application/json"))
        record = one.done_record("success", "")
        assert record["requestId"] == "id-1"
        assert record["status"] == "success"
        assert record["metrics"]["producedBytes"] == 6
        assert "errorType" not in record
        names = [span["name"] for span in record["spans"]]
        assert names == ["responseLatency", "responseDuration", "runtimeOverhead"]
        total = sum(span["durationMs"] for span in record["spans"])
        assert total == pytest.approx(record["metrics"]["durationMs"], abs=0.01)
        assert all(span["start"].endswith("Z") for span in record["spans"])

    asyncio.run(work())


def test_of_a_runtime_that_never_answered_no_response_is_told() -> None:
    async def work() -> None:
        one = exchange()
        one.dispatched = time.monotonic()
        record = one.done_record("timeout", "Sandbox.Timedout")
        assert (record["status"], record["errorType"]) == ("timeout", "Sandbox.Timedout")
        assert record["metrics"]["producedBytes"] == 0
        assert "spans" not in record

    asyncio.run(work())


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faults.time_is_up(3.0), " id-1 Task timed out after 3.00 seconds\n"),
        (Fault("Runtime.ExitError", "Runtime exited"), "RequestId: id-1 Error: Runtime exited\nRuntime.ExitError\n"),
    ],
)
def test_a_failed_invoke(fault: Fault, said: str) -> None:
    journal, records, lines = written()
    journal.invoke_started("id-1", TRACE)
    journal.runtime_done({"requestId": "id-1", "status": fault.status})
    report = logs.Report("id-1", 5.0, 128, 40, status=fault.status, error_type=fault.error_type)
    journal.invoke_ended(report, fault)
    kinds = ["platform.start", "platform.runtimeDone", "platform.fault", "platform.end", "platform.report"]
    assert [record["type"] for record in records] == kinds
    tracing = {"type": "X-Amzn-Trace-Id", "value": TRACE}
    assert [record["record"].get("tracing") for record in (records[0], records[1], records[4])] == [tracing] * 3
    assert records[2]["record"].endswith(said)
    assert records[4]["record"]["errorType"] == fault.error_type
    assert [line.split(" ")[0] for line in lines][-2:] == ["END", "REPORT"]
    assert "".join(f"{line}\n" for line in lines[1:-2]) == records[2]["record"]


def test_a_trace_that_is_not_kept_is_in_no_record() -> None:
    journal, records, _ = written()
    journal.invoke_started("id-1", TRACE.replace("Sampled=1", "Sampled=0"))
    assert records[0]["record"] == {"requestId": "id-1", "version": "$LATEST"}


def test_extensions_are_told_of_at_the_end_of_init_in_both_log_formats() -> None:
    ready = Extension("agent", external=True, state=ExtensionState.READY, events=("INVOKE", "SHUTDOWN"))
    failed = Extension("odd", external=True, state=ExtensionState.INIT_ERROR, error_type="Extension.NoConfig")
    for log_format in ("Text", "JSON"):
        journal, records, lines = written(log_format)
        journal.extensions_begun([ready, failed])
        assert [record["record"] for record in records] == [
            {"name": "agent", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]},
            {"name": "odd", "state": "InitError", "events": [], "errorType": "Extension.NoConfig"},
        ]
        if log_format == "Text":
            assert lines == [
                "EXTENSION\tName: agent\tState: Ready\tEvents: [INVOKE, SHUTDOWN]",
                "EXTENSION\tName: odd\tState: InitError\tEvents: []\tError Type: Extension.NoConfig",
            ]
        else:
            assert len(lines) == 2
