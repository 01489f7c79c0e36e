"""Results and errors → HTTP responses, for rest-json and json, from the model alone. Unset members are left out."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Mapping
from email.utils import format_datetime
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpResponse
from lading.service.contract.layout import layout
from lading.service.contract.service import JSON, Service

ERROR_TYPE = "x-amzn-ErrorType"
_MEDIA_TYPES = {JSON: "application/x-amz-json-1.1"}


def serialize(service: Service, operation: str, result: Mapping[str, Any]) -> HttpResponse:
    """A result (with the types that boto3 would return) as the response of an operation. Members set to None are left out."""
    model = service.operation(operation)
    status = model.http.get("responseCode", 200)
    shape = model.output_shape
    media = {"Content-Type": _MEDIA_TYPES.get(service.protocol, "application/json")}
    if shape is None or service.protocol == JSON:
        body = b"" if shape is None and service.protocol != JSON else _dump(_structure(shape, result))
        return HttpResponse(status, media if body else {}, body)
    headers: dict[str, str] = {}
    in_body: dict[str, Any] = {}
    known = layout(shape)
    for member in known.members:
        value = result.get(member.name)
        if value is None or member is known.payload:
            continue
        if member.location == "statusCode":
            status = value
        elif member.location == "header":
            headers[member.wire] = _header(member.shape, value)
        elif member.location is None:
            in_body[member.wire] = _value(member.shape, value)
    if known.payload is not None:
        body = _payload(known.payload.shape, result.get(known.payload.name))
    else:
        body = b"" if status == 204 or not known.in_body else _dump(in_body)
    return HttpResponse(status, media | headers if body else headers, body)


def serialize_error(service: Service, error: ApiError) -> HttpResponse:
    """An error with the status, member names and fault type of its shape; unmodelled ones have a bare `message`."""
    shape = service.error_shapes.get(error.code)
    media = {"Content-Type": _MEDIA_TYPES.get(service.protocol, "application/json"), ERROR_TYPE: error.code}
    if service.protocol == JSON:
        named = shape.members if shape is not None else {}
        more = {name: value for name, value in error.fields.items() if name in named}
        body: dict[str, Any] = {"__type": error.code, "message": error.message, **more}
        return HttpResponse(_status(shape, error), media, _dump(body))
    if shape is None:
        return HttpResponse(error.status, media, _dump({"message": error.message}))
    headers: dict[str, str] = {}
    body = {}
    for member, inner in shape.members.items():
        value = _error_member(shape, member, error)
        if value is None:
            continue
        if inner.serialization.get("location") == "header":
            headers[inner.serialization["name"]] = str(value)
        else:
            body[inner.serialization.get("name", member)] = value
    return HttpResponse(_status(shape, error), media | headers, _dump(body))


def _status(shape: Any, error: ApiError) -> int:
    return error.status if shape is None else int(shape.metadata.get("error", {}).get("httpStatusCode", error.status))


def _error_member(shape: Any, member: str, error: ApiError) -> Any:
    if member.lower() == "message":
        return error.message
    if member == "Type" and "Type" not in error.fields:
        return "User" if shape.metadata.get("error", {}).get("senderFault") else "Service"
    return error.fields.get(member)


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _payload(shape: Any, value: Any) -> bytes:
    if value is None:
        return b""
    return bytes(value) if shape.type_name == "blob" else _dump(_value(shape, value))


def _value(shape: Any, value: Any) -> Any:
    kind = shape.type_name
    if kind == "structure":
        return _structure(shape, value)
    if kind == "list":
        return [_value(shape.member, item) for item in value]
    if kind == "map":
        return {key: _value(shape.value, item) for key, item in value.items()}
    if kind == "blob":
        return base64.b64encode(value).decode()
    return _time(shape, value, "unixTimestamp") if kind == "timestamp" else value


def _structure(shape: Any, value: Mapping[str, Any]) -> dict[str, Any]:
    if shape is None:
        return {}
    return {
        member.wire: _value(member.shape, value[member.name])
        for member in layout(shape).members
        if value.get(member.name) is not None
    }


def _header(shape: Any, value: Any) -> str:
    if shape.type_name == "timestamp":
        return str(_time(shape, value, "rfc822"))
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _time(shape: Any, value: dt.datetime, default: str) -> Any:
    style = shape.serialization.get("timestampFormat", default)
    if style == "iso8601":
        return value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return format_datetime(value.astimezone(dt.UTC), usegmt=True) if style == "rfc822" else value.timestamp()
