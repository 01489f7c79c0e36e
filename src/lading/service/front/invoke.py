"""The invoke operations: from a request to whoever runs functions, and back as AWS answers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from lading.service.contract.errors import ApiError
from lading.service.contract.eventstream import MEDIA_TYPE, encode_event
from lading.service.contract.http import HttpRequest, HttpResponse, Response, StreamedResponse
from lading.service.contract.serialize import serialize
from lading.service.contract.service import Service
from lading.service.control.call import Parameters
from lading.service.control.control import Control, Origin
from lading.service.control.invocation import (
    Invoker,
    InvokeRequest,
    InvokeResult,
    StreamedResult,
    Target,
    check_invocable,
)
from lading.service.control.names import FunctionReference, Scope, read_reference
from lading.service.control.refusal import not_here
from lading.service.identity import new_trace
from lading.service.lineage import extend_trace, is_loop, read_lineage, recursive

OPERATIONS = frozenset({"Invoke", "InvokeAsync", "InvokeWithResponseStream"})
ASYNC_LIMIT = 1_048_576
"""Bytes of an asynchronous event."""
BIG = 262_144
"""Bytes from which an event is checked beside the event loop."""


@dataclass(frozen=True)
class AsyncCall:
    """A call whose event is to be queued."""

    parameters: Parameters
    target: Target
    event: bytes
    request: HttpRequest
    origin: Origin


Accept = Callable[[AsyncCall], Awaitable[None]]
"""Keeps the event: returns when that is certain."""


class Invocations:
    """Answers `Invoke` and its kin."""

    def __init__(
        self, service: Service, control: Control, invoker: Invoker | None, accept: Accept | None = None
    ) -> None:
        self._service = service
        self._control = control
        self._invoker = invoker
        self._accept = accept

    async def answer(self, operation: str, parameters: Parameters, request: HttpRequest, origin: Origin) -> Response:
        """Raises ApiError."""
        kind = parameters.get("InvocationType", "RequestResponse")
        asynchronous = operation == "InvokeAsync" or kind == "Event"
        event = parameters.get("InvokeArgs" if operation == "InvokeAsync" else "Payload", b"")
        target, invoked_arn = await self._target(parameters, origin)
        await check_event(event)
        if kind == "DryRun":
            return HttpResponse(204)
        if asynchronous:
            return await self._queued(operation, AsyncCall(parameters, target, event or b"{}", request, origin))
        if "TenantId" in parameters or "DurableExecutionName" in parameters:
            raise not_here("invoking with a tenant or a durable execution")
        check_invocable(target)
        if self._invoker is None:
            raise not_here(operation, "this service was started without environments")
        trace = request.header("x-amzn-trace-id") or ""
        if is_loop(read_lineage(trace), target.arn) and not await self._control.may_recur(target.scope, target.name):
            raise recursive()
        invocation = InvokeRequest(
            target=target,
            request_id=origin.request_id,
            event=event or b"{}",
            invoked_arn=invoked_arn,
            log_tail=parameters.get("LogType") == "Tail",
            trace_id=extend_trace(trace or new_trace(), target.arn),
            client_context=read_client_context(parameters.get("ClientContext")),
        )
        if operation == "InvokeWithResponseStream":
            return self._streamed(target, await self._invoker.stream(invocation))
        return self._whole(invocation, await self._invoker.invoke(invocation))

    async def _queued(self, operation: str, call: AsyncCall) -> HttpResponse:
        """202, once the event is committed."""
        if self._accept is None:
            raise not_here("asynchronous invocation", "this service was started without environments")
        if len(call.event) > ASYNC_LIMIT:
            message = (
                f"{len(call.event)} byte payload is too large for the Event invocation type (limit {ASYNC_LIMIT} bytes)"
            )
            raise ApiError("RequestTooLargeException", message, status=413)
        if call.target.reserved != 0:
            check_invocable(call.target)
        await self._accept(call)
        return serialize(self._service, operation, {"StatusCode": 202, "Status": 202})

    async def _target(self, parameters: Parameters, origin: Origin) -> tuple[Target, str]:
        reference, arn = _read(origin.scope, parameters["FunctionName"], parameters.get("Qualifier"))
        choice = await self._control.choose(origin, reference)
        return choice.pick(), arn

    def _whole(self, invocation: InvokeRequest, result: InvokeResult) -> HttpResponse:
        answer = {
            "StatusCode": 200,
            "ExecutedVersion": invocation.target.version,
            "FunctionError": result.function_error or None,
            "LogResult": _base64(result.log) if invocation.log_tail else None,
            "Payload": result.payload,
        }
        response = serialize(self._service, "Invoke", answer)
        return HttpResponse(
            response.status, {**response.headers, "X-Amzn-Trace-Id": invocation.trace_id}, response.body
        )

    def _streamed(self, target: Target, result: StreamedResult) -> StreamedResponse:
        headers = {"Content-Type": MEDIA_TYPE, "X-Amz-Executed-Version": target.version}
        return StreamedResponse(200, headers, self._events(result))

    async def _events(self, result: StreamedResult) -> AsyncIterator[bytes]:
        stream = self._service.operation("InvokeWithResponseStream").output_shape.members["EventStream"]
        async for piece in result.pieces:
            yield encode_event(stream, "PayloadChunk", {"Payload": piece})
        end = await result.end()
        details = {"LogResult": _base64(end.log)} if end.log else {}
        if end.function_error:
            details |= {"ErrorCode": end.function_error, "ErrorDetails": end.payload.decode("utf-8", "replace")}
        yield encode_event(stream, "InvokeComplete", details)


@functools.lru_cache(1024)
def _read(scope: Scope, name: str, qualifier: str | None) -> tuple[FunctionReference, str]:
    """What a request names (both lengths are checked by now), and its ARN."""
    reference = read_reference(scope, name, qualifier, action="InvokeFunction")
    return reference, scope.function_arn(reference.name, reference.qualifier)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def check_event(event: bytes) -> None:
    """Raises InvalidRequestContentException for an event that isn't JSON; an empty one is `{}`."""
    try:
        if len(event) < BIG:
            json.loads(event or b"{}")
        else:
            await asyncio.to_thread(json.loads, event)
    except (ValueError, RecursionError) as error:
        raise ApiError(
            "InvalidRequestContentException",
            f"Could not parse request body into json: Could not parse payload into json: {error}",
        ) from None


def read_client_context(header: str | None) -> str:
    """The JSON of a client context header. Raises InvalidRequestContentException for anything else."""
    if not header:
        return ""
    try:
        text = base64.b64decode(header, validate=True).decode()
        if not isinstance(json.loads(text), dict):
            raise ValueError("not an object")
    except (binascii.Error, ValueError, RecursionError):
        message = "Client context must be a valid Base64-encoded JSON object."
        raise ApiError("InvalidRequestContentException", message) from None
    return text
