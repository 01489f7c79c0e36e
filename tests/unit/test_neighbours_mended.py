"""A sender's trace header joins its message; what isn't a message goes on as it is, for moto to refuse."""

from __future__ import annotations

import json

import pytest

from lading.service.contract.http import HttpRequest
from lading.service.neighbours.mended import mend

HEADERS = {"x-amz-target": "AmazonSQS.SendMessage", "x-amzn-trace-id": "Root=1-0"}
ACCOUNT = "000000000000"


def sent(body: bytes, headers: dict[str, str] = HEADERS) -> HttpRequest:
    return HttpRequest("POST", "/", (), headers, body=body)


def test_a_message_keeps_its_sender_s_trace_but_for_one_of_its_own() -> None:
    plain = json.loads(mend("sqs", sent(b'{"MessageBody": "x"}'), ACCOUNT).body)
    assert plain["MessageSystemAttributes"]["AWSTraceHeader"] == {"DataType": "String", "StringValue": "Root=1-0"}
    own = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-9"}}
    stated = json.dumps({"MessageBody": "x", "MessageSystemAttributes": own}).encode()
    assert json.loads(mend("sqs", sent(stated), ACCOUNT).body)["MessageSystemAttributes"] == own


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[1]", b'{"MessageSystemAttributes": [1]}', b"[" * 100_000])
def test_what_is_no_message_goes_on_as_it_is(body: bytes) -> None:
    request = sent(body)
    assert mend("sqs", request, ACCOUNT) is request


def test_other_requests_go_on_as_they_are() -> None:
    untraced = sent(b'{"MessageBody": "x"}', {"x-amz-target": "AmazonSQS.SendMessage"})
    assert mend("sqs", untraced, ACCOUNT) is untraced
    other = sent(b"{}")
    assert mend("kinesis", other, ACCOUNT) is other
