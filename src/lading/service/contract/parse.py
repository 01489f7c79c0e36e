"""HTTP request → typed parameters, for rest-json and json, from the model alone.

Types only: whether a value is allowed is `validate`'s business. What comes out has the types that boto3 would take
(str, int, float, bool, bytes, datetime, list, dict); members that are null or unknown to the model are left out.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from lading.service.contract.errors import SerializationError
from lading.service.contract.layout import Member, layout
from lading.service.contract.service import JSON, Service

if TYPE_CHECKING:
    from lading.service.contract.http import HttpRequest

MAXIMUM_DEPTH = 64
"""Of JSON in a body; no model comes near it."""


def parse(service: Service, request: HttpRequest) -> tuple[str, dict[str, Any]]:
    """The operation's name and its parameters. Raises UnknownOperationError or SerializationError."""
    name, labels = service.route(request)
    shape = service.operation(name).input_shape
    if shape is None:
        return name, {}
    if service.protocol == JSON:
        return name, _structure(shape, _json_object(request.body), 0)
    return name, _rest_parameters(shape, labels, request)


def _rest_parameters(shape: Any, labels: Mapping[str, str], request: HttpRequest) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    known = layout(shape)
    for member in known.located:
        value = _located(member, labels, request)
        if value is not None:
            parameters[member.name] = value
    if known.payload is not None:
        value = _payload(known.payload.shape, request.body)
        if value is not None:
            parameters[known.payload.name] = value
    elif known.in_body:
        parameters |= _members(known.in_body, _json_object(request.body), 0)
    return parameters


def _located(member: Member, labels: Mapping[str, str], request: HttpRequest) -> Any:
    shape = member.shape
    if member.location == "header":
        text = request.headers.get(member.header)
        return None if text is None else from_text(shape, text, "rfc822")
    if member.location == "uri":
        return from_text(shape, labels[member.wire], "iso8601")
    if member.location != "querystring":
        raise NotImplementedError(f"no parser for the location {member.location!r}")
    if not request.query:
        return None
    values = [value for key, value in request.query if key == member.wire]
    if not values:
        return None
    if shape.type_name == "list":
        return [from_text(shape.member, value, "iso8601") for value in values]
    return from_text(shape, values[-1], "iso8601")


def _payload(shape: Any, body: bytes) -> Any:
    if shape.type_name == "blob":
        return body if body else None
    return _value(shape, _json(body), 0) if body else None


def _json_object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    data = _json(body)
    if not isinstance(data, dict):
        raise SerializationError("Start of list found where not expected" if isinstance(data, list) else _UNEXPECTED)
    return data


_UNEXPECTED = "Unexpected field type"


def _json(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise SerializationError("the body is nested too deeply") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise SerializationError(f"could not parse request body into json: {error}") from None


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"Non-standard token '{text}'")


def _value(shape: Any, value: Any, depth: int) -> Any:
    """A JSON value as the shape's type."""
    if depth > MAXIMUM_DEPTH:
        raise SerializationError("the body is nested too deeply")
    kind = shape.type_name
    if kind == "structure":
        return _structure(shape, value, depth)
    if kind == "list":
        if not isinstance(value, list):
            raise SerializationError(_misplaced(value, "Expected list or null"))
        return [None if item is None else _value(shape.member, item, depth + 1) for item in value]
    if kind == "map":
        if not isinstance(value, dict):
            raise SerializationError(_misplaced(value, "Expected map or null"))
        return {key: None if item is None else _value(shape.value, item, depth + 1) for key, item in value.items()}
    if isinstance(value, (dict, list)):
        raise SerializationError(_misplaced(value, _UNEXPECTED))
    return _SCALARS[kind](shape, value)


def _structure(shape: Any, value: Any, depth: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SerializationError(_misplaced(value, _UNEXPECTED))
    return _members(layout(shape).members, value, depth)


def _members(members: tuple[Member, ...], value: dict[str, Any], depth: int) -> dict[str, Any]:
    found = {}
    for member in members:
        item = value.get(member.wire)
        if item is not None:
            found[member.name] = _value(member.shape, item, depth + 1)
    return found


def _misplaced(value: Any, scalar: str) -> str:
    if isinstance(value, dict):
        return "Start of structure or map found where not expected."
    return "Start of list found where not expected" if isinstance(value, list) else scalar


def _token(value: Any) -> str:
    """The parser's name of a JSON scalar."""
    if isinstance(value, bool):
        return "TRUE_VALUE" if value else "FALSE_VALUE"
    return "STRING_VALUE" if isinstance(value, str) else "NUMBER_VALUE" if isinstance(value, int) else "DECIMAL_VALUE"


def _string(shape: Any, value: Any) -> str:
    if not isinstance(value, str):
        raise SerializationError(f"{_token(value)} cannot be converted to String")
    return value


def _boolean(shape: Any, value: Any) -> bool:
    if not isinstance(value, bool):
        raise SerializationError(f"{_token(value)} cannot be converted to Boolean")
    return value


_WIDTHS = {"integer": 31, "long": 63}


def _integer(shape: Any, value: Any) -> int:
    name = shape.type_name.capitalize()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SerializationError(f"{_token(value)} cannot be converted to {name}")
    if isinstance(value, float) and not value.is_integer():
        raise SerializationError(f"DECIMAL_VALUE cannot be converted to {name}")
    if abs(value) >= 2 ** _WIDTHS[shape.type_name]:
        raise SerializationError(f"NUMBER_VALUE cannot be converted to {name}: out of range")
    return int(value)


def _double(shape: Any, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SerializationError(f"{_token(value)} cannot be converted to Double")
    try:
        return float(value)
    except OverflowError:
        raise SerializationError("NUMBER_VALUE cannot be converted to Double: out of range") from None


def _blob(shape: Any, value: Any) -> bytes:
    try:
        return base64.b64decode(_string(shape, value), validate=True)
    except (binascii.Error, ValueError):
        raise SerializationError("STRING_VALUE cannot be converted to Blob: not base64") from None


def _timestamp(shape: Any, value: Any) -> dt.datetime:
    style = shape.serialization.get("timestampFormat", "unixTimestamp" if not isinstance(value, str) else "iso8601")
    if isinstance(value, bool):
        raise SerializationError(f"{_token(value)} cannot be converted to Timestamp")
    return _read_time(value, style)


def _read_time(value: Any, style: str) -> dt.datetime:
    try:
        if style == "unixTimestamp":
            return dt.datetime.fromtimestamp(float(value), dt.UTC)
        parsed = parsedate_to_datetime(value) if style == "rfc822" else dt.datetime.fromisoformat(value)
    except (ValueError, TypeError, OverflowError, OSError):
        raise SerializationError(f"{_token(value)} cannot be converted to Timestamp") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC)


_SCALARS = {
    "string": _string,
    "boolean": _boolean,
    "integer": _integer,
    "long": _integer,
    "float": _double,
    "double": _double,
    "blob": _blob,
    "timestamp": _timestamp,
}


def from_text(shape: Any, text: str, time_style: str) -> Any:
    """A value from a path, query or header."""
    kind = shape.type_name
    if kind == "string":
        return text
    if kind == "boolean":
        if text.lower() not in ("true", "false"):
            raise SerializationError(f"STRING_VALUE cannot be converted to Boolean: {text[:50]}")
        return text.lower() == "true"
    if kind == "timestamp":
        return _read_time(text, shape.serialization.get("timestampFormat", time_style))
    return _number_from_text(shape, text)


def _number_from_text(shape: Any, text: str) -> Any:
    try:
        number: float = int(text) if shape.type_name in _WIDTHS else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SerializationError(f"STRING_VALUE cannot be converted to {shape.type_name.capitalize()}: {text[:50]}")
    return _SCALARS[shape.type_name](shape, number)
