#!/usr/bin/env python3
"""lading-rie: the Runtime API and an address to post events to, inside an image, where neither Lambda nor lading runs it.

Goes into images with base_extensions.py in one file: standard library only, syntax of Python 3.9, imports nothing else of
lading. Started as AWS's emulator is: `aws-lambda-rie COMMAND [ARGUMENT …]`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lading.build.base_extensions import EXTENSION_PATH, Answer, Extensions, refusal

INVOKE_PATH = "/2015-03-31/functions/function/invocations"
RUNTIME_PATH = "/2018-06-01/runtime/"
LARGEST = 6_291_556
BOOTSTRAPS = ("/var/task/bootstrap", "/opt/bootstrap", "/var/runtime/bootstrap")
USUAL = {
    "AWS_LAMBDA_FUNCTION_NAME": "test_function",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/Functions",
    "AWS_LAMBDA_LOG_STREAM_NAME": "$LATEST",
}


class Invocation:
    """One event on its way, and what became of it: (status, body), once."""

    def __init__(self, event: bytes, context: str, trace: str) -> None:
        self.id = str(uuid.uuid4())
        self.event, self.context, self.trace = event, context, trace
        self.answer: queue.Queue[tuple[int, bytes]] = queue.Queue()


class Runtime:
    """The function's process, started when an event needs it, and the conversation with it. One event at a time."""

    def __init__(self, command: list[str], api: str) -> None:
        self.command, self.api = command, api
        self.busy = threading.Lock()
        self._events: queue.Queue[Invocation] = queue.Queue()
        self._current: Invocation | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._start = threading.Lock()
        self._generation = 0
        self.extensions = Extensions()

    def invoke(self, invocation: Invocation) -> tuple[int, bytes]:
        """The answer, or what is said where there is none. Writes Lambda's lines around it."""
        seconds = float(os.environ.get("AWS_LAMBDA_FUNCTION_TIMEOUT") or 300)
        begin = time.monotonic()
        version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION") or USUAL["AWS_LAMBDA_FUNCTION_VERSION"]
        say(f"START RequestId: {invocation.id} Version: {version}")
        self._current = invocation
        if self._ensure():
            self.extensions.told(invocation.id, arn(), invocation.trace, time.time() + seconds)
            self._events.put(invocation)
        try:
            answer = invocation.answer.get(timeout=seconds)
        except queue.Empty:
            self.stop("timeout")
            answer = (200, f"Task timed out after {seconds:.2f} seconds".encode())
        self._end(answer, begin + seconds)
        self._current = None
        spent = min(time.monotonic() - begin, seconds) * 1000
        memory = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE") or USUAL["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        say(f"END RequestId: {invocation.id}")
        say(
            f"REPORT RequestId: {invocation.id}\tDuration: {spent:.2f} ms\tBilled Duration: {-(-spent // 1):.0f} ms\t"
            f"Memory Size: {memory} MB\tMax Memory Used: {memory} MB\t"
        )
        return answer

    def _end(self, answer: tuple[int, bytes], deadline: float) -> None:
        """Extensions end the invocation too. One that failed takes the function's processes along, as a crash of those does."""
        if answer[0] != 200 or self._process is None:
            self.stop("failure")
        else:
            failure = self.extensions.finished(max(deadline - time.monotonic(), 0))
            if failure:
                say(f"EXTENSION {failure}")
                self.stop("failure")

    def next(self) -> Invocation | None:
        """The event for the process that runs now; None once it is gone."""
        failure = self.extensions.settled()
        if failure:
            self._refuse(failure)
            return None
        generation = self._generation
        while generation == self._generation:
            try:
                found = self._events.get(timeout=0.2)
            except queue.Empty:
                continue
            if generation == self._generation:
                return found
            self._events.put(found)  # it is the next process's
        return None

    def answered(self, identity: str, status: int, body: bytes) -> bool:
        """False for an event that nobody waits for."""
        invocation = self._current
        if invocation is None or (identity and invocation.id != identity):
            return False
        invocation.answer.put((status, body))
        return True

    def stop(self, reason: str = "spindown") -> None:
        """Ends the process and what it started, then the extensions. `reason` is what those are told."""
        with self._start:
            process, self._process = self._process, None
            self._generation += 1
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.extensions.stop(reason)
        while not self._events.empty():
            self._events.get_nowait()

    def _ensure(self) -> bool:
        """Whether the processes run: extensions first, for they must have registered before the runtime starts."""
        with self._start:
            if self._process is not None:
                return True
            self._generation += 1
            variables = {**USUAL, **handler_of(self.command), **os.environ, "AWS_LAMBDA_RUNTIME_API": self.api}
            self.extensions.stop("failure")  # of a runtime that ended while nobody waited for it
            problem = self.extensions.start(variables)
            if problem:
                self._refuse(problem)
                return False
            try:
                process = subprocess.Popen(self.command, env=variables, start_new_session=True)
            except OSError as error:
                self._refuse(f"Runtime.InvalidEntrypoint fork/exec {self.command[0]}: {str(error.strerror).lower()}")
                return False
            self._process = process
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()
        return True

    def _refuse(self, problem: str) -> None:
        """There will be no answer: an error type and a message, with a space between."""
        kind, _, reason = problem.partition(" ")
        self.answered("", 502, failure(kind, reason, self._current))

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        with self._start:
            if self._process is not process:
                return  # it was stopped
            self._process = None
            self._generation += 1
        how = f"signal: {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        reason = f"Runtime exited with error: {how}" if status else "Runtime exited without providing a reason"
        self.answered("", 502, failure("Runtime.ExitError", reason, self._current))
        while not self._events.empty():
            self._events.get_nowait()


def handler_of(command: list[str]) -> dict[str, str]:
    return {"_HANDLER": command[-1]} if len(command) > 1 else {}


def arn() -> str:
    name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME") or USUAL["AWS_LAMBDA_FUNCTION_NAME"]
    return f"arn:aws:lambda:us-east-1:012345678912:function:{name}"


def failure(kind: str, reason: str, invocation: Invocation | None) -> bytes:
    identity = invocation.id if invocation else ""
    return json.dumps({"errorType": kind, "errorMessage": f"RequestId: {identity} Error: {reason}"}).encode()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Handler(BaseHTTPRequestHandler):
    """What both servers share."""

    protocol_version = "HTTP/1.1"
    runtime: Runtime

    def log_message(self, *_: Any) -> None:
        return None

    def body(self) -> bytes:
        """At most one byte more than the largest: enough to see that it is too large."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._chunks()
        length = int(self.headers.get("Content-Length") or 0)
        kept = self.rfile.read(min(length, LARGEST + 1))
        left = length - len(kept)
        while left > 0 and (more := self.rfile.read(min(left, 1 << 16))):
            left -= len(more)
        return kept

    def _chunks(self) -> bytes:
        kept = b""
        while True:
            size = int(self.rfile.readline(64).split(b";")[0], 16)
            left = size
            while left > 0 and (more := self.rfile.read(min(left, 1 << 16))):
                left -= len(more)
                kept += more[: LARGEST + 1 - len(kept)]
            if size:
                self.rfile.readline(8)
                continue
            while self.rfile.readline(1 << 16).strip():
                pass
            return kept

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            for name, value in (headers or {"Content-Type": "text/plain; charset=utf-8"}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True


class InvokeHandler(Handler):
    """Where events are posted."""

    def do_POST(self) -> None:
        event = self.body()
        if self.path.partition("?")[0] != INVOKE_PATH:
            self.reply(404, b"404 page not found\n")
            return
        try:
            context = base64.b64decode(self.headers.get("X-Amz-Client-Context", ""), validate=True).decode()
        except ValueError:
            self.reply(500, b"")
            return
        if len(event) > LARGEST:
            self.reply(413, b"the event is larger than %d bytes\n" % LARGEST)
        elif self.runtime.busy.acquire(blocking=False):
            try:
                invocation = Invocation(event, context, self.headers.get("X-Amzn-Trace-Id", ""))
                status, body = self.runtime.invoke(invocation)
            finally:
                self.runtime.busy.release()
            self.reply(status, body)
        else:
            self.reply(400, b"")

    do_GET = do_PUT = do_POST  # noqa: N815


class RuntimeHandler(Handler):
    """The Runtime API."""

    JSON = {"Content-Type": "application/json"}  # noqa: RUF012

    def do_GET(self) -> None:
        if self.path == EXTENSION_PATH + "event/next":
            self._next_event()
            return
        if self.path != RUNTIME_PATH + "invocation/next":
            self.reply(404, b"404 page not found\n")
            return
        found = self.runtime.next()
        if found is None:
            self.close_connection = True
            return
        seconds = float(os.environ.get("AWS_LAMBDA_FUNCTION_TIMEOUT") or 300)
        headers = {
            **self.JSON,
            "Lambda-Runtime-Aws-Request-Id": found.id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": arn(),
        }
        if found.trace:
            headers["Lambda-Runtime-Trace-Id"] = found.trace
        if found.context:
            headers["Lambda-Runtime-Client-Context"] = found.context.replace("\r", "").replace("\n", "")
        self.reply(200, found.event, headers)

    def do_POST(self) -> None:
        body = self.body()
        if self.path.startswith(EXTENSION_PATH):
            status, document, headers = self._of_extension(self.path[len(EXTENSION_PATH) :], body)
            self.reply(status, json.dumps(document).encode(), {**self.JSON, **headers})
            return
        parts = self.path[len(RUNTIME_PATH) :].split("/") if self.path.startswith(RUNTIME_PATH) else []
        if parts == ["init", "error"]:
            known = self.runtime.answered("", 200, body)
        elif len(parts) == 3 and parts[0] == "invocation" and parts[2] in ("response", "error"):
            if len(body) > LARGEST:
                message = f"Response payload size exceeded maximum allowed payload size ({LARGEST} bytes)."
                body = json.dumps({"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"}).encode()
            known = self.runtime.answered(parts[1], 200, body)
        else:
            self.reply(404, b"404 page not found\n")
            return
        if known:
            self.reply(202, b'{"status":"OK"}\n', self.JSON)
        else:
            self.reply(400, b'{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}', self.JSON)

    def _of_extension(self, call: str, body: bytes) -> Answer:
        extensions = self.runtime.extensions
        if call == "register":
            names = ("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION")
            name, version = (os.environ.get(key) or USUAL[key] for key in names)
            handler = os.environ.get("_HANDLER") or handler_of(self.runtime.command).get("_HANDLER", "")
            identity = {"functionName": name, "functionVersion": version, "handler": handler}
            return extensions.register(self.headers.get("Lambda-Extension-Name", ""), body, identity)
        extension = extensions.find(self.headers.get("Lambda-Extension-Identifier", ""))
        if extension is None:
            return refusal(403, "Extension.UnknownExtensionIdentifier", "Unknown extension identifier")
        if call in ("init/error", "exit/error"):
            kind = self.headers.get("Lambda-Extension-Function-Error-Type", "")
            return extensions.failed(extension, call.partition("/")[0], kind)
        return refusal(404, "NotFound", "404 page not found")

    def _next_event(self) -> None:
        extension = self.runtime.extensions.find(self.headers.get("Lambda-Extension-Identifier", ""))
        if extension is None:
            status, document, headers = refusal(
                403, "Extension.UnknownExtensionIdentifier", "Unknown extension identifier"
            )
            self.reply(status, json.dumps(document).encode(), {**self.JSON, **headers})
            return
        event = self.runtime.extensions.next(extension)
        if event is None:
            self.close_connection = True
            return
        headers = {**self.JSON, "Lambda-Extension-Event-Identifier": str(uuid.uuid4())}
        self.reply(200, json.dumps(event).encode(), headers)

    def do_PUT(self) -> None:
        """Telemetry and Logs API, in the words of AWS's emulator."""
        self.body()
        known = self.path.startswith(("/2022-07-01/telemetry", "/2020-08-15/logs"))
        kind = "Telemetry.NotSupported" if self.path.startswith("/2022") else "Logs.NotSupported"
        document = {"errorType": kind, "errorMessage": f"{kind.partition('.')[0]} API is not supported"}
        self.reply(202 if known else 404, json.dumps(document).encode(), self.JSON)


def find_bootstrap() -> list[str]:
    return [next((path for path in BOOTSTRAPS if os.path.isfile(path)), BOOTSTRAPS[0])]  # noqa: PTH113


def address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        sys.exit(f"not a network address: {text!r}")
    return host.strip("[]"), int(port)


def main(arguments: list[str]) -> None:
    """Options of AWS's emulator come first; what it ignores is ignored. Where the Runtime API is, the command alone runs."""
    events, api = os.environ.get("LADING_RIE_ADDRESS") or "0.0.0.0:8080", "127.0.0.1:0"
    while arguments and arguments[0].startswith("--"):
        name, equals, value = arguments.pop(0).partition("=")
        if not equals and name in ("--runtime-interface-emulator-address", "--runtime-api-address", "--log-level"):
            value = arguments.pop(0) if arguments else ""
        if name == "--runtime-interface-emulator-address":
            events = value
        elif name == "--runtime-api-address":
            api = value
    command = arguments or find_bootstrap()
    if os.environ.get("AWS_LAMBDA_RUNTIME_API"):
        os.execvp(command[0], command)
    inner_server = ThreadingHTTPServer(address(api), RuntimeHandler)
    runtime = Runtime(command, f"{address(api)[0]}:{inner_server.server_port}")
    InvokeHandler.runtime = RuntimeHandler.runtime = runtime
    outer_server = ThreadingHTTPServer(address(events), InvokeHandler)
    for server in (inner_server, outer_server):
        server.daemon_threads = True
    threading.Thread(target=inner_server.serve_forever, daemon=True).start()
    stop, signalled = socket.socketpair()  # whichever thread a signal reaches
    signalled.settimeout(0)
    signal.set_wakeup_fd(signalled.fileno())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    threading.Thread(target=outer_server.serve_forever, daemon=True).start()
    sys.stderr.write(f"lading-rie: http://{events}{INVOKE_PATH}\n")
    sys.stderr.flush()
    stop.recv(1)
    runtime.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
