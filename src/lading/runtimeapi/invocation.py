"""What an environment is given to do: an invoke, or to end."""

from __future__ import annotations

from enum import StrEnum

from lading.model.value import value
from lading.runtimeapi.calls import Response


@value
class Invocation:
    """What the runtime is given: `deadline` in milliseconds since the epoch; optional headers are left out when ""."""

    request_id: str
    event: bytes
    deadline: int
    function_arn: str
    trace_id: str = ""
    client_context: str = ""
    cognito_identity: str = ""
    tenant_id: str = ""
    content_type: str = "application/json"


class ShutdownReason(StrEnum):
    SPINDOWN = "spindown"
    TIMEOUT = "timeout"
    FAILURE = "failure"


def event_response(invocation: Invocation) -> Response:
    """The answer to `GET /invocation/next`."""
    headers = [
        ("Lambda-Runtime-Aws-Request-Id", invocation.request_id),
        ("Lambda-Runtime-Deadline-Ms", str(invocation.deadline)),
        ("Lambda-Runtime-Invoked-Function-Arn", invocation.function_arn),
    ]
    optional = (
        ("Lambda-Runtime-Trace-Id", invocation.trace_id),
        ("Lambda-Runtime-Client-Context", invocation.client_context),
        ("Lambda-Runtime-Cognito-Identity", invocation.cognito_identity),
        ("Lambda-Runtime-Aws-Tenant-Id", invocation.tenant_id),
    )
    headers += [(name, value) for name, value in optional if value]
    return Response(200, invocation.event, tuple(headers), invocation.content_type)
