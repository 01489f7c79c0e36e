"""Functions that really stream: InvokeWithResponseStream and URLs with RESPONSE_STREAM, to the end and cut short."""

from __future__ import annotations

import base64
import http.client
import json
import os
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from serve_support import client, create, zipped

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="environments need root on Linux")

CODE = """
import base64, http.client, json, os, time
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
BASE = "/2018-06-01/runtime/invocation"

def turn():
    api.request("GET", BASE + "/next")
    answer = api.getresponse()
    request, event = answer.headers["Lambda-Runtime-Aws-Request-Id"], json.loads(answer.read())
    event = json.loads(event["body"]) if "body" in event else event
    if "error" in event:
        body = json.dumps({"errorMessage": event["error"], "errorType": "Early"})
        api.request("POST", BASE + f"/{request}/error", body, {"Lambda-Runtime-Function-Error-Type": "Early"})
        api.getresponse().read()
        return
    api.putrequest("POST", BASE + f"/{request}/response")
    api.putheader("Transfer-Encoding", "chunked")
    api.putheader("Content-Type", event.get("type", "text/plain"))
    api.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    if "late" in event:
        api.putheader("Trailer", "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body")
    api.endheaders()
    for part in event["parts"]:
        data = part.encode("latin-1")
        api.send(b"%x\\r\\n%s\\r\\n" % (len(data), data))
        time.sleep(event.get("pause", 0))
    if event.get("exit"):
        os._exit(3)
    trailers = b""
    if "late" in event:
        body = base64.b64encode(json.dumps({"errorMessage": event["late"], "errorType": "Late"}).encode())
        trailers = b"Lambda-Runtime-Function-Error-Type: Late\\r\\nLambda-Runtime-Function-Error-Body: " + body + b"\\r\\n"
    api.send(b"0\\r\\n" + trailers + b"\\r\\n")
    api.getresponse().read()

while True:
    turn()
"""
PRELUDE = "application/vnd.awslambda.http-integration-response"


@pytest.fixture(scope="module")
def api(url: str) -> Any:
    made = client(url)
    create(made, "streams", Code={"ZipFile": zipped({"app.py": CODE})}, Timeout=10)
    return made


@pytest.fixture(scope="module")
def host(api: Any) -> str:
    made = api.create_function_url_config(FunctionName="streams", AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    api.add_permission(
        FunctionName="streams", StatementId="url", Action="lambda:InvokeFunctionUrl", Principal="*", FunctionUrlAuthType="NONE"
    )  # fmt: skip
    return str(urlsplit(made["FunctionUrl"]).netloc)


def pieces(api: Any, **event: Any) -> tuple[list[bytes], list[float], dict[str, Any]]:
    """Chunks, when they came, and the end."""
    stream = api.invoke_with_response_stream(FunctionName="streams", Payload=json.dumps(event).encode(), LogType="Tail")
    assert stream["ExecutedVersion"] == "$LATEST"
    chunks, times, end = [], [], {}
    for one in stream["EventStream"]:
        if "PayloadChunk" in one:
            chunks.append(one["PayloadChunk"]["Payload"])
            times.append(time.monotonic())
        else:
            end = one["InvokeComplete"]
    return chunks, times, end


def ask(url: str, host: str, **event: Any) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", "/", json.dumps(event), {"Host": host, "Content-Type": "application/json"})
    return connection.getresponse()


def test_chunks_come_as_they_are_sent(api: Any) -> None:
    chunks, times, end = pieces(api, parts=["one ", "two ", "three"], pause=0.3)
    assert b"".join(chunks) == b"one two three" and len(chunks) >= 3
    assert times[-1] - times[0] > 0.3
    assert "ErrorCode" not in end
    assert "REPORT RequestId: " in base64.b64decode(end["LogResult"]).decode()


def test_an_error_in_the_middle_of_a_stream(api: Any) -> None:
    chunks, _, end = pieces(api, parts=["begun"], late="out of data")
    assert chunks == [b"begun"]
    assert end["ErrorCode"] == "Unhandled"
    assert "out of data" in end["ErrorDetails"]


def test_an_error_before_the_stream(api: Any) -> None:
    chunks, _, end = pieces(api, error="nothing to send")
    assert chunks == []
    assert "nothing to send" in end["ErrorDetails"]


def test_an_environment_that_dies_in_the_middle(api: Any) -> None:
    chunks, _, end = pieces(api, parts=["last words"], exit=True, pause=0.1)
    assert b"".join(chunks) == b"last words"
    assert end["ErrorCode"] == "Unhandled"
    assert pieces(api, parts=["again"])[0] == [b"again"]


def test_a_url_streams(url: str, host: str) -> None:
    response = ask(url, host, parts=["a", "b"], pause=0.2, type="text/csv")
    assert (response.status, response.headers["content-type"]) == (200, "text/csv")
    assert response.read(1) == b"a"
    assert response.read() == b"b"


def test_a_prelude_gives_status_and_headers(url: str, host: str) -> None:
    head = json.dumps(
        {"statusCode": 418, "headers": {"X-Own": "yes", "Content-Type": "text/html"}, "cookies": ["a=1", "b=2"]}
    )
    response = ask(url, host, type=PRELUDE, parts=[head[:10], head[10:] + "\0" * 3, "\0" * 5 + "<p>", "tea</p>"])
    assert (response.status, response.headers["x-own"]) == (418, "yes")
    assert response.headers["content-type"] == "text/html"
    assert response.headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert response.read() == b"<p>tea</p>"


@pytest.mark.parametrize("head", ["no json", "[]", '{"statusCode": "many"}', '{"statusCode": 9999}'])
def test_a_prelude_that_is_none(url: str, host: str, head: str) -> None:
    response = ask(url, host, type=PRELUDE, parts=[head + "\0" * 8, "body"])
    assert (response.status, response.read()) == (502, b"Internal Server Error")


def test_a_url_s_stream_that_fails_late_is_cut(url: str, host: str) -> None:
    response = ask(url, host, parts=["half of"], late="no more")
    assert response.status == 200
    with pytest.raises(http.client.IncompleteRead) as caught:
        response.read()
    assert caught.value.partial == b"half of"


def test_a_url_s_function_that_fails_at_once(url: str, host: str) -> None:
    response = ask(url, host, error="no")
    assert (response.status, response.read()) == (502, b"Internal Server Error")
