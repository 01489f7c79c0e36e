"""The log of one environment: the platform's own lines (text and JSON), and the processes' output cut into lines."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lading.model.value import value
from lading.service.moment import iso

MAXIMUM_LINE = 262_144 - 26
"""Bytes of one log event; what is longer goes on in the next. 256 KB, of which each event's own 26 bytes are a part
(PutLogEvents), are what functions' lines are seen cut at (stackoverflow.com/q/77175643).
"""
TAIL = 4096
"""Bytes of `LogResult`."""
_KEPT_LINES = 4096


@value
class Report:
    """The figures of one invoke. Times in milliseconds, memory in MB."""

    request_id: str
    duration: float
    memory_size: int
    memory_used: int
    status: str = "success"
    error_type: str = ""
    init: float | None = None
    restore: float | None = None
    loading: float = 0.0
    """What of the restore is billed: the runtime's own part and the hooks after it."""

    @property
    def billed(self) -> int:
        """Whole milliseconds, init included (since 2025-08-01) and the billed part of a restore, at least 1."""
        billed_restore = self.billed_restore if self.restore is not None else 0
        return max(1, math.ceil(round(self.duration + (self.init or 0.0), 3)) + billed_restore)

    @property
    def billed_restore(self) -> int:
        return math.ceil(round(self.loading, 3))


def init_start_line(runtime_version: str, runtime_arn: str) -> str:
    return f"INIT_START Runtime Version: {runtime_version}\tRuntime Version ARN: {runtime_arn}"


def start_line(request_id: str, version: str) -> str:
    return f"START RequestId: {request_id} Version: {version}"


def end_line(request_id: str) -> str:
    return f"END RequestId: {request_id}"


def timeout_line(request_id: str, seconds: float, now: float) -> str:
    return f"{iso(now)} {request_id} Task timed out after {seconds:.2f} seconds"


def report_line(report: Report) -> str:
    """REPORT, tab-separated with a tab at the end, as AWS writes it."""
    parts = [
        f"REPORT RequestId: {report.request_id}",
        f"Duration: {report.duration:.2f} ms",
        f"Billed Duration: {report.billed} ms",
        f"Memory Size: {report.memory_size} MB",
        f"Max Memory Used: {report.memory_used} MB",
    ]
    if report.init is not None:
        parts.append(f"Init Duration: {report.init:.2f} ms")
    if report.restore is not None:
        parts.append(f"Restore Duration: {report.restore:.2f} ms")
        parts.append(f"Billed Restore Duration: {report.billed_restore} ms")
    if report.status == "timeout":
        parts.append("Status: timeout")
    elif report.status == "failure":
        parts += ["Status: error", f"Error Type: {report.error_type}"]
    return "\t".join(parts) + "\t"


def init_report_line(duration: float, phase: str, status: str, error_type: str = "") -> str:
    parts = [f"INIT_REPORT Init Duration: {duration:.2f} ms"]
    if status != "success":
        parts += [f"Phase: {phase}", f"Status: {status}"]
    if error_type:
        parts.append(f"Error Type: {error_type}")
    return "\t".join(parts) + "\t"


def restore_start_line(runtime_version: str, runtime_arn: str) -> str:
    return f"RESTORE_START Runtime Version: {runtime_version}\tRuntime Version ARN: {runtime_arn}"


def restore_report_line(duration: float, status: str, error_type: str = "") -> str:
    parts = [f"RESTORE_REPORT Restore Duration: {duration:.2f} ms"]
    if status != "success":
        parts.append(f"Status: {status}")
    if error_type:
        parts.append(f"Error Type: {error_type}")
    return "\t".join(parts) + "\t"


def platform_record(kind: str, record: dict[str, Any], now: float) -> dict[str, Any]:
    """A record of the Telemetry API, schema 2022-12-13; also a line of a JSON log."""
    return {"time": iso(now), "type": kind, "record": record}


def tracing(trace_id: str) -> dict[str, Any]:
    """What records say of a trace that is kept; nothing of others."""
    if "Sampled=1" not in trace_id:
        return {}
    return {"tracing": {"type": "X-Amzn-Trace-Id", "value": trace_id}}


def report_record(report: Report) -> dict[str, Any]:
    """The record of platform.report."""
    metrics: dict[str, Any] = {
        "durationMs": round(report.duration, 3),
        "billedDurationMs": report.billed,
        "memorySizeMB": report.memory_size,
        "maxMemoryUsedMB": report.memory_used,
    }
    if report.init is not None:
        metrics["initDurationMs"] = round(report.init, 3)
    if report.restore is not None:
        metrics["restoreDurationMs"] = round(report.restore, 3)
        metrics["billedRestoreDurationMs"] = report.billed_restore
    record: dict[str, Any] = {"requestId": report.request_id, "metrics": metrics, "status": report.status}
    if report.error_type:
        record["errorType"] = report.error_type
    return record


def stream_name(version: str, identity: str, now: float) -> str:
    """`YYYY/MM/DD/[version]<32 hex>`."""
    return f"{dt.datetime.fromtimestamp(now, dt.UTC):%Y/%m/%d}/[{version}]{identity}"


class LineCutter:
    """Turns a process's output into lines; one that grows over the limit is cut there."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._rest = b""

    def feed(self, data: bytes) -> None:
        data = self._rest + data
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            self._cut(line)
        while len(self._rest) > MAXIMUM_LINE:
            end = _end_of_piece(self._rest, 0)
            self._out(self._rest[:end])
            self._rest = self._rest[end:]

    def flush(self) -> None:
        """The process is through: what has no line end is a line too."""
        if self._rest:
            self._cut(self._rest)
            self._rest = b""

    def _cut(self, line: bytes) -> None:
        at = 0
        while at < len(line) or at == 0:
            end = _end_of_piece(line, at)
            self._out(line[at:end])
            at = max(end, 1)

    def _out(self, line: bytes) -> None:
        self._emit(line.decode("utf-8", "replace"))


def _end_of_piece(line: bytes, start: int) -> int:
    """Where an event that begins at start has to end: not within a character."""
    end = start + MAXIMUM_LINE
    if end >= len(line):
        return len(line)
    back = next((count for count in range(4) if line[end - count] & 0xC0 != 0x80), 0)
    return end - back


@dataclass
class Tail:
    """The newest lines of one invoke's log: `LogResult` without its base64."""

    lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        self.lines.append(line)
        if len(self.lines) > _KEPT_LINES:
            del self.lines[: _KEPT_LINES // 2]

    def text(self) -> str:
        text = "\n".join(self.lines) + "\n" if self.lines else ""
        if len(text) < TAIL and text.isascii():
            return text
        return text.encode()[-TAIL:].decode("utf-8", "ignore")


def json_line(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"))
