"""An event source mapping as a poller needs it. Values only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lading.service.control.names import FunctionReference, Scope
from lading.service.queue.event import Result
from lading.service.sources.pattern import Filters

PAYLOAD = 6_291_456
"""Bytes of a batch's event."""


@dataclass(frozen=True)
class SourceMapping:
    """One enabled mapping. `settings` is the API's configuration."""

    scope: Scope
    uuid: str
    source: str
    """ARN of the queue or stream."""
    function: FunctionReference
    filters: Filters
    settings: Mapping[str, Any] = field(hash=False)

    @property
    def kind(self) -> str:
        """ "sqs", "kinesis" or "dynamodb"."""
        return self.source.split(":")[2]

    @property
    def source_scope(self) -> Scope:
        _, _, _, region, account, _ = self.source.split(":", 5)
        return Scope(account, region)

    @property
    def batch_size(self) -> int:
        return int(self.settings["BatchSize"])

    @property
    def window(self) -> float:
        """Seconds that a batch may wait to be filled."""
        return float(self.settings["MaximumBatchingWindowInSeconds"])

    @property
    def tumbling(self) -> int:
        """Seconds of a tumbling window; 0: there are none."""
        return int(self.settings.get("TumblingWindowInSeconds") or 0)

    @property
    def partial(self) -> bool:
        """Whether the function says which records failed."""
        return "ReportBatchItemFailures" in self.settings["FunctionResponseTypes"]


Invoke = Callable[[SourceMapping, bytes, str], Awaitable[Result]]
"""One synchronous call of the mapping's function with a batch and its trace header ("" for a new one); `refused` where it
didn't run."""
