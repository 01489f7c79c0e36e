"""Which call is legal when: the tables of the runtime process and of an extension. Everything else follows from them.

The docs' pictures are drawn from these tables. Source: Lambda Runtime API and Extensions API references; for what
the references leave open, the behaviour of AWS's runtime interface emulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class RuntimeState(StrEnum):
    """Where the runtime process is. Values are AWS's names, as they stand in error messages."""

    STARTED = "Started"
    INIT_ERROR = "InitError"
    RESTORE_READY = "RestoreReady"
    RESTORING = "Restoring"
    RESTORE_ERROR = "RestoreError"
    READY = "Ready"
    RUNNING = "Running"
    RESPONDING = "InvocationResponse"
    RESPONDING_ERROR = "InvocationErrorResponse"
    RESPONDED = "ResponseSent"
    EXITED = "Exited"


class RuntimeEvent(StrEnum):
    """Calls the runtime makes, then what the platform does."""

    NEXT = "GET /invocation/next"
    RESPONSE = "POST /invocation/{id}/response"
    ERROR = "POST /invocation/{id}/error"
    INIT_ERROR = "POST /init/error"
    RESTORE_NEXT = "GET /restore/next"
    RESTORE_ERROR = "POST /restore/error"
    DISPATCH = "an event is handed over"
    RESTORE = "the snapshot is resumed"
    RECEIVED = "the response is received"
    EXIT = "the process ends"


class ExtensionState(StrEnum):
    """Where an extension is. LAUNCHED: an external one whose process runs and has not registered yet."""

    LAUNCHED = "Started"
    REGISTERED = "Registered"
    READY = "Ready"
    RUNNING = "Running"
    INIT_ERROR = "InitError"
    EXIT_ERROR = "ExitError"
    LAUNCH_ERROR = "LaunchError"
    EXITED = "Exited"


class ExtensionEvent(StrEnum):
    """Calls an extension makes, then what the platform does."""

    REGISTER = "POST /register"
    NEXT = "GET /event/next"
    INIT_ERROR = "POST /init/error"
    EXIT_ERROR = "POST /exit/error"
    DISPATCH = "an event is handed over"
    LAUNCH_ERROR = "the program can't be started"
    EXIT = "the process ends"


_R, _RE = RuntimeState, RuntimeEvent
_E, _EE = ExtensionState, ExtensionEvent

RUNTIME: Mapping[tuple[RuntimeState, RuntimeEvent], RuntimeState] = {
    (_R.STARTED, _RE.NEXT): _R.READY,
    (_R.STARTED, _RE.INIT_ERROR): _R.INIT_ERROR,
    (_R.STARTED, _RE.RESTORE_NEXT): _R.RESTORE_READY,
    (_R.RESTORE_READY, _RE.RESTORE_NEXT): _R.RESTORE_READY,
    (_R.RESTORE_READY, _RE.RESTORE): _R.RESTORING,
    (_R.RESTORE_READY, _RE.INIT_ERROR): _R.INIT_ERROR,
    (_R.RESTORING, _RE.NEXT): _R.READY,
    (_R.RESTORING, _RE.RESTORE_ERROR): _R.RESTORE_ERROR,
    # AWS's emulator takes it for the other: clients have reported failed hooks so.
    (_R.RESTORING, _RE.INIT_ERROR): _R.RESTORE_ERROR,
    # A client whose connection broke asks again and gets the same answer.
    (_R.READY, _RE.NEXT): _R.READY,
    (_R.READY, _RE.DISPATCH): _R.RUNNING,
    (_R.RUNNING, _RE.NEXT): _R.RUNNING,
    (_R.RUNNING, _RE.RESPONSE): _R.RESPONDING,
    (_R.RUNNING, _RE.ERROR): _R.RESPONDING_ERROR,
    (_R.RESPONDING, _RE.RECEIVED): _R.RESPONDED,
    (_R.RESPONDING_ERROR, _RE.RECEIVED): _R.RESPONDED,
    (_R.RESPONDED, _RE.NEXT): _R.READY,
    **{(state, _RE.EXIT): _R.EXITED for state in _R if state is not _R.EXITED},
}

EXTENSION: Mapping[tuple[ExtensionState, ExtensionEvent], ExtensionState] = {
    (_E.LAUNCHED, _EE.REGISTER): _E.REGISTERED,
    (_E.LAUNCHED, _EE.LAUNCH_ERROR): _E.LAUNCH_ERROR,
    (_E.REGISTERED, _EE.NEXT): _E.READY,
    (_E.REGISTERED, _EE.INIT_ERROR): _E.INIT_ERROR,
    (_E.REGISTERED, _EE.EXIT_ERROR): _E.EXIT_ERROR,
    (_E.READY, _EE.DISPATCH): _E.RUNNING,
    (_E.READY, _EE.EXIT_ERROR): _E.EXIT_ERROR,
    (_E.RUNNING, _EE.NEXT): _E.READY,
    (_E.RUNNING, _EE.EXIT_ERROR): _E.EXIT_ERROR,
    # Said again: the first error counts.
    (_E.INIT_ERROR, _EE.INIT_ERROR): _E.INIT_ERROR,
    (_E.EXIT_ERROR, _EE.EXIT_ERROR): _E.EXIT_ERROR,
    **{(state, _EE.EXIT): _E.EXITED for state in _E if state is not _E.EXITED},
}

RUNTIME_TARGETS: Mapping[RuntimeEvent, RuntimeState] = {
    _RE.NEXT: _R.READY,
    _RE.RESPONSE: _R.RESPONDING,
    _RE.ERROR: _R.RESPONDING_ERROR,
    _RE.INIT_ERROR: _R.INIT_ERROR,
    _RE.RESTORE_NEXT: _R.RESTORE_READY,
    _RE.RESTORE_ERROR: _R.RESTORE_ERROR,
}
"""The state a call would lead to: named in the refusal."""
EXTENSION_TARGETS: Mapping[ExtensionEvent, ExtensionState] = {
    _EE.REGISTER: _E.REGISTERED,
    _EE.NEXT: _E.READY,
    _EE.INIT_ERROR: _E.INIT_ERROR,
    _EE.EXIT_ERROR: _E.EXITED,
}

_State = TypeVar("_State", bound=StrEnum)
_Event = TypeVar("_Event", bound=StrEnum)


def draw(table: Mapping[tuple[_State, _Event], _State], start: _State) -> str:
    """A table as a Mermaid state diagram. The end of a process, possible from anywhere, is left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {start.name}"]
    for (state, event), target in table.items():
        if event.name != "EXIT":
            lines.append(f"    {state.name} --> {target.name}: {event.value}")
    return "\n".join(lines)
