"""What moto takes as AWS does goes on as it is; messages' system attributes are the business of `triggers/messages.py`."""

from __future__ import annotations

import pytest

from lading.service.contract.http import HttpRequest
from lading.service.neighbours.mended import mend

ACCOUNT = "000000000000"
HEADERS = {"x-amz-target": "AmazonSQS.SendMessage", "x-amzn-trace-id": "Root=1-0"}


@pytest.mark.parametrize(
    ("service", "body"),
    [
        ("sqs", b'{"MessageBody": "x"}'),
        ("sqs", b'{"MessageSystemAttributes": [1]}'),
        ("sqs", b"[" * 100_000),
        ("iam", b"Action=UpdateRoleDescription&RoleName=x"),
        ("iam", b""),
        ("kinesis", b"{}"),
    ],
)
def test_other_requests_go_on_as_they_are(service: str, body: bytes) -> None:
    request = HttpRequest("POST", "/", (), HEADERS, body=body)
    assert mend(service, request, ACCOUNT) is request
