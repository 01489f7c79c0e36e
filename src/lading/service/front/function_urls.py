"""Function URLs: a host name of its own for each function; CORS, authorization, buffered and streamed responses."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.contract.http import CutStreamError, HttpRequest, HttpResponse, Response, StreamedResponse
from lading.service.control.control import Control, Origin
from lading.service.control.invocation import Invoker, InvokeRequest, StreamedResult, check_invocable
from lading.service.control.reach import UrlTarget
from lading.service.front.keyring import Keyring
from lading.service.front.sigv4 import read_credential, verify
from lading.service.front.url_event import failure, make_event, make_response, response_headers
from lading.service.identity import new_trace

BODY_LIMIT = 6_291_456
_HOST = re.compile(r"([a-z0-9]{1,64})\.lambda-url\.[a-z0-9-]+\.")
_FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)
INTEGRATION = "application/vnd.awslambda.http-integration-response"
"""Content type of a streamed response that begins with its own status and headers, then eight NULs, then the body."""
SEPARATOR = b"\0" * 8
MAXIMUM_PRELUDE = 65_536


def url_identity(head: HttpRequest) -> str | None:
    """The identity in a function URL's host name; None for any other host."""
    match = _HOST.match(head.header("host") or "")
    return match[1] if match else None


class FunctionUrls:
    """Answers what comes in at function URLs. AWS_IAM takes signatures of keys that are configured or were given out here."""

    def __init__(self, control: Control, invoker: Invoker | None, keys: Keyring) -> None:
        self._control = control
        self._invoker = invoker
        self._keys = keys

    async def answer(self, request: HttpRequest, identity: str, request_id: str) -> Response:
        target = await self._control.find_url(identity)
        if target is None:
            return _message(404, None)
        cors = cors_headers(request, target.cors)
        if request.method == "OPTIONS" and target.cors is not None and request.header("access-control-request-method"):
            return HttpResponse(200, cors)
        try:
            authorizer = self._authorize(request, target)
            response = await self._invoke(request, target, identity, (request_id, authorizer))
        except ApiError as error:
            if error.code == "AccessDeniedException":
                return _message(403, _FORBIDDEN, {**cors, "x-amzn-ErrorType": error.code})
            status = 429 if error.code == "TooManyRequestsException" else 502 if error.status < 500 else error.status
            return _message(status, error.message, {**cors, "x-amzn-ErrorType": error.code})
        return replace(response, headers={**response.headers, **cors})

    def _authorize(self, request: HttpRequest, target: UrlTarget) -> dict[str, Any] | None:
        """Who calls, for the event; None for anybody. Raises AccessDeniedException."""
        if target.auth == "NONE":
            if not target.public:
                raise _denied()
            return None
        credential = read_credential(request)
        if credential is None or credential.service != "lambda" or credential.region != target.scope.region:
            raise _denied()
        try:
            verify(request, self._keys, time.time())
        except ApiError as error:
            raise _denied() from error
        account = self._keys.account_of(credential.access_key)
        if account != target.scope.account and not target.admits & {account, "*"}:
            raise _denied()
        caller = {
            "userArn": f"arn:{target.scope.partition}:iam::{account}:root",
            "userId": account,
            "callerId": account,
        }
        return {"iam": {"accessKey": credential.access_key, "accountId": account, **caller}}

    async def _invoke(
        self, request: HttpRequest, url: UrlTarget, identity: str, call: tuple[str, dict[str, Any] | None]
    ) -> Response:
        request_id, authorizer = call
        origin = Origin(url.scope, "", request_id)
        try:
            target = (await self._control.choose(origin, url.reference)).pick()
        except ApiError as error:
            raise _denied() from error
        check_invocable(target)
        if self._invoker is None:
            raise ApiError("NotImplementedException", "this service was started without environments", status=501)
        trace = request.header("x-amzn-trace-id") or new_trace()
        event = make_event(request, identity, request_id, authorizer)
        event["headers"]["x-amzn-trace-id"] = trace
        invocation = InvokeRequest(
            target=target,
            request_id=request_id,
            event=json.dumps(event).encode(),
            invoked_arn=url.scope.function_arn(url.reference.name, url.reference.qualifier),
            trace_id=trace,
        )
        if url.streams:
            return await _streamed(await self._invoker.stream(invocation))
        result = await self._invoker.invoke(invocation)
        return failure() if result.function_error else make_response(result.payload)


async def _streamed(result: StreamedResult) -> Response:
    if result.failed:
        return failure()
    if result.content_type != INTEGRATION:
        return StreamedResponse(200, {"Content-Type": result.content_type}, _after(b"", result))
    head = b""
    async for piece in result.pieces:
        head += piece
        if SEPARATOR in head:
            break
        if len(head) > MAXIMUM_PRELUDE:
            return failure()
    prelude, _, rest = head.partition(SEPARATOR)
    try:
        described = json.loads(prelude)
        status = int(described.get("statusCode", 200))
        if not 200 <= status <= 599:
            raise ValueError(status)
        cookies = tuple(map(str, described.get("cookies") or ()))
        return StreamedResponse(status, response_headers(described), _after(rest, result), cookies)
    except (ValueError, TypeError, AttributeError):
        return failure()


async def _after(first: bytes, result: StreamedResult) -> AsyncIterator[bytes]:
    """What is left of a stream. Raises CutStreamError at the end of one that its function gave up."""
    if first:
        yield first
    async for piece in result.pieces:
        yield piece
    if (await result.end()).function_error:
        raise CutStreamError


def cors_headers(request: HttpRequest, cors: dict[str, Any] | None) -> dict[str, str]:
    """The Access-Control headers of a response; none where the origin isn't allowed or CORS isn't configured."""
    origin = request.header("origin")
    allowed = (cors or {}).get("AllowOrigins", [])
    if cors is None or origin is None or not ("*" in allowed or origin in allowed):
        return {}
    headers = {"Access-Control-Allow-Origin": "*" if "*" in allowed and not cors.get("AllowCredentials") else origin}
    headers["Vary"] = "Origin"
    if cors.get("AllowCredentials"):
        headers["Access-Control-Allow-Credentials"] = "true"
    if cors.get("ExposeHeaders"):
        headers["Access-Control-Expose-Headers"] = ",".join(cors["ExposeHeaders"])
    if request.method == "OPTIONS":
        if cors.get("AllowMethods"):
            headers["Access-Control-Allow-Methods"] = ",".join(cors["AllowMethods"])
        if cors.get("AllowHeaders"):
            headers["Access-Control-Allow-Headers"] = ",".join(cors["AllowHeaders"])
        if "MaxAge" in cors:
            headers["Access-Control-Max-Age"] = str(cors["MaxAge"])
    return headers


def _denied() -> ApiError:
    return ApiError("AccessDeniedException", _FORBIDDEN, status=403)


def _message(status: int, text: str | None, headers: dict[str, str] | None = None) -> HttpResponse:
    return HttpResponse(
        status, {"Content-Type": "application/json", **(headers or {})}, json.dumps({"Message": text}).encode()
    )
