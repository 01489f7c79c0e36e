"""Counts what the event stream tells, under CloudWatch's names, and shows it in Prometheus' text format."""

from __future__ import annotations

import bisect
from collections import defaultdict
from dataclasses import dataclass

from lading.service.events import (
    AsyncEvent,
    DeliveryFailed,
    EnvironmentChanged,
    Event,
    InvocationEnded,
    StreamRead,
    Throttled,
)

BUCKETS = (1, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 30_000, 900_000)
"""Upper bounds of Duration, in milliseconds."""
ASYNC = (
    "AsyncEventsReceived", "AsyncEventsDropped", "RecursiveInvocationsDropped", "DeadLetterErrors",
    "DestinationDeliveryFailures",
)  # fmt: skip
"""Counted of events in the asynchronous queue."""
FAILED = {
    "events": "FailedInvocations",
    "sns": "NumberOfNotificationsFailed",
    "scheduler": "TargetErrorCount",
    "logs": "DeliveryErrors",
}
"""Service of a source that reached no function → the metric that CloudWatch counts it in; others have none."""


@dataclass(frozen=True)
class LiveEnvironment:
    """An execution environment as it was last seen."""

    identity: str
    function: str
    state: str
    since: float
    """Seconds since the epoch."""


class Metrics:
    """Feed it events; ask for the text."""

    def __init__(self) -> None:
        self._environments: dict[str, EnvironmentChanged] = {}
        """What was last heard of each that lives."""
        self._counts: dict[tuple[str, str], float] = defaultdict(float)
        """(metric, function) → value."""
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self._throttles: dict[tuple[str, str], int] = defaultdict(int)
        """(function, reason) → times."""
        self._ages: dict[tuple[str, str, str], float] = {}
        """(function, stream, shard) → age of the last record that was handed on, in milliseconds."""
        self._event_ages: dict[str, float] = {}
        """Function → age of the event that was tried last, in milliseconds."""
        self._failed: dict[tuple[str, str, str], int] = defaultdict(int)
        """(metric, source, reason) → times."""

    @property
    def environments(self) -> list[LiveEnvironment]:
        return [
            LiveEnvironment(one.environment, one.function, one.state, one.time) for one in self._environments.values()
        ]

    def add(self, event: Event) -> None:
        if isinstance(event, EnvironmentChanged):
            if event.state == "stopped":
                self._environments.pop(event.environment, None)
            else:
                self._environments[event.environment] = event
        elif isinstance(event, InvocationEnded):
            self._counts["Invocations", event.function] += 1
            self._counts["Errors", event.function] += event.status != "success"
            self._counts["Duration", event.function] += event.duration
            self._buckets[event.function][bisect.bisect_left(BUCKETS, event.duration)] += 1
        elif isinstance(event, Throttled):
            self._throttles[event.function, event.reason] += 1
        elif isinstance(event, StreamRead):
            self._ages[event.function, event.source, event.shard] = event.age
        elif isinstance(event, AsyncEvent):
            if event.metric in ASYNC:
                self._counts[event.metric, event.function] += 1
            else:
                self._event_ages[event.function] = event.age
        elif isinstance(event, DeliveryFailed) and (metric := FAILED.get(event.source.split(":")[2])):
            self._failed[metric, event.source, event.reason] += 1

    def text(self, *, queued: int = 0) -> str:
        """Prometheus' text exposition format, version 0.0.4. `queued`: asynchronous events that wait or are tried."""
        lines: list[str] = []
        for metric in ("Invocations", "Errors", *ASYNC):
            lines.append(f"# TYPE {metric} counter")
            lines += [
                f"{metric}{_labels(arn)} {value:g}" for (name, arn), value in self._counts.items() if name == metric
            ]
        lines.append("# TYPE Throttles counter")
        lines += [f"Throttles{_labels(arn, reason=why)} {count}" for (arn, why), count in self._throttles.items()]
        lines.append("# TYPE Duration histogram")
        for arn, buckets in self._buckets.items():
            lines += self._histogram(arn, buckets)
        lines.append("# TYPE ConcurrentExecutions gauge")
        busy: dict[str, int] = defaultdict(int)
        for live in self._environments.values():
            busy[live.function] += live.state == "busy"
        lines += [f"ConcurrentExecutions{_labels(arn)} {count}" for arn, count in busy.items()]
        lines.append("# TYPE IteratorAge gauge")
        for (arn, source, shard), age in self._ages.items():
            lines.append(f"IteratorAge{_labels(arn, EventSourceArn=source, ShardId=shard)} {age:g}")
        lines.append("# TYPE AsyncEventAge gauge")
        lines += [f"AsyncEventAge{_labels(arn)} {age:g}" for arn, age in self._event_ages.items()]
        for metric in FAILED.values():
            lines.append(f"# TYPE {metric} counter")
            for (name, source, reason), count in self._failed.items():
                if name == metric:
                    lines.append(f'{metric}{{source="{_escaped(source)}",reason="{reason}"}} {count}')
        lines += ["# TYPE AsyncEventsQueued gauge", f"AsyncEventsQueued {queued}"]
        return "\n".join(lines) + "\n"

    def _histogram(self, arn: str, buckets: list[int]) -> list[str]:
        lines, total = [], 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), buckets, strict=True):
            total += count
            lines.append(f"Duration_bucket{_labels(arn, le=bound)} {total}")
        lines.append(f"Duration_sum{_labels(arn)} {self._counts['Duration', arn]:g}")
        return [*lines, f"Duration_count{_labels(arn)} {total}"]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _labels(arn: str, **more: str) -> str:
    _, _, _, region, account, _, name = arn.split(":", 6)
    pairs = {"FunctionName": name, "region": region, "account": account, **more}
    return "{" + ",".join(f'{key}="{value}"' for key, value in pairs.items()) + "}"
