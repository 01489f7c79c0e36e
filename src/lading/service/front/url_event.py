"""A function URL's request as the event a function gets, and a function's result as the URL's response.

Source: Lambda Developer Guide, "Invoking Lambda function URLs", request and response payload format 2.0.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from typing import Any
from urllib.parse import unquote

from lading.service.contract.http import HttpRequest, HttpResponse

_TEXTUAL = ("text/", "application/json", "application/javascript", "application/xml")


def make_event(
    request: HttpRequest, identity: str, request_id: str, authorizer: dict[str, Any] | None
) -> dict[str, Any]:
    """The event of payload format 2.0; what a request doesn't have is left out."""
    host = request.header("host") or ""
    now = time.time()
    headers = {name: value for name, value in request.headers.items() if name != "cookie"}
    context: dict[str, Any] = {
        "accountId": "anonymous" if authorizer is None else authorizer["iam"]["accountId"],
        "apiId": identity,
        "domainName": host,
        "domainPrefix": identity,
        "http": {
            "method": request.method,
            "path": unquote(request.path),
            "protocol": "HTTP/1.1",
            "sourceIp": request.client,
            "userAgent": request.header("user-agent") or "",
        },
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
        "timeEpoch": int(now * 1000),
    }
    if authorizer is not None:
        context["authorizer"] = authorizer
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.path,
        "rawQueryString": request.raw_query,
        "headers": headers | {"x-forwarded-for": request.client, "x-forwarded-proto": "http"},
        "requestContext": context,
        "isBase64Encoded": False,
    }
    if cookies := request.header("cookie"):
        event["cookies"] = [cookie.strip() for cookie in cookies.split(";") if cookie.strip()]
    if request.query:
        event["queryStringParameters"] = _joined(request.query)
    if request.body:
        event |= _body(request)
    return event


def _joined(query: tuple[tuple[str, str], ...]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in query:
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    return parameters


def _body(request: HttpRequest) -> dict[str, Any]:
    if (request.header("content-type") or "").lower().startswith(_TEXTUAL):
        try:
            return {"body": request.body.decode(), "isBase64Encoded": False}
        except UnicodeDecodeError:
            pass
    return {"body": base64.b64encode(request.body).decode(), "isBase64Encoded": True}


def make_response(payload: bytes) -> HttpResponse:
    """A result with a `statusCode` says all itself; any other is a 200 with the JSON, or the string, that it is."""
    try:
        result = json.loads(payload or b"null")
    except ValueError:
        return failure()
    if not isinstance(result, dict) or "statusCode" not in result:
        body = result.encode() if isinstance(result, str) else payload
        return HttpResponse(200, {"Content-Type": "application/json"}, body)
    try:
        return _described(result)
    except (TypeError, ValueError, AttributeError, binascii.Error):
        return failure()


def _described(result: dict[str, Any]) -> HttpResponse:
    status = int(result["statusCode"])
    if not 200 <= status <= 599:
        raise ValueError(status)
    body = result.get("body") or ""
    text = body if isinstance(body, str) else json.dumps(body)
    data = base64.b64decode(text, validate=True) if result.get("isBase64Encoded") else text.encode()
    return HttpResponse(status, response_headers(result), data, tuple(map(str, result.get("cookies") or ())))


def response_headers(result: dict[str, Any]) -> dict[str, str]:
    """The headers a result names, with a content type. Raises ValueError for one that would break the response."""
    headers = {str(name): _header(value) for name, value in (result.get("headers") or {}).items()}
    for name, value in headers.items():
        if not name.isascii() or any(mark in name + value for mark in "\r\n\0"):
            raise ValueError(name)
    if not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = "application/json"
    return {
        name: value for name, value in headers.items() if name.lower() not in ("content-length", "transfer-encoding")
    }


def _header(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def failure() -> HttpResponse:
    """What a caller sees of a function that failed or answered nonsense."""
    return HttpResponse(502, {"Content-Type": "application/json"}, b"Internal Server Error")
