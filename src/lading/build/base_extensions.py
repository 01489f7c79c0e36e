"""Extensions as lading-rie serves them: programs in /opt/extensions are started, registered, told of events and of the end.

Becomes part of lading-rie (base.emulator_source): standard library only, syntax of Python 3.9, imports nothing of lading.
Source: Lambda Extensions API reference; "Using the Lambda Extensions API". No Telemetry API, as in AWS's emulator.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
import uuid
from typing import Any

EXTENSION_PATH = "/2020-01-01/extension/"
FOLDER = "/opt/extensions"
MOST = 10
REGISTER_SECONDS = 10.0
"""For all of them to register and ask for their first event: the init phase."""
SHUTDOWN_SECONDS = 2.0
HIDDEN = (
    "AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT", "_AWS_XRAY_DAEMON_ADDRESS", "_AWS_XRAY_DAEMON_PORT",
    "_HANDLER", "_X_AMZN_TRACE_ID",
)  # fmt: skip
"""Variables that extensions don't have."""
Answer = tuple[int, dict[str, Any], dict[str, str]]
"""Status, body, headers."""


class Extension:
    """One that runs: external ones have a process of their own, internal ones live in the runtime's."""

    def __init__(self, name: str, process: subprocess.Popen[bytes] | None) -> None:
        self.name, self.process = name, process
        self.identifier = ""
        self.events: list[str] = []
        self.asked = False
        """For an event, ever."""
        self.waiting = False
        self.failure = ""
        self.pending: list[dict[str, Any]] = []


class Extensions:
    """Those of one life of the function's processes. Every change is told to who waits in `_until`."""

    def __init__(self, folder: str = FOLDER) -> None:
        self._folder = folder
        self._all: list[Extension] = []
        self._ending: list[Extension] = []
        self._changed = threading.Condition()
        self._open = False

    def start(self, variables: dict[str, str]) -> str:
        """Start all and wait until they have registered; what went wrong, as an error type and a message with a space between."""
        names = sorted(os.listdir(self._folder)) if os.path.isdir(self._folder) else []  # noqa: PTH112, PTH208
        with self._changed:
            self._open = True
        seen = {name: value for name, value in variables.items() if name not in HIDDEN}
        for name in names:
            path = os.path.join(self._folder, name)  # noqa: PTH118
            if not os.path.isfile(path):  # noqa: PTH113
                continue
            try:
                process = subprocess.Popen([path], env=seen, cwd="/", start_new_session=True)
            except OSError as error:
                return f"Extension.LaunchError fork/exec {path}: {str(error.strerror).lower()}"
            extension = Extension(name, process)
            with self._changed:
                self._all.append(extension)
            threading.Thread(target=self._watch, args=(extension,), daemon=True).start()
        return self._until(lambda one: bool(one.identifier), REGISTER_SECONDS, "did not register")

    def settled(self) -> str:
        """Wait until all have asked for an event: the end of the init phase, once. As `start`."""
        if not self._open:
            return ""
        failure = self._until(lambda one: one.asked, REGISTER_SECONDS, "did not ask for its first event")
        with self._changed:
            self._open = False
        return failure

    def told(self, request_id: str, arn: str, trace: str, deadline: float) -> None:
        """INVOKE to those that asked for it. `deadline`: seconds since the epoch."""
        event = {"eventType": "INVOKE", "deadlineMs": int(deadline * 1000), "requestId": request_id,
                 "invokedFunctionArn": arn, "tracing": {"type": "X-Amzn-Trace-Id", "value": trace}}  # fmt: skip
        with self._changed:
            for one in self._all:
                if "INVOKE" in one.events:
                    one.pending.append(event)
            self._changed.notify_all()

    def finished(self, seconds: float) -> str:
        """Wait until those that were told ask for the next event. As `start`."""
        return self._until(lambda one: "INVOKE" not in one.events or (one.waiting and not one.pending), seconds, "")

    def stop(self, reason: str) -> None:
        """SHUTDOWN to those that asked for it, and the end of all."""
        with self._changed:
            ending, self._all, self._ending = self._all, [], self._all
            event = {
                "eventType": "SHUTDOWN",
                "shutdownReason": reason,
                "deadlineMs": int((time.time() + SHUTDOWN_SECONDS) * 1000),
            }
            for one in ending:
                if "SHUTDOWN" in one.events:
                    one.pending.append(event)
            self._changed.notify_all()
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        for one in ending:
            if one.process is None:
                continue
            if "SHUTDOWN" in one.events:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    one.process.wait(max(deadline - time.monotonic(), 0))
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()

    def _until(self, reached: Any, seconds: float, complaint: str) -> str:
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                failed = next((one.failure for one in self._all if one.failure), "")
                late = [one for one in self._all if not reached(one)]
                if failed or not late:
                    return failed
                left = deadline - time.monotonic()
                if left <= 0:
                    return f"Extension.InitError {late[0].name} {complaint}" if complaint else ""
                self._changed.wait(left)

    def _watch(self, extension: Extension) -> None:
        assert extension.process is not None
        status = extension.process.wait()
        with self._changed:
            if extension in self._all and not extension.failure:
                how = f"signal: {-status}" if status < 0 else f"exit status {status}"
                extension.failure = f"Extension.Crash {extension.name} exited: {how}"
            self._changed.notify_all()

    # Calls

    def register(self, name: str, body: bytes, identity: dict[str, str]) -> Answer:
        try:
            events = json.loads(body or b"{}").get("events") or []
            known = all(event in ("INVOKE", "SHUTDOWN") for event in events)
        except (ValueError, AttributeError, TypeError):
            return refusal(403, "InvalidRequestFormat", "the body is no JSON object with events")
        with self._changed:
            external = next((one for one in self._all if one.process is not None and one.name == name), None)
            if not name:
                return refusal(403, "Extension.InvalidExtensionName", "Empty extension name")
            if not known or (external is None and "SHUTDOWN" in events):
                return refusal(403, "Extension.InvalidEventType", "Event type not supported")
            taken = any(one.name == name and one.identifier for one in self._all)
            if not self._open or taken:
                kind = "Extension.AlreadyRegistered" if taken else "Extension.RegistrationClosed"
                return refusal(403, kind, f"{name} can't register")
            if external is None and len(self._all) >= MOST:
                return refusal(403, "Extension.TooManyExtensions", f"more than {MOST} extensions")
            extension = external or Extension(name, None)
            if external is None:
                self._all.append(extension)
            extension.identifier, extension.events = str(uuid.uuid4()), list(events)
            self._changed.notify_all()
        return 200, identity, {"Lambda-Extension-Identifier": extension.identifier}

    def find(self, identifier: str) -> Extension | None:
        with self._changed:
            known = (*self._all, *self._ending)
            return next((one for one in known if identifier and one.identifier == identifier), None)

    def next(self, extension: Extension) -> dict[str, Any] | None:
        """The next event, waited for; None once the extension's time is over."""
        with self._changed:
            extension.asked = extension.waiting = True
            self._changed.notify_all()
            while not extension.pending:
                if extension not in self._all:
                    return None
                self._changed.wait()
            extension.waiting = False
            return extension.pending.pop(0)

    def failed(self, extension: Extension, phase: str, error_type: str) -> Answer:
        """`phase`: "init" or "exit"."""
        with self._changed:
            kind = "Extension.InitError" if phase == "init" else "Extension.ExitError"
            extension.failure = f"{kind} {extension.name} reported {error_type or 'an error'}"
            self._changed.notify_all()
        return 202, {"status": "OK"}, {}


def refusal(status: int, kind: str, message: str) -> Answer:
    return status, {"errorType": kind, "errorMessage": message}, {}
