"""What the platform itself says when a process ends or time is up: error types and messages, as AWS words them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from lading.runtimeapi.calls import failure, timed_out
from lading.sandbox.spec import ProcessEnded

_SIGNALS = {
    4: "illegal instruction",
    6: "aborted",
    7: "bus error",
    8: "floating point exception",
    9: "killed",
    11: "segmentation fault",
    13: "broken pipe",
    15: "terminated",
}
"""Names as in AWS's messages (those of Go's syscall package)."""


@dataclass(frozen=True)
class Fault:
    """Why a phase ended without the runtime's own answer. `status` is AWS's word in platform.report."""

    error_type: str
    message: str
    status: str = "failure"
    reported: bool = False
    """The runtime said so itself, and logged it."""

    def body(self, request_id: str) -> bytes:
        return failure(self.error_type, self.message, request_id)


@dataclass(frozen=True)
class TimedOut(Fault):
    """The function's timeout is over. `seconds` is the timeout, not what was used."""

    seconds: float = 0.0

    def body(self, request_id: str) -> bytes:
        return timed_out(request_id, self.seconds)


@functools.lru_cache(256)
def time_is_up(seconds: float) -> TimedOut:
    return TimedOut("Sandbox.Timedout", f"Task timed out after {seconds:.2f} seconds", "timeout", seconds=seconds)


def process_ended(ended: ProcessEnded) -> Fault:
    """The runtime's process or an extension's ended while it was needed."""
    if ended.name != "runtime":
        return Fault("Extension.Crash", f"Extension {ended.name} crashed: {_reason(ended) or 'exit status 0'}")
    reason = _reason(ended)
    message = f"Runtime exited with error: {reason}" if reason else "Runtime exited without providing a reason"
    return Fault("Runtime.ExitError", message)


def extension_refused(name: str, reason: str) -> Fault:
    """What the kernel, or the platform, says of an extension's program."""
    return Fault("Extension.LaunchError", f"fork/exec /opt/extensions/{name}: {reason}")


ENVIRONMENT_GONE = Fault("Sandbox.Failure", "The execution environment ended unexpectedly")
EXTENSION_EXIT = "Extension.ExitError"


def _reason(ended: ProcessEnded) -> str:
    if ended.signal is not None:
        return f"signal: {_SIGNALS.get(ended.signal, f'signal {ended.signal}')}"
    return f"exit status {ended.exit_code}" if ended.exit_code else ""
