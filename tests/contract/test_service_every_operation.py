"""Every operation with random requests, valid and spoilt, through the whole service but its socket: a result, or an error
of the modelled shape; never a 5xx but the 501 of what waits for later."""

from __future__ import annotations

import asyncio
import contextlib
import io
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_service_contract_roundtrip import LAMBDA, OPERATIONS, as_sent, check_error, read, requests, spoilt

from lading.service.contract.errors import ApiError
from lading.service.control.control import Control, Origin, open_control
from lading.service.control.later import NAMES
from lading.service.control.names import Scope
from lading.service.front.lambda_api import LambdaApi

ORIGIN = Origin(Scope("000000000000", "us-east-1"), "http://127.0.0.1:4566")
some = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    control = open_control(":memory:")
    yield control
    control.close()


def seed(control: Control) -> None:
    """A function, a version, an alias and a layer that requests can be about, whatever was deleted before."""
    package = {"ZipFile": zipped()}
    wanted = [
        ("PublishLayerVersion", {"LayerName": "known", "Content": package}),
        ("CreateFunction", {
            "FunctionName": "known", "Runtime": "python3.13", "Handler": "a.b", "Code": package, "Publish": True,
            "Role": "arn:aws:iam::000000000000:role/r",
        }),
        ("CreateAlias", {"FunctionName": "known", "Name": "live", "FunctionVersion": "1"}),
    ]  # fmt: skip
    for operation, parameters in wanted:
        with contextlib.suppress(ApiError):
            control.run(operation, parameters, ORIGIN)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.py", "")
    return buffer.getvalue()


KNOWN: dict[str, list[Any]] = {
    "FunctionName": ["known", "known:live", "arn:aws:lambda:us-east-1:000000000000:function:known"],
    "Qualifier": ["1", "live", "$LATEST", "2"],
    "LayerName": ["known"],
    "VersionNumber": [1, 2],
    "Name": ["live", "other"],
    "Resource": ["arn:aws:lambda:us-east-1:000000000000:function:known"],
    "ResourceArn": ["arn:aws:lambda:us-east-1:000000000000:function:known"],
    "FunctionVersion": ["1", "$LATEST", "7"],
    "Code": [{"ZipFile": zipped()}],
    "ZipFile": [zipped()],
    "Runtime": ["python3.13"],
    "Layers": [["arn:aws:lambda:us-east-1:000000000000:layer:known:1"]],
}
"""Values that lead somewhere, by member."""


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_request_is_answered(control: Control, name: str) -> None:
    api = LambdaApi(control)

    @some
    @given(requests(name), st.booleans(), st.data())
    def check(parameters: dict[str, Any], spoil: bool, data: st.DataObject) -> None:
        seed(control)
        members = LAMBDA.operation(name).input_shape.members if LAMBDA.operation(name).input_shape else {}
        for member in sorted(members.keys() & KNOWN.keys()):
            if data.draw(st.booleans()):
                parameters[member] = data.draw(st.sampled_from(KNOWN[member]))
        request = as_sent(name, parameters)
        if spoil:
            request = spoilt(data, request)
        response = asyncio.run(api.answer(request, ORIGIN))
        if response.status == 501:
            assert read(name, response)["Error"]["Code"] == "NotImplementedException"
        elif response.status >= 300:
            check_error(name, response)
        else:
            assert name not in NAMES
            if response.status == 204 and not getattr(response, "body", b""):
                return  # a dry run has nothing to read, and no stream to open
            assert read(name, response)["ResponseMetadata"]["HTTPStatusCode"] == response.status

    check()
