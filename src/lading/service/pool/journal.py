"""Writes the log of one environment: the platform's lines in the function's format, and its processes' output."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable
from typing import Any

from lading.model.target import runtimes
from lading.runtimeapi import records
from lading.runtimeapi.extensions import Extension
from lading.service.events import EventStream, LogLine
from lading.service.moment import iso
from lading.service.pool import logs
from lading.service.pool.faults import Fault, TimedOut
from lading.service.pool.function import SNAP_START, FunctionVersion

_READ = 65_536
_MOST_READS = 64
"""Of one pipe in one go: output without end must not stop the loop."""


_DEBUG = ("platform.initRuntimeDone", "platform.runtimeDone", "platform.restoreRuntimeDone")
"""Records that are in a JSON log at system log level DEBUG only; the default is INFO."""


_NOT_LOGGED = (*_DEBUG, records.END, records.FAULT)
"""Neither are two that only subscribers of the Logs API get."""
_ERROR = "[ERROR] "
"""How AWS's client begins a report of an exception. Without AWS's own log descriptor it writes that in one line, with
carriage returns in it; on AWS it is one event of several lines."""


class Journal:
    """One log stream, while its environment lives."""

    def __init__(self, function: FunctionVersion, identity: str, events: EventStream) -> None:
        self.stream = logs.stream_name(function.version, identity, time.time())
        self.follow: Callable[[dict[str, Any]], None] | None = None
        """Gets every record, shaped as the Telemetry API does."""
        self._function = function
        self._events = events
        self._json = function.log_format == "JSON"
        self._group = function.group
        self._tail = logs.Tail()
        self._request_id = self._trace_id = ""
        self._cutters: dict[int, logs.LineCutter] = {}
        self._readable = select.poll()

    # The processes' output

    def attach(self, *descriptors: int) -> None:
        """Read ends of the processes' output, non-blocking."""
        for descriptor in descriptors:
            self._attach(descriptor, self._output)

    def attach_extensions(self, descriptor: int) -> None:
        """As attach: what external extensions write."""
        self._attach(descriptor, lambda line: self._record(line, "extension"))

    def _attach(self, descriptor: int, take: Callable[[str], None]) -> None:
        self._cutters[descriptor] = logs.LineCutter(take)
        self._readable.register(descriptor, select.POLLIN)

    def read(self, descriptor: int) -> bool:
        """Take what is there; False when nobody can write any more."""
        for _ in range(_MOST_READS):
            try:
                data = os.read(descriptor, _READ)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            self._cutters[descriptor].feed(data)
        return True

    def drain(self) -> None:
        """Everything that was written up to now."""
        for descriptor, _ in self._readable.poll(0):  # most invokes write nothing: one call for all pipes says so
            self.read(descriptor)

    def flush(self) -> None:
        """As drain, and what has no line end yet is a line too: at the end of a phase or a process."""
        self.drain()
        for cutter in self._cutters.values():
            cutter.flush()

    # The platform's lines

    def init_started(self, phase: str) -> None:
        record = {
            "initializationType": self._function.initialization_type,
            "phase": phase,
            "functionName": self._function.name,
            "functionVersion": self._function.version,
        }
        if self._function.spec.image:  # which has no runtime of AWS's to tell of
            self._platform("platform.initStart", record, "")
            return
        record |= self._subject()
        text = logs.init_start_line(record["runtimeVersion"], record["runtimeVersionArn"])
        self._platform("platform.initStart", record, text)

    def launch_failed(self, text: str) -> None:
        """An image's process could not be started."""
        self._record(text, "platform")

    def init_runtime_done(self, phase: str, status: str, error_type: str) -> None:
        record = {"initializationType": self._function.initialization_type, "phase": phase, "status": status}
        if error_type:
            record["errorType"] = error_type
        self._platform("platform.initRuntimeDone", record, "")

    def subscribed(self, name: str, types: tuple[str, ...], *, logs: bool) -> None:
        """By the Logs API, or by the Telemetry API."""
        record = {"name": name, "state": "Subscribed", "types": list(types)}
        shown = ", ".join(one.capitalize() for one in types)
        text = f"{'LOGS' if logs else 'TELEMETRY'}\tName: {name}\tState: Subscribed\tTypes: [{shown}]"
        if not logs:
            self._platform("platform.telemetrySubscription", record, text)
        else:
            self._platform(records.LOGS_SUBSCRIPTION, record, text)

    def extensions_begun(self, extensions: Iterable[Extension]) -> None:
        """How far each of them came, at the end of init."""
        for one in extensions:
            record: dict[str, Any] = {"name": one.name, "state": str(one.state), "events": list(one.events)}
            text = f"EXTENSION\tName: {one.name}\tState: {one.state}\tEvents: [{', '.join(one.events)}]"
            if one.error_type:
                record["errorType"] = one.error_type
                text += f"\tError Type: {one.error_type}"
            self._platform("platform.extension", record, text)

    def init_ended(self, duration: float, phase: str, status: str, error_type: str) -> None:
        record: dict[str, Any] = {
            "initializationType": self._function.initialization_type,
            "phase": phase,
            "status": status,
            "metrics": {"durationMs": round(duration, 3)},
        }
        if error_type:
            record["errorType"] = error_type
        # of a snapshot's init no REPORT tells, so its own line always does
        told = status != "success" or self._function.initialization_type == SNAP_START
        text = logs.init_report_line(duration, phase, status, error_type) if told else ""
        self._platform("platform.initReport", record, text)

    def restore_started(self) -> None:
        record = self._subject()
        if self._function.spec.image:
            kept = {name: record[name] for name in ("functionName", "functionVersion")}
            self._platform("platform.restoreStart", kept, "")
            return
        text = logs.restore_start_line(record["runtimeVersion"], record["runtimeVersionArn"])
        self._platform("platform.restoreStart", record, text)

    def restore_ended(self, duration: float, status: str, error_type: str) -> None:
        """Both records: that the runtime is through, and the report with the figure."""
        record: dict[str, Any] = {"status": status}
        if error_type:
            record["errorType"] = error_type
        self._platform("platform.restoreRuntimeDone", record, "")
        text = logs.restore_report_line(duration, status, error_type)
        self._platform("platform.restoreReport", {**record, "metrics": {"durationMs": round(duration, 3)}}, text)

    def _subject(self) -> dict[str, str]:
        return {
            "runtimeVersion": _runtime_version(self._function.spec.runtime),
            "runtimeVersionArn": f"arn:aws:lambda:{self._function.region}::runtime:lading",
            "functionName": self._function.name,
            "functionVersion": self._function.version,
        }

    def invoke_started(self, request_id: str, trace_id: str) -> None:
        self._request_id, self._trace_id = request_id, trace_id
        if self.structured:
            record = {"requestId": request_id, "version": self._function.version, **logs.tracing(trace_id)}
            self._platform("platform.start", record, "")
        if not self._json:
            self._write(logs.start_line(request_id, self._function.version), "platform")

    def runtime_done(self, record: dict[str, Any]) -> None:
        """Of an invoke, with its figures. Only where `structured`."""
        self._platform("platform.runtimeDone", record | logs.tracing(self._trace_id), "")

    def invoke_ended(self, report: logs.Report, fault: Fault | None) -> str:
        """The last lines of an invoke; returns its log's tail. Output that comes later belongs to no invoke."""
        if fault and not fault.reported:
            self._fault(report.request_id, fault)
        if self.structured:
            self._platform(records.END, {"requestId": report.request_id}, "")
            self._platform("platform.report", logs.report_record(report) | logs.tracing(self._trace_id), "")
        if not self._json:
            self._write(logs.end_line(report.request_id), "platform")
            self._write(logs.report_line(report), "platform")
        text = self._tail.text()
        self._tail, self._request_id = logs.Tail(), ""
        return text

    def _fault(self, request_id: str, fault: Fault) -> None:
        if isinstance(fault, TimedOut):
            lines = [logs.timeout_line(request_id, fault.seconds, time.time())]
        else:
            lines = [f"RequestId: {request_id} Error: {fault.message}", fault.error_type]
        if self.follow:
            self.follow({"time": iso(time.time()), "type": records.FAULT, "record": "\n".join(lines) + "\n"})
        for line in lines if not self._json else ():
            self._write(line, "platform")

    @property
    def structured(self) -> bool:
        """Whether anybody takes records: each invoke has some, and mostly nobody does."""
        return self._json or self.follow is not None

    def _platform(self, kind: str, record: dict[str, Any], text: str) -> None:
        """Once, in the log's format. `text` is "" where the text format has no line of its own for it."""
        if self.structured:
            whole = logs.platform_record(kind, record, time.time())
            if self.follow:
                self.follow(whole)
            if self._json and kind not in _NOT_LOGGED:
                self._write(logs.json_line(whole), "platform")
        if text and not self._json:
            self._write(text, "platform")

    def _output(self, line: str) -> None:
        if line.startswith(_ERROR):
            line = line.replace("\r", "\n")
        self._record(line, "function")

    def _record(self, line: str, kind: str) -> None:
        if self.follow:
            self.follow({"time": iso(time.time()), "type": kind, "record": line + "\n"})
        self._write(line, kind)

    def _write(self, line: str, source: str) -> None:
        self._tail.add(line)
        self._events.append(
            LogLine(time.time(), self._function.arn, self.stream, line, source, self._request_id, self._group)
        )


def _runtime_version(runtime: str) -> str:
    known = runtimes().get(runtime)
    return f"python:{known.python_version}.lading" if known else f"{runtime}.lading"
