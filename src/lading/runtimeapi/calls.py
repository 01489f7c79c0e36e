"""Requests and responses of the three APIs as values: paths, status codes and error bodies, as AWS words them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from lading.model.value import value

MAXIMUM_PAYLOAD = 6_291_556
"""Bytes of an event or a buffered response (Lambda quotas: 6 MB, and what AWS adds for its envelope)."""
MAXIMUM_STREAM = 200 * 1024 * 1024
"""Bytes of a streamed response (Lambda quotas, 2025)."""
MAXIMUM_EXTENSIONS = 10
RUNTIME_PREFIX = "/2018-06-01/runtime/"
EXTENSION_PREFIX = "/2020-01-01/extension/"
TELEMETRY_PATH = "/2022-07-01/telemetry"
LOGS_PATH = "/2020-08-15/logs"


class Call(Enum):
    """Every operation of the three APIs."""

    NEXT = "next"
    RESPONSE = "response"
    ERROR = "error"
    INIT_ERROR = "init/error"
    RESTORE_NEXT = "restore/next"
    RESTORE_ERROR = "restore/error"
    REGISTER = "register"
    EVENT_NEXT = "event/next"
    EXTENSION_INIT_ERROR = "extension init/error"
    EXTENSION_EXIT_ERROR = "extension exit/error"
    TELEMETRY = "telemetry"
    LOGS = "logs"


_FIXED: Mapping[str, tuple[str, Call]] = {
    RUNTIME_PREFIX + "invocation/next": ("GET", Call.NEXT),
    RUNTIME_PREFIX + "init/error": ("POST", Call.INIT_ERROR),
    RUNTIME_PREFIX + "restore/next": ("GET", Call.RESTORE_NEXT),
    RUNTIME_PREFIX + "restore/error": ("POST", Call.RESTORE_ERROR),
    EXTENSION_PREFIX + "register": ("POST", Call.REGISTER),
    EXTENSION_PREFIX + "event/next": ("GET", Call.EVENT_NEXT),
    EXTENSION_PREFIX + "init/error": ("POST", Call.EXTENSION_INIT_ERROR),
    EXTENSION_PREFIX + "exit/error": ("POST", Call.EXTENSION_EXIT_ERROR),
    TELEMETRY_PATH: ("PUT", Call.TELEMETRY),
    LOGS_PATH: ("PUT", Call.LOGS),
}
_INVOCATION = RUNTIME_PREFIX + "invocation/"
_PING = "/2018-06-01/ping"
RESTORE = (Call.RESTORE_NEXT, Call.RESTORE_ERROR)
"""Calls that only runtimes under SnapStart have."""
ERROR_WITH_CAUSE = "application/vnd.aws.lambda.error.cause+json"
"""A content type of errors that bring a cause for X-Ray along."""


@value
class Request:
    """One call, complete but for a streamed body. Header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@value
class Response:
    """The answer to one call."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


ACCEPTED = Response(202, b'{"status":"OK"}\n')
NOT_FOUND = Response(404, b"404 page not found\n", content_type="text/plain; charset=utf-8")
METHOD_NOT_ALLOWED = Response(405)
_PONG = Response(200, b"pong", content_type="text/plain; charset=utf-8")
"""Of a call that AWS keeps for those who found it."""


def route(method: str, path: str) -> tuple[Call, str] | Response:
    """The call of a request line and the request id its path names, or the answer where there is nothing to call."""
    path = path.partition("?")[0].removesuffix("/")
    request_id = ""
    if path == _PING:
        return _PONG if method == "GET" else METHOD_NOT_ALLOWED
    if path in _FIXED:
        expected, call = _FIXED[path]
    elif path.startswith(_INVOCATION):
        request_id, _, verb = path[len(_INVOCATION) :].partition("/")
        if verb not in ("response", "error"):
            return NOT_FOUND
        expected, call = "POST", Call.RESPONSE if verb == "response" else Call.ERROR
    else:
        return NOT_FOUND
    return (call, request_id) if method == expected else METHOD_NOT_ALLOWED


def refusal(status: int, error_type: str, message: str) -> Response:
    """An error body, as the Runtime API writes them."""
    return Response(status, json.dumps({"errorMessage": message, "errorType": error_type}).encode() + b"\n")


def invalid_transition(source: str, target: str, who: str = "runtime") -> Response:
    """403 for a call that its state doesn't allow. `who`: "runtime", or "extension NAME"."""
    error_type = "InvalidStateTransition" if who == "runtime" else "Extension.InvalidExtensionState"
    message = f"State transition from {source} to {target} failed for {who}. Error: State transition is not allowed"
    return refusal(403, error_type, message)


INVALID_REQUEST_ID = refusal(400, "InvalidRequestID", "Invalid request ID")
TOO_LARGE = refusal(413, "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({MAXIMUM_PAYLOAD} bytes).")
INVALID_RESPONSE_MODE = refusal(400, "InvalidFunctionResponseMode", "Invalid function response mode")

_ERROR_TYPE = re.compile(r"(Runtime|Function)\.[A-Z][a-zA-Z]+")


def normalise_error_type(given: str) -> str:
    """What AWS's metrics and logs call an error type that a runtime sent: itself where a well formed one is in it, else
    `….Unknown`."""
    if _ERROR_TYPE.search(given):
        return given
    return "Function.Unknown" if given.startswith("Function.") else "Runtime.Unknown"


def without_cause(body: bytes) -> tuple[bytes, str]:
    """What the caller gets of an error with a cause, and of which content type."""
    try:
        given = json.loads(body)
        error = {name: str(given.get(name, "")) for name in ("errorMessage", "errorType")}
        if given.get("stackTrace"):
            error["stackTrace"] = given["stackTrace"]
        return json.dumps(error).encode(), "application/json"
    except (ValueError, AttributeError, RecursionError):
        return b'"Invalid error body"', "application/octet-stream"


def response_too_large(limit: int = MAXIMUM_PAYLOAD) -> bytes:
    """The body a caller gets in place of a response that is too large."""
    message = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
    return json.dumps({"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"}).encode()


def failure(error_type: str, message: str, request_id: str = "") -> bytes:
    """The body a caller gets when the platform itself reports a failure: `RequestId: … Error: …`."""
    text = f"RequestId: {request_id} Error: {message}" if request_id else message
    return json.dumps({"errorType": error_type, "errorMessage": text}, separators=(",", ":")).encode()


def timed_out(request_id: str, seconds: float) -> bytes:
    """The body of a timeout."""
    return failure("Sandbox.Timedout", f"Task timed out after {seconds:.2f} seconds", request_id)
