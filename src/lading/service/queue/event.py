"""What the queue keeps: an accepted event, and the deliveries of its record once it has ended. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lading.service.control.names import Scope


@dataclass(frozen=True)
class Delivery:
    """A message on its way to a destination or dead-letter queue."""

    arn: str
    kind: str
    """ "record" (a destination's) or "event" (a dead-letter queue's)."""
    message: str
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Of a dead-letter message: RequestID, ErrorCode, ErrorMessage."""
    succeeded: bool = False


@dataclass(frozen=True)
class QueuedEvent:
    """An accepted event. Times are seconds of the service's clock."""

    id: str
    """The request id of the call that brought it; every attempt has it."""
    scope: Scope
    name: str
    qualifier: str | None
    event: bytes
    accepted: float
    due: float
    trace_id: str = ""
    client_context: str = ""
    attempts: int = 0
    """Invokes that ended with a function error."""
    refusals: int = 0
    """Throttles and system errors, in a row."""
    lineage: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Function (a hash of its ARN) → how often it stands in the chain that led here."""
    deliveries: tuple[Delivery, ...] = ()
    """Not empty: the function is through with it, these are to be sent."""

    @property
    def lane(self) -> str:
        """Events of one lane share a function's concurrency."""
        return f"{self.scope.account}/{self.scope.region}/{self.name}"

    @property
    def arn(self) -> str:
        """The function's ARN with the qualifier it was called with."""
        return self.scope.function_arn(self.name, self.qualifier or "$LATEST")

    def age(self, now: float) -> float:
        return now - self.accepted


@dataclass(frozen=True)
class Result:
    """What one attempt came to. `refused`: it never ran (throttled, or the system failed)."""

    payload: bytes = b""
    function_error: str = ""
    version: str = "$LATEST"
    refused: bool = False


Config = Mapping[str, Any]
"""An event invoke config as the control plane keeps it."""
