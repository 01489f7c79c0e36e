"""Telemetry records as each version of the two APIs has them: a record of ours goes in, what a subscriber is sent comes out.

Pure. Sources: "Lambda Telemetry API Event schema reference" and "Using the Lambda Logs API" of the Developer Guide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

LOGS_SCHEMAS = ("2020-08-15", "2021-03-18")
TELEMETRY_SCHEMAS = ("2022-07-01", "2022-12-13", "2025-01-29")
_WITHOUT_OBJECTS = (*LOGS_SCHEMAS, "2022-07-01")
"""Older than 2022-12-13: what a function writes is text there, also where its log format is JSON."""
END, FAULT, LOGS_SUBSCRIPTION = "platform.end", "platform.fault", "platform.logsSubscription"
_SUBSCRIPTION, _RUNTIME_DONE = "platform.telemetrySubscription", "platform.runtimeDone"
ONLY_LOGS = (END, FAULT, LOGS_SUBSCRIPTION)
"""Records that the Telemetry API has not."""
_LOGS_FIELDS: Mapping[str, tuple[str, ...]] = {
    "platform.start": ("requestId", "version"),
    END: ("requestId",),
    "platform.report": ("requestId", "metrics"),
    "platform.extension": ("name", "state", "events"),
    LOGS_SUBSCRIPTION: ("name", "state", "types"),
    "platform.logsDropped": ("reason", "droppedRecords", "droppedBytes"),
}
_DONE_STATUS = {"error": "failure"}
"""2021-03-18 knows success, failure and timeout."""


def shape(record: Mapping[str, Any], schema: str, *, structured: bool) -> dict[str, Any] | None:
    """What of a record {time, type, record} a subscriber of that schema gets; None: nothing.

    structured: the function's log format is JSON, so what it writes may be objects.
    """
    kind, content = record["type"], record["record"]
    if kind in ("function", "extension"):
        if structured and kind == "function" and schema not in _WITHOUT_OBJECTS:
            content = _parsed(content)
    elif schema in LOGS_SCHEMAS:
        content = _of_logs(kind, content, schema)
        if content is None:
            return None
    elif kind in ONLY_LOGS:
        return None
    return {"time": record["time"], "type": kind, "record": content}


def _of_logs(kind: str, content: Any, schema: str) -> Any:
    if kind == FAULT:
        return content
    if kind == _RUNTIME_DONE and schema != LOGS_SCHEMAS[0]:
        status = content["status"]
        return {"requestId": content["requestId"], "status": _DONE_STATUS.get(status, status)}
    fields = _LOGS_FIELDS.get(kind)
    return None if fields is None else {name: content[name] for name in fields if name in content}


def _parsed(line: str) -> Any:
    """A line as the object that it says; itself where it says none. It comes from a function: anything may be in it."""
    if not line.startswith("{"):
        return line
    try:
        return json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return line


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
