"""AWS's query protocol: a form in, XML out, from the model alone (Smithy, "AWS Query protocol")."""

from __future__ import annotations

import base64
import datetime as dt
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from lading.service.contract.errors import SerializationError, UnknownOperationError
from lading.service.contract.http import HttpRequest, HttpResponse
from lading.service.contract.layout import layout
from lading.service.contract.parse import from_text
from lading.service.contract.service import Service

MOST_FIELDS = 20_000
"""Of a form; no model's limits come near it."""
DEEPEST = 32
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Tree = dict[str, Any]


def parse_query(service: Service, request: HttpRequest) -> tuple[str, dict[str, Any]]:
    """The operation's name and its parameters. Raises UnknownOperationError or SerializationError."""
    pairs = _fields(request)
    name = dict(pairs).get("Action", "")
    if name not in service.operations:
        raise UnknownOperationError(name[:200] or "no Action")
    shape = service.operation(name).input_shape
    return name, {} if shape is None else _structure(shape, _tree(pairs))


def action_of(request: HttpRequest) -> str:
    """What a form asks for; "" where it doesn't say."""
    try:
        return dict(_fields(request)).get("Action", "")
    except SerializationError:
        return ""


def _fields(request: HttpRequest) -> list[tuple[str, str]]:
    try:
        body = request.body.decode()
        return [*request.query, *parse_qsl(body, keep_blank_values=True, max_num_fields=MOST_FIELDS)]
    except ValueError as error:
        raise SerializationError(f"could not parse the request's form: {error}") from None


def _tree(pairs: Iterable[tuple[str, str]]) -> Tree:
    """`A.member.1.B=x` → {"A": {"member": {"1": {"B": "x"}}}}."""
    root: Tree = {}
    for name, text in pairs:
        parts = name.split(".")
        if len(parts) > DEEPEST:
            raise SerializationError("the form is nested too deeply")
        place = root
        for part in parts[:-1]:
            below = place.setdefault(part, {})
            if not isinstance(below, dict):
                raise SerializationError(f"{name[:100]} is a value and has members")
            place = below
        if isinstance(place.get(parts[-1]), dict):
            raise SerializationError(f"{name[:100]} is a value and has members")
        place[parts[-1]] = text
    return root


def _value(shape: Any, given: Any) -> Any:
    kind = shape.type_name
    if kind == "structure":
        return _structure(shape, _members(given))
    if kind == "list":
        flat = shape.serialization.get("flattened")
        items = _members(given) if flat else _members(_members(given).get(_member_name(shape), {}))
        return [_value(shape.member, item) for item in _in_order(items)]
    if kind == "map":
        entries = (
            _members(given) if shape.serialization.get("flattened") else _members(_members(given).get("entry", {}))
        )
        return {
            _text(entry.get("key")): _value(shape.value, entry.get("value"))
            for entry in map(_members, _in_order(entries))
        }
    text = _text(given)
    return _blob(text) if kind == "blob" else from_text(shape, text, "iso8601")


def _blob(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise SerializationError("STRING_VALUE cannot be converted to Blob: not base64") from None


def _structure(shape: Any, given: Tree) -> dict[str, Any]:
    found = {}
    for member in layout(shape).members:
        if member.wire in given:
            found[member.name] = _value(member.shape, given[member.wire])
    return found


def _members(given: Any) -> Tree:
    if isinstance(given, dict):
        return given
    if given in ("", None):
        return {}
    raise SerializationError("a value stands where members are expected")


def _in_order(items: Tree) -> list[Any]:
    try:
        return [items[key] for key in sorted(items, key=int)]
    except ValueError:
        raise SerializationError("members of lists are numbered") from None


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise SerializationError("members stand where a value is expected")
    return given


def _member_name(shape: Any) -> str:
    return str(shape.member.serialization.get("name", "member"))


def write_query(service: Service, operation: str, result: Mapping[str, Any], request_id: str) -> HttpResponse:
    """A result as the response of an operation. Members set to None are left out."""
    shape = service.operation(operation).output_shape
    parts = [f'<{operation}Response xmlns="{service.model.metadata["xmlNamespace"]}">']
    if shape is not None:
        wrapper = shape.serialization.get("resultWrapper", f"{operation}Result")
        parts += [f"<{wrapper}>", *_written(shape, result), f"</{wrapper}>"]
    parts.append(
        f"<ResponseMetadata><RequestId>{escape(request_id)}</RequestId></ResponseMetadata></{operation}Response>"
    )
    return HttpResponse(200, {"Content-Type": "text/xml"}, "".join(parts).encode())


def _written(shape: Any, value: Any) -> Iterable[str]:
    kind = shape.type_name
    if kind == "structure":
        for member in layout(shape).members:
            if value.get(member.name) is not None:
                yield from _element(member.wire, member.shape, value[member.name])
    elif kind == "list":
        for item in value:
            yield from _element(_member_name(shape), shape.member, item)
    elif kind == "map":
        for key, item in value.items():
            yield f"<entry><key>{_escaped(key)}</key>"
            yield from _element("value", shape.value, item)
            yield "</entry>"
    elif kind == "blob":
        yield base64.b64encode(value).decode()
    elif kind == "timestamp":
        yield value.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    else:
        yield ("true" if value else "false") if isinstance(value, bool) else _escaped(str(value))


def _element(name: str, shape: Any, value: Any) -> Iterable[str]:
    yield f"<{name}>"
    yield from _written(shape, value)
    yield f"</{name}>"


def _escaped(text: str) -> str:
    return escape(_NO_XML.sub("\ufffd", text), {"\r": "&#13;"})
