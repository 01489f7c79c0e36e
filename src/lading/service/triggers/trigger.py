"""An asynchronous invoke that a service asks for, and who takes it. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from lading.service.control.permissions import Caller, allows
from lading.service.queue.event import Delivery


class Refusal(Enum):
    """Why a trigger reaches no function; EventBridge's codes (user guide, "Using dead-letter queues to process undelivered
    events")."""

    NO_FUNCTION = "RESOURCE_NOT_FOUND"
    NO_PERMISSION = "NO_PERMISSIONS"
    NOT_RUN = "FUNCTIONS_NOT_RUN"
    """Not AWS's: this service was started without environments."""


@dataclass(frozen=True)
class Trigger:
    """An event on its way to a function."""

    function: str
    """Its ARN, qualified or not."""
    principal: str
    """Whom the function's policy has to let in ("s3.amazonaws.com"); "" where a role of the sender's stands for that."""
    source: str
    """ARN of the bucket, topic, rule, …"""
    account: str
    """The sender's."""
    payload: bytes
    trace: str = ""
    """The trace header of whoever caused it, with its lineage where AWS follows chains through this service."""
    dead_letter: Delivery | None = None
    """What is sent in its place where it reaches no function."""


@dataclass(frozen=True)
class Standing:
    """How a function stood when it was looked at: whether it is there, and whom it lets in."""

    exists: bool
    runs: bool = False
    statements: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    """Of its policy."""
    region: str = ""

    def refusal(self, trigger: Trigger) -> Refusal | None:
        """Why a trigger wouldn't reach it; None where it would."""
        if not self.exists:
            return Refusal.NO_FUNCTION
        name = trigger.principal
        names = (name, name.replace("logs.", f"logs.{self.region}.", 1))  # the older name of CloudWatch Logs
        if name and not any(allows(self.statements, Caller(one, trigger.source, trigger.account)) for one in names):
            return Refusal.NO_PERMISSION
        return None if self.runs else Refusal.NOT_RUN


class Taker(Protocol):
    """The service that a request came through. Both block, and may be called neither on the event loop nor in the turn of moto's
    requests: operations of the control plane hold the state while they ask moto."""

    def standing(self, function: str) -> Standing:
        """Of the function with this ARN."""
        ...

    def take(self, triggers: Sequence[Trigger]) -> None:
        """Keeps those that reach a function: when this returns they are committed. Never raises for one that doesn't."""
        ...
