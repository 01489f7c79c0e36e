"""An asynchronous invoke that a service asks for, and who takes it. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

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


class Taker(Protocol):
    """The service that a request came through. Both block, and may not be called on the event loop."""

    def refusal(self, trigger: Trigger) -> Refusal | None:
        """Why it would reach no function; None where it would."""
        ...

    def take(self, triggers: Sequence[Trigger]) -> None:
        """Keeps those that reach a function: when this returns they are committed. Never raises for one that doesn't."""
        ...
