"""The contract layer's messages: word for word as AWS answers the same requests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lading.service.contract.bounds import bounds_in_force
from lading.service.contract.errors import ApiError, SerializationError, UnknownOperationError
from lading.service.contract.http import HttpRequest
from lading.service.contract.parse import parse
from lading.service.contract.serialize import serialize, serialize_error
from lading.service.contract.service import load_service
from lading.service.contract.validate import validate

LAMBDA = load_service("lambda")
ROLE = "arn:aws:iam::000000000000:role/r"
NAME_PATTERN = LAMBDA.model.shape_for("FunctionName").metadata["pattern"]
VALID = {"FunctionName": "f", "Role": ROLE, "Code": {}}


def message(operation: str, **parameters: Any) -> str:
    with pytest.raises(ApiError) as caught:
        validate(LAMBDA.operation(operation).input_shape, parameters, bounds_in_force("lambda"))
    assert caught.value.code == "ValidationException"
    return caught.value.message


@pytest.mark.parametrize(
    ("operation", "parameters", "expected"),
    [
        (
            "GetFunction",
            {"FunctionName": "f", "Qualifier": "a" * 129},
            (
                f"Value '{'a' * 129}' at 'qualifier' failed to satisfy constraint: "
                "Member must have length less than or equal to 128"
            ),
        ),
        (
            "CreateFunction",
            {**VALID, "FunctionName": "f!"},
            (
                f"Value 'f!' at 'functionName' failed to satisfy constraint: "
                f"Member must satisfy regular expression pattern: {NAME_PATTERN}"
            ),
        ),
        (
            "CreateFunction",
            {**VALID, "MemorySize": 127},
            "Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128",
        ),
        (
            "CreateFunction",
            {**VALID, "Timeout": 901},
            "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900",
        ),
        (
            "CreateFunction",
            {**VALID, "EphemeralStorage": {"Size": 10241}},
            (
                "Value '10241' at 'ephemeralStorage.size' failed to satisfy constraint: "
                "Member must have value less than or equal to 10240"
            ),
        ),
        (
            "CreateFunction",
            {**VALID, "Architectures": ["X86_64"]},
            (
                "Value '[X86_64]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: "
                "[Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"
            ),
        ),
        (
            "CreateFunction",
            {**VALID, "Architectures": ["x86_64", "arm64"]},
            (
                "Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: "
                "Member must have length less than or equal to 1"
            ),
        ),
        (
            "CreateFunction",
            {**VALID, "SnapStart": {"ApplyOn": "invalidOption"}},
            (
                "Value 'invalidOption' at 'snapStart.applyOn' failed to satisfy constraint: "
                "Member must satisfy enum value set: [PublishedVersions, None]"
            ),
        ),
        (
            "CreateFunction",
            {**VALID, "Environment": {"Variables": {"1A": "secret"}}},
            (
                "Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: "
                "[Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]"
            ),
        ),
        (
            "CreateAlias",
            {
                "FunctionName": "f",
                "Name": "a",
                "FunctionVersion": "1",
                "RoutingConfig": {"AdditionalVersionWeights": {"2": 2.0}},
            },
            (
                "Value '{2=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must "
                "satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than "
                "or equal to 0.0, Member must not be null]"
            ),
        ),
        (
            "CreateAlias",
            {
                "FunctionName": "f",
                "Name": "a",
                "FunctionVersion": "1",
                "RoutingConfig": {"AdditionalVersionWeights": {"$LATEST": 0.5}},
            },
            (
                "Value '{$LATEST=0.5}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map keys must "
                "satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than "
                "or equal to 1, Member must satisfy regular expression pattern: [0-9]+]"
            ),
        ),
        (
            "UntagResource",
            {"Resource": "arn:aws:lambda:us-east-1:000000000000:function:f"},
            "Value null at 'tagKeys' failed to satisfy constraint: Member must not be null",
        ),
    ],
)
def test_one_violation(operation: str, parameters: dict[str, Any], expected: str) -> None:
    assert message(operation, **parameters) == f"1 validation error detected: {expected}"


def test_several_violations_are_joined() -> None:
    text = message("CreateFunction", FunctionName="f", Code={}, MemorySize=1, Timeout=0)
    assert text.startswith("3 validation errors detected: Value null at 'role' failed")
    assert text.count("; Value ") == 2


def test_an_unmodelled_error_has_a_bare_message() -> None:
    response = serialize_error(LAMBDA, ApiError("ValidationException", "no"))
    assert (response.status, json.loads(response.body)) == (400, {"message": "no"})
    assert response.headers["x-amzn-ErrorType"] == "ValidationException"


def test_a_modelled_error_has_its_shape_and_status() -> None:
    missing = serialize_error(LAMBDA, ApiError("ResourceNotFoundException", "Function not found: x"))
    assert missing.status == 404
    assert json.loads(missing.body) == {"Type": "User", "Message": "Function not found: x"}
    conflict = serialize_error(LAMBDA, ApiError("ResourceConflictException", "no"))
    assert (conflict.status, json.loads(conflict.body)) == (409, {"Type": "User", "message": "no"})
    broken = serialize_error(LAMBDA, ApiError("ServiceException", "oh"))
    assert (broken.status, json.loads(broken.body)["Type"]) == (500, "Service")


def test_a_throttle_has_its_reason_and_header() -> None:
    fields = {"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded", "retryAfterSeconds": "1"}
    response = serialize_error(LAMBDA, ApiError("TooManyRequestsException", "Rate Exceeded.", fields=fields))
    assert response.status == 429
    assert response.headers["Retry-After"] == "1"
    assert json.loads(response.body) == {
        "Type": "User",
        "message": "Rate Exceeded.",
        "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"FunctionName": 1}', "NUMBER_VALUE cannot be converted to String"),
        (b'{"FunctionName": true}', "TRUE_VALUE cannot be converted to String"),
        (b'{"Timeout": "3"}', "STRING_VALUE cannot be converted to Integer"),
        (b'{"Timeout": 3.5}', "DECIMAL_VALUE cannot be converted to Integer"),
        (b'{"Layers": {}}', "Start of structure or map found where not expected."),
        (b'{"Layers": "x"}', "Expected list or null"),
        (b'{"Code": []}', "Start of list found where not expected"),
        (b'{"Code": {"ZipFile": "!"}}', "STRING_VALUE cannot be converted to Blob: not base64"),
    ],
)
def test_wrong_types(body: bytes, expected: str) -> None:
    with pytest.raises(SerializationError) as caught:
        parse(LAMBDA, HttpRequest("POST", "/2015-03-31/functions", body=body))
    assert caught.value.message == expected


@pytest.mark.parametrize(
    ("method", "path", "query", "operation"),
    [
        ("GET", "/2015-03-31/functions/", (), "ListFunctions"),
        ("GET", "/2015-03-31/functions/f", (), "GetFunction"),
        ("GET", "/2018-10-31/layers", (("find", "LayerVersion"), ("Arn", "a")), "GetLayerVersionByArn"),
        ("GET", "/2018-10-31/layers", (), "ListLayers"),
        (
            "GET",
            "/2019-09-30/functions/f/provisioned-concurrency",
            (("List", "ALL"),),
            "ListProvisionedConcurrencyConfigs",
        ),
        (
            "GET",
            "/2019-09-30/functions/f/provisioned-concurrency",
            (("Qualifier", "1"),),
            "GetProvisionedConcurrencyConfig",
        ),
        ("GET", "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aa%3Ab%2Fc", (), "ListTags"),
    ],
)
def test_routes(method: str, path: str, query: tuple[tuple[str, str], ...], operation: str) -> None:
    assert LAMBDA.route(HttpRequest(method, path, query))[0] == operation


def test_an_encoded_slash_stays_in_its_label() -> None:
    _, labels = LAMBDA.route(HttpRequest("GET", "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aa%3Ab%2Fc"))
    assert labels == {"Resource": "arn:aws:lambda:a:b/c"}


def test_no_such_operation() -> None:
    with pytest.raises(UnknownOperationError, match="PATCH /2015-03-31/functions"):
        LAMBDA.route(HttpRequest("PATCH", "/2015-03-31/functions"))


def test_the_json_protocol_routes_by_target_and_names_its_error_type() -> None:
    logs = load_service("logs")
    request = HttpRequest(
        "POST", "/", headers={"x-amz-target": "Logs_20140328.DescribeLogGroups"}, body=b'{"limit": 3, "x": 1}'
    )
    assert parse(logs, request) == ("DescribeLogGroups", {"limit": 3})
    assert serialize(logs, "DescribeLogGroups", {"logGroups": []}).body == b'{"logGroups":[]}'
    error = serialize_error(logs, ApiError("ResourceNotFoundException", "no such group"))
    assert json.loads(error.body) == {"__type": "ResourceNotFoundException", "message": "no such group"}
    with pytest.raises(UnknownOperationError, match="no X-Amz-Target"):
        logs.route(HttpRequest("POST", "/"))


def test_a_protocol_that_is_not_spoken_is_refused() -> None:
    with pytest.raises(ValueError, match="s3 speaks rest-xml"):
        load_service("s3")
