"""What the pool needs to know of a function version, of a call to it, and what comes out. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from lading.model.value import value
from lading.sandbox.spec import SandboxSpec

SNAP_START = "snap-start"
"""The initialization type of environments that are restored from a snapshot."""


@dataclass(frozen=True)
class Budgets:
    """Times in seconds. AWS's by default; tests shorten them."""

    init: float = 10.0
    """On demand (Lambda runtime environment lifecycle, "Init phase")."""
    snapshot: float = 130.0
    """The init before a snapshot; the function's timeout where that is longer ("Lambda SnapStart runtime hooks")."""
    restore: float = 10.0
    """A restore with its hooks (the same page)."""
    shutdown_internal: float = 0.5
    shutdown_external: float = 2.0
    runtime_share: float = 0.3
    """Of the shutdown budget, what the runtime process gets before the extensions have the rest."""
    linger: float = 0.05
    """How long after an invoke an environment stays thawed: back-to-back invokes then cost no freeze."""


class RootLease(Protocol):
    """See image_function.py."""

    def hold(self) -> None: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class FunctionVersion:
    """One published version, or $LATEST at one revision: environments of equal values are interchangeable."""

    arn: str
    """Without qualifier."""
    name: str
    spec: SandboxSpec
    version: str = "$LATEST"
    revision: str = ""
    """Changes with anything that environments are made of, the variables too: values that differ there differ in their hash."""
    timeout: float = 3.0
    """Seconds; 0 means none (only for debugging)."""
    log_format: str = "Text"
    """ "Text" or "JSON"."""
    log_group: str = ""
    """Empty: /aws/lambda/NAME."""
    region: str = "us-east-1"
    account_id: str = "000000000000"
    role: str = ""
    """ARN of its execution role."""
    initialization_type: str = "on-demand"
    budgets: Budgets = Budgets()
    root: RootLease | None = field(default=None, compare=False, repr=False)
    """What an image's folders are held by, for as long as an environment of it lives."""

    def __hash__(self) -> int:
        """Asked for with every invoke."""
        return hash((self.arn, self.version, self.revision))

    @property
    def group(self) -> str:
        return self.log_group or f"/aws/lambda/{self.name}"

    @property
    def qualified_arn(self) -> str:
        return f"{self.arn}:{self.version}"


@dataclass(frozen=True)
class StreamSink:
    """Where a streamed response goes as it comes. All are called from the event loop."""

    started: Callable[[str], None]
    """With the content type."""
    chunk: Callable[[bytes], None]
    hold: Callable[[Callable[[], None]], bool] = lambda resume: False
    """Asked after every piece. True: nothing more is read from the function until `resume` was called."""


@value
class InvokeRequest:
    """One call. Without a sink a streamed response is collected and returned whole."""

    request_id: str
    event: bytes
    invoked_arn: str = ""
    """Empty: the version's own."""
    trace_id: str = ""
    client_context: str = ""
    cognito_identity: str = ""
    tenant_id: str = ""
    asynchronous: bool = False
    """An event from a queue: the limit on requests per second is for synchronous ones."""
    sink: StreamSink | None = None


@value
class Answer:
    """What the caller gets, as soon as there is something to get. `error_type` is "" where the function succeeded."""

    payload: bytes
    content_type: str = "application/json"
    error_type: str = ""
    streamed: bool = False

    @property
    def function_error(self) -> str:
        """The value of X-Amz-Function-Error; "" for success."""
        return "Unhandled" if self.error_type else ""


@value
class Outcome:
    """What an invoke phase came to, measured. Times in milliseconds, memory in MB."""

    request_id: str
    answer: Answer
    status: str
    """ "success", "error", "timeout" or "failure" (AWS's words in platform.report)."""
    duration: float
    billed: int
    memory: int
    init: float | None = None
    """Of the init phase before this invoke; None when it was warm or the init was part of the invoke."""
    restore: float | None = None
    log: str = ""
    """The last 4 KB of its log."""
    environment: str = ""
    started_at: float = 0.0
    """Monotonic seconds when the request was accepted by its environment; `ended_at` when the caller was answered."""
    ended_at: float = 0.0
    cold: bool = False
