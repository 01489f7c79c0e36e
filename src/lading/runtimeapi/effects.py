"""What a step of the conversation means for the platform, as values. The pool carries them out."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from lading.model.value import value
from lading.runtimeapi.calls import Response
from lading.runtimeapi.subscription import Subscription


@value
class Reply:
    """Answer the request that came with this token."""

    token: Hashable
    response: Response


@dataclass(frozen=True, slots=True)
class InitDone:
    """The runtime and every extension wait for work."""


@dataclass(frozen=True, slots=True)
class InitFailed:
    """The runtime or an extension reported that its init failed. `body` is what a caller gets."""

    error_type: str
    body: bytes
    who: str = "runtime"


@dataclass(frozen=True, slots=True)
class Restorable:
    """The runtime finished its init under SnapStart and waits to be resumed from the snapshot."""


@dataclass(frozen=True, slots=True)
class RestoreFailed:
    """A hook after the restore failed."""

    error_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """A streamed response begins: its chunks follow outside the conversation, its end comes back as `stream_ended`."""

    request_id: str
    content_type: str


@value
class Responded:
    """The caller's answer is complete. `error_type` is "" where the function succeeded."""

    request_id: str
    body: bytes
    content_type: str
    error_type: str = ""
    streamed: bool = False


@value
class RuntimeDone:
    """The runtime asked for the next event after this one: its own part is over."""

    request_id: str


@value
class InvokeDone:
    """The runtime and every extension are through with this invoke."""

    request_id: str


@dataclass(frozen=True, slots=True)
class ExtensionFailed:
    """An extension called exit/error."""

    name: str
    error_type: str


@dataclass(frozen=True, slots=True)
class ExtensionRegistered:
    """The runtime is started once all external ones have."""

    name: str
    external: bool


@dataclass(frozen=True, slots=True)
class Subscribed:
    """An extension wants telemetry or logs from now on."""

    name: str
    subscription: Subscription


Effect = (
    Reply
    | InitDone
    | InitFailed
    | Restorable
    | RestoreFailed
    | StreamStarted
    | Responded
    | RuntimeDone
    | InvokeDone
    | ExtensionFailed
    | ExtensionRegistered
    | Subscribed
)
