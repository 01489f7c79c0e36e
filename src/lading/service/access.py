"""One line for each request and event, as JSON or for people. Never a query, header or body: those may hold secrets."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from lading.model.value import value
from lading.service.events import (
    AsyncEvent,
    DeliveryFailed,
    EnvironmentChanged,
    Event,
    ImageChanged,
    InvocationEnded,
    LogLine,
    StreamRead,
    Throttled,
)
from lading.service.moment import iso

PATH_SHOWN = 200
"""Characters of a path."""


@value
class Served:
    """A request that was answered. `duration` in milliseconds, to the last byte of the answer."""

    time: float
    """Seconds since the epoch, when it was over."""
    request_id: str
    service: str
    """As it is signed for; "" where that was not to be known; "url" for function URLs, "lading" for the service's own."""
    operation: str
    method: str
    path: str
    status: int
    error: str
    """AWS's code; "" for success."""
    duration: float
    account: str
    region: str
    client: str
    received: int
    """Bytes of its body."""


Note = Callable[[Served | Event], None]
"""Takes what happened; called on the event loop, so it may not wait."""


def json_line(what: Served | Event) -> str:
    """An object with `time` (RFC 3339) and `event`; "" for what has no line: functions' own output is in their logs."""
    if isinstance(what, LogLine) or _is_usual(what):
        return ""
    values: dict[str, Any] = {"time": iso(what.time), "event": _NAMES[type(what)]}
    values |= {name: value for name, value in asdict(what).items() if name != "time" and value not in ("", None)}
    if isinstance(what, Served | InvocationEnded | ImageChanged):
        values["duration"] = round(what.duration, 3)
    return json.dumps(values, separators=(",", ":"))


def text_line(what: Served | Event) -> str:
    """The same for people."""
    if isinstance(what, LogLine) or _is_usual(what):
        return ""
    moment = dt.datetime.fromtimestamp(what.time).strftime("%H:%M:%S")
    if isinstance(what, Served):
        name = " ".join(part for part in (what.service, what.operation or f"{what.method} {what.path}") if part)
        error = f" {what.error}" if what.error else ""
        return f"{moment} {what.status} {name}{error} {what.duration:.1f} ms {what.request_id}"
    if isinstance(what, ImageChanged):
        return f"{moment} image {what.image[:19]}: {what.state}, {what.duration:.1f} ms, account {what.account}"
    name = what.function.rpartition(":")[2]
    if isinstance(what, InvocationEnded):
        return f"{moment} {name}: {what.status}, {what.duration:.1f} ms, {what.memory} MB {what.request_id}"
    if isinstance(what, Throttled):
        return f"{moment} {name}: throttled, {what.reason} {what.request_id}"
    if isinstance(what, StreamRead):
        return ""
    if isinstance(what, AsyncEvent):
        return f"{moment} {name}: {what.metric}, after {what.age / 1000:.0f} s {what.request_id}"
    if isinstance(what, DeliveryFailed):
        return f"{moment} {name}: not invoked for {what.source}, {what.reason}"
    return f"{moment} {name}: environment {what.environment[:8]} {what.state}" if what.state in _SHOWN else ""


def _is_usual(what: Served | Event) -> bool:
    """Whether an event in the queue only goes its way, of which request and invocation tell."""
    return isinstance(what, AsyncEvent) and what.metric in ("AsyncEventsReceived", "AsyncEventAge")


def is_silent(what: Served | Event) -> bool:
    """Whether people aren't told: most of what happens to environments happens with every invoke."""
    return _is_usual(what) or (isinstance(what, EnvironmentChanged) and what.state not in _SHOWN)


_SHOWN = ("starting", "resetting", "stopped")
"""States of environments that people see: the others change with every invoke."""
_NAMES = {
    Served: "request",
    InvocationEnded: "invocation",
    EnvironmentChanged: "environment",
    Throttled: "throttled",
    StreamRead: "stream",
    DeliveryFailed: "failed",
    AsyncEvent: "async",
    ImageChanged: "image",
}
