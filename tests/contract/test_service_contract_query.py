"""The query protocol against botocore's own serializer and parser, which are what clients use."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from lading.service.contract.errors import SerializationError, UnknownOperationError
from lading.service.contract.http import HttpRequest
from lading.service.contract.query import parse_query, write_query
from lading.service.contract.service import load_service

SERVICE = load_service("cloudformation")


def sent(operation: str, parameters: dict[str, Any]) -> HttpRequest:
    made = create_serializer("query", include_validation=False).serialize_to_request(
        parameters, SERVICE.operation(operation)
    )
    return HttpRequest("POST", "/", body=urlencode(made["body"]).encode())


def test_a_request_as_botocore_writes_it() -> None:
    parameters = {
        "StackName": "orders & more",
        "TemplateBody": "Resources: {}\n",
        "Parameters": [{"ParameterKey": "A", "ParameterValue": "ü"}, {"ParameterKey": "B", "UsePreviousValue": True}],
        "Capabilities": ["CAPABILITY_IAM"],
        "Tags": [],
        "RollbackConfiguration": {"MonitoringTimeInMinutes": 5},
        "DisableRollback": False,
    }
    assert parse_query(SERVICE, sent("CreateStack", parameters)) == ("CreateStack", parameters)


def test_more_than_nine_members_stay_in_order() -> None:
    names = [f"R{number}" for number in range(12)]
    _, found = parse_query(SERVICE, sent("DeleteStack", {"StackName": "s", "RetainResources": names}))
    assert found["RetainResources"] == names


@pytest.mark.parametrize(
    "form",
    [
        "Action=CreateStack&Tags=x",
        "Action=CreateStack&Tags.member.one.Key=x",
        "Action=CreateStack&StackName.x=1",
        "Action=CreateStack&DisableRollback=perhaps",
        "Action=CreateStack&Tags.member.1=x&Tags.member.1.Key=y",
        "Action=CreateStack&" + ".".join("a" * 40) + "=x",
        "&".join(f"a{number}=x" for number in range(20_001)),
        "Action=\xff",
    ],
)
def test_forms_that_are_broken(form: str) -> None:
    with pytest.raises((SerializationError, UnknownOperationError)):
        parse_query(SERVICE, HttpRequest("POST", "/", body=form.encode("latin-1")))


def test_a_response_as_botocore_reads_it() -> None:
    moment = dt.datetime(2026, 11, 26, 18, 0, 0, 123000, dt.UTC)
    stack = {
        "StackId": "arn",
        "StackName": "a<b>&\r\n\x00",
        "CreationTime": moment,
        "StackStatus": "CREATE_COMPLETE",
        "DisableRollback": False,
        "Outputs": [{"OutputKey": "K", "OutputValue": "V"}],
        "Tags": [],
        "Description": None,
    }
    answer = write_query(SERVICE, "DescribeStacks", {"Stacks": [stack]}, "request-1")
    shape = SERVICE.operation("DescribeStacks").output_shape
    parsed = create_parser("query").parse({"body": answer.body, "status_code": 200, "headers": {}}, shape)
    assert parsed["ResponseMetadata"]["RequestId"] == "request-1"
    assert parsed["Stacks"] == [
        {name: value for name, value in stack.items() if value is not None} | {"StackName": "a<b>&\r\n\ufffd"}
    ]


def test_an_operation_without_a_result() -> None:
    answer = write_query(SERVICE, "DeleteStack", {}, "request-1")
    assert answer.body.startswith(b"<DeleteStackResponse ") and b"request-1" in answer.body
