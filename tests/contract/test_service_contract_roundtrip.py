"""Properties of the contract layer over every operation of the lambda model, with botocore's own serializer and parser
as the other side: what a client sends is what is parsed, what is answered is what a client reads."""

from __future__ import annotations

import datetime as dt
import io
import json
import re
import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from botocore.awsrequest import HeadersDict, prepare_request_dict
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lading.service.contract.errors import ApiError, ConstraintError
from lading.service.contract.http import HttpRequest, HttpResponse
from lading.service.contract.parse import parse
from lading.service.contract.patterns import compile_pattern
from lading.service.contract.serialize import ERROR_TYPE, serialize, serialize_error
from lading.service.contract.service import load_service
from lading.service.contract.validate import validate

LAMBDA = load_service("lambda")
OPERATIONS = LAMBDA.operations
FRAMEWORK_ERRORS = {
    "ValidationException", "SerializationException", "UnknownOperationException", "AccessDeniedException",
}  # fmt: skip
"""Of AWS's own front end: in no service's model."""
PLAIN = st.characters(min_codepoint=0x20, max_codepoint=0x2FFF, exclude_categories=("Cs", "Cc"))
few = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


def strings(shape: Any, *, header: bool) -> st.SearchStrategy[str]:
    if shape.enum:
        return st.sampled_from(shape.enum)
    low = shape.metadata.get("min", 0)
    high = min(shape.metadata.get("max", 40), max(low, 300))
    pattern = shape.metadata.get("pattern")
    if pattern:
        regex = compile_pattern(pattern)
        texts = st.from_regex(regex, fullmatch=True)
        fits = texts.filter(lambda text: low <= len(text) <= shape.metadata.get("max", 40))
        return fits.filter(lambda text: regex.fullmatch(text) is not None and "\n" not in text and text.isprintable())
    alphabet: Any = st.characters(min_codepoint=0x21, max_codepoint=0x7E) if header else PLAIN
    return st.text(alphabet, min_size=low, max_size=max(low, min(high, 40)))


def values(shape: Any, *, header: bool = False) -> st.SearchStrategy[Any]:
    kind = shape.type_name
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if kind == "structure":
        required = {n: values(s) for n, s in shape.members.items() if n in shape.required_members}
        optional = {n: values(s) for n, s in shape.members.items() if n not in shape.required_members}
        return st.fixed_dictionaries(required, optional=optional)
    if kind == "list":
        most = min(high if high is not None else 3, max(low or 0, 3))
        return st.lists(values(shape.member), min_size=low or 0, max_size=most)
    if kind == "map":
        return st.dictionaries(values(shape.key), values(shape.value), min_size=low or 0, max_size=3)
    if kind == "string":
        return strings(shape, header=header)
    if kind in ("integer", "long"):
        return st.integers(low if low is not None else -(2**31), high if high is not None else 2**31 - 1)
    if kind in ("float", "double"):
        return st.floats(low if low is not None else -1e9, high if high is not None else 1e9, allow_nan=False)
    if kind == "blob":
        return st.binary(min_size=low or 0, max_size=60)
    if kind == "timestamp":
        return st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2090, 1, 1)).map(
            lambda moment: moment.replace(microsecond=0, tzinfo=dt.UTC)
        )
    assert kind == "boolean", kind
    return st.booleans()


def requests(name: str) -> st.SearchStrategy[dict[str, Any]]:
    shape = LAMBDA.operation(name).input_shape
    if shape is None:
        return st.just({})
    parts = {
        member: values(inner, header=inner.serialization.get("location") == "header")
        for member, inner in shape.members.items()
    }
    required = {n: s for n, s in parts.items() if n in shape.required_members}
    return st.fixed_dictionaries(required, optional={n: s for n, s in parts.items() if n not in required})


def as_sent(name: str, parameters: dict[str, Any]) -> HttpRequest:
    """The request that botocore would put on the wire."""
    model = LAMBDA.operation(name)
    request = create_serializer("rest-json", include_validation=False).serialize_to_request(parameters, model)
    prepare_request_dict(request, endpoint_url="http://127.0.0.1:4566")
    url = urlsplit(request["url"])
    query = parse_qsl(url.query, keep_blank_values=True)
    body = request["body"] or b""
    return HttpRequest(
        method=request["method"],
        path=url.path,
        query=tuple(query),
        headers={key.lower(): str(value) for key, value in request["headers"].items()},
        body=body.encode() if isinstance(body, str) else body,
    )


def as_read(shape: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """What a request can carry: an empty payload and an empty list in a query are the same as none; botocore sends `{}`
    for a structure that isn't given."""
    payload = shape.serialization.get("payload") if shape is not None else None
    if payload and shape.members[payload].type_name == "structure":
        parameters = {payload: {}} | parameters
    return {
        name: value
        for name, value in parameters.items()
        if not (name == payload and value == b"")
        and not (shape.members[name].serialization.get("location") == "querystring" and value == [])
    }


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_valid_request_is_parsed_back_as_it_was_sent(name: str) -> None:
    shape = LAMBDA.operation(name).input_shape

    @few
    @given(requests(name))
    def check(parameters: dict[str, Any]) -> None:
        operation, found = parse(LAMBDA, as_sent(name, parameters))
        assert operation == name
        assert found == as_read(shape, parameters)
        missing = set(parameters) - set(found)
        if not missing & set(shape.required_members if shape is not None else ()):
            validate(shape, found)

    check()


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def answered(request: HttpRequest) -> HttpResponse | None:
    """The error a request gets, None when it is valid; anything but an ApiError is a defect."""
    try:
        name, parameters = parse(LAMBDA, request)
        validate(LAMBDA.operation(name).input_shape, parameters)
    except ApiError as error:
        return serialize_error(LAMBDA, error)
    return None


def check_error(name: str, response: HttpResponse) -> None:
    assert 400 <= response.status < 500
    parsed = read(name, response)
    assert parsed["Error"]["Code"] in FRAMEWORK_ERRORS | set(LAMBDA.error_shapes)
    assert parsed["Error"]["Message"]
    assert response.headers[ERROR_TYPE] == parsed["Error"]["Code"]


def read(name: str, response: HttpResponse) -> dict[str, Any]:
    """A response as botocore's parser gives it to a client."""
    streamed = LAMBDA.operation(name).has_streaming_output and response.status < 300
    body = io.BytesIO(response.body) if streamed else response.body
    answer = {"status_code": response.status, "headers": HeadersDict(response.headers), "body": body}
    result: dict[str, Any] = create_parser("rest-json").parse(answer, LAMBDA.operation(name).output_shape)
    return result


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_spoilt_request_gets_a_modelled_4xx(name: str) -> None:
    @few
    @given(requests(name), st.data())
    def check(parameters: dict[str, Any], data: st.DataObject) -> None:
        request = spoilt(data, as_sent(name, parameters))
        response = answered(request)
        if response is not None:
            check_error(name, response)

    check()


def spoilt(data: st.DataObject, request: HttpRequest) -> HttpRequest:
    """One part of a request replaced: the body, one member of it, one query value, one header."""
    body, query, headers = request.body, list(request.query), dict(request.headers)
    choice = data.draw(st.sampled_from(["bytes", "json", "member", "query", "header"]))
    if choice == "bytes":
        body = data.draw(st.binary(max_size=80))
    elif choice == "json":
        body = json.dumps(data.draw(JSONISH)).encode()
    elif choice == "member" and body[:1] == b"{" and (members := json.loads(body)):
        members[data.draw(st.sampled_from(sorted(members)))] = data.draw(JSONISH)
        body = json.dumps(members).encode()
    elif choice == "query" and query:
        index = data.draw(st.integers(0, len(query) - 1))
        query[index] = (query[index][0], data.draw(st.text(max_size=30)))
    else:
        headers |= {key: data.draw(st.text(max_size=30)) for key in headers if key.startswith("x-amz")}
    return HttpRequest(request.method, request.path, tuple(query), headers, body)


def constrained() -> list[tuple[str, str]]:
    """(operation, member) of every top-level member that can be made to break a constraint."""
    found = []
    for name in OPERATIONS:
        shape = LAMBDA.operation(name).input_shape
        for member, inner in shape.members.items() if shape is not None else ():
            if breaking(inner) is not None:
                found.append((name, member))
    return found


def breaking(shape: Any) -> Any:
    """A value of the right type that the shape's constraints forbid; None when there is none."""
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if shape.type_name == "string":
        if shape.enum:
            return "no-such-value"
        if high is not None and high < 2100:
            return "a" * (high + 1)
        pattern = shape.metadata.get("pattern")
        return "\u2603 \n" if pattern and not compile_pattern(pattern).fullmatch("\u2603 \n") else None
    if shape.type_name in ("integer", "long", "double"):
        return high + 1 if high is not None else low - 1 if low is not None else None
    return None


@pytest.mark.parametrize(("name", "member"), constrained())
def test_a_broken_constraint_is_named(name: str, member: str) -> None:
    shape = LAMBDA.operation(name).input_shape
    spelled = member[0].lower() + member[1:]
    with pytest.raises(ConstraintError) as caught:
        validate(shape, {member: breaking(shape.members[member])})
    mine = [line for line in caught.value.violations if f"at '{spelled}' failed to satisfy constraint: " in line]
    assert mine and "Member must" in mine[0]
    missing = [line for line in caught.value.violations if line.endswith("Member must not be null")]
    assert len(missing) == len(set(shape.required_members) - {member})
    assert caught.value.message.startswith(f"{len(caught.value.violations)} validation error")


@pytest.mark.parametrize("name", [n for n in OPERATIONS if not LAMBDA.operation(n).has_event_stream_output])
def test_a_result_is_read_back_as_it_was_answered(name: str) -> None:
    shape = LAMBDA.operation(name).output_shape
    parts: dict[str, Any] = {}
    for member, inner in shape.members.items() if shape is not None else ():
        location = inner.serialization.get("location")
        parts[member] = (
            st.integers(200, 299) if location == "statusCode" else values(inner, header=location == "header")
        )

    @few
    @given(st.fixed_dictionaries({}, optional=parts))
    def check(result: dict[str, Any]) -> None:
        response = serialize(LAMBDA, name, result)
        found = read(name, response)
        found.pop("ResponseMetadata")
        for member, inner in shape.members.items() if shape is not None else ():
            if inner.serialization.get("location") == "statusCode":
                assert found.pop(member) == result.get(member, response.status)
        payload = shape.serialization.get("payload") if shape is not None else None
        if payload:
            assert found.pop(payload).read() == result.get(payload, b"")
        expected = {
            key: value
            for key, value in result.items()
            if key not in (payload, "StatusCode", "Status")
            or (key == "Status" and shape.members[key].serialization.get("location") != "statusCode")
        }
        assert found == expected

    check()


def test_every_pattern_of_the_model_compiles_and_is_quick_on_hostile_strings() -> None:
    hostile = [
        "a" * 10_000,
        "arn:aws:lambda:" + "a-" * 4_000,
        "a." * 5_000,
        "-" * 10_000,
        "arn:" + ":" * 9_000,
        "a-" * 5_000 + "!",
    ]
    for name in LAMBDA.model.shape_names:
        pattern = LAMBDA.model.shape_for(name).metadata.get("pattern")
        if pattern is None:
            continue
        regex = compile_pattern(pattern)
        longest = LAMBDA.model.shape_for(name).metadata.get("max", 10_000)
        started = time.thread_time()
        for text in hostile:
            regex.fullmatch(text[:longest])
        assert time.thread_time() - started < 1, (name, pattern)


def test_a_property_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape(r"\p{Lu}")):
        compile_pattern(r"[\p{Lu}]+")


def test_deep_json_is_refused_not_recursed_into() -> None:
    body = b'{"Code":' * 100_000 + b"1" + b"}" * 100_000
    response = answered(HttpRequest("POST", "/2015-03-31/functions", body=body))
    assert response is not None
    check_error("CreateFunction", response)
