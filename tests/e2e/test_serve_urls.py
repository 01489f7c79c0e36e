"""Function URLs over real HTTP: events, responses, CORS, authorization, streams."""

from __future__ import annotations

import base64
import http.client
import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from serve_support import ACCOUNT, REGION, client, create, make_role, service, zipped

from lading.service.pool.variables import CREDENTIALS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="environments need root on Linux")

KEYS = {"AKIDEXAMPLE": "secret/of+the/example"}
FORBIDDEN = "Forbidden. For troubleshooting Function URL authorization issues, see: "
CODE = """
import base64, json

def handler(event, context):
    kind = event["rawPath"].strip("/")
    if kind == "echo":
        return event
    if kind == "raise":
        raise ValueError("no")
    return {
        "string": "plain text",
        "list": [1, "two", None],
        "whole": {"statusCode": 201, "headers": {"X-Own": "yes", "n": 3}, "cookies": ["a=1", "b=2"], "body": "made"},
        "object-body": {"statusCode": 200, "body": {"a": 1}},
        "binary": {"statusCode": 200, "body": base64.b64encode(bytes(range(256))).decode(), "isBase64Encoded": True},
        "bad-status": {"statusCode": "many"},
        "bad-header": {"statusCode": 200, "headers": {"x": "a\\r\\nb: c"}},
        "bad-base64": {"statusCode": 200, "body": "!", "isBase64Encoded": True},
    }[kind]
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service(keys=KEYS) as address:
        yield address


@pytest.fixture(scope="module")
def api(url: str) -> Any:
    key, secret = next(iter(KEYS.items()))
    return client(url, aws_access_key_id=key, aws_secret_access_key=secret)


def make(api: Any, name: str, *, public: bool = True, **config: Any) -> str:
    """A function with a URL; the URL's host name."""
    create(api, name, Code={"ZipFile": zipped({"app.py": CODE})}, Timeout=10)
    made = api.create_function_url_config(FunctionName=name, **({"AuthType": "NONE"} | config))
    if public:
        api.add_permission(
            FunctionName=name, StatementId="url", Action="lambda:InvokeFunctionUrl", Principal="*", FunctionUrlAuthType="NONE"
        )  # fmt: skip
    return str(urlsplit(made["FunctionUrl"]).netloc)


@pytest.fixture(scope="module")
def host(api: Any) -> str:
    return make(api, "open")


Reply = tuple[int, http.client.HTTPMessage, bytes]


def ask(url: str, host: str, path: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> Reply:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Host": host, **named})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_the_event(url: str, host: str) -> None:
    status, _, body = ask(
        url,
        host,
        "/echo?b=2&a=%2F1&b=3",
        "POST",
        b'{"x": 1}',
        Content_Type="application/json",
        Cookie="k=v; l=w",
        X_Own="Yes",
    )
    event = json.loads(body)
    assert status == 200
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == ("2.0", "/echo", "b=2&a=%2F1&b=3")
    assert event["queryStringParameters"] == {"b": "2,3", "a": "/1"}
    assert event["cookies"] == ["k=v", "l=w"]
    assert (event["body"], event["isBase64Encoded"]) == ('{"x": 1}', False)
    assert event["headers"]["x-own"] == "Yes" and event["headers"]["x-amzn-trace-id"].startswith("Root=1-")
    context = event["requestContext"]
    assert (context["accountId"], context["apiId"], context["domainName"]) == ("anonymous", host.split(".")[0], host)
    assert context["http"]["method"] == "POST" and context["http"]["sourceIp"] == "127.0.0.1"
    assert "authorizer" not in context
    bare = json.loads(ask(url, host, "/echo")[2])
    assert not {"cookies", "queryStringParameters", "body"} & set(bare)


def test_a_body_that_is_no_text_comes_as_base64(url: str, host: str) -> None:
    event = json.loads(ask(url, host, "/echo", "POST", b"\xff\x00", Content_Type="application/octet-stream")[2])
    assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (b"\xff\x00", True)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("string", 200, b"plain text"),
        ("list", 200, b'[1, "two", null]'),
        ("whole", 201, b"made"),
        ("object-body", 200, b'{"a": 1}'),
        ("binary", 200, bytes(range(256))),
        ("bad-status", 502, b"Internal Server Error"),
        ("bad-header", 502, b"Internal Server Error"),
        ("bad-base64", 502, b"Internal Server Error"),
        ("raise", 502, b"Internal Server Error"),
    ],
)
def test_responses(url: str, host: str, path: str, status: int, body: bytes) -> None:
    found = ask(url, host, f"/{path}")
    assert (found[0], found[2]) == (status, body)
    if path == "whole":
        assert (found[1]["x-own"], found[1]["n"]) == ("yes", "3")
        assert found[1].get_all("set-cookie") == ["a=1", "b=2"]
        assert found[1]["content-type"] == "application/json"


def test_an_unknown_url(url: str) -> None:
    status, _, body = ask(url, f"{'a' * 32}.lambda-url.{REGION}.localhost:1")
    assert (status, json.loads(body)) == (404, {"Message": None})
    assert ask(url, f"{'a' * 32}.lambda-url.{REGION}.evil.example", Origin="http://x")[0] == 403


def test_a_url_without_permission_is_forbidden(url: str, api: Any) -> None:
    closed = make(api, "closed", public=False)
    status, headers, body = ask(url, closed)
    assert (status, headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert json.loads(body)["Message"].startswith(FORBIDDEN)


def signature(host: str, path: str, secret: str) -> dict[str, str]:
    request = AWSRequest("GET", f"http://{host}{path}")
    SigV4Auth(Credentials("AKIDEXAMPLE", secret), "lambda", REGION).add_auth(request)
    return {name.replace("-", "_"): value for name, value in request.headers.items()}


def test_iam_wants_a_right_signature(url: str, api: Any) -> None:
    host = make(api, "signed", public=False, AuthType="AWS_IAM")
    assert ask(url, host, "/echo")[0] == 403
    assert ask(url, host, "/echo", **signature(host, "/echo", "another"))[0] == 403
    status, _, body = ask(url, host, "/echo", **signature(host, "/echo", KEYS["AKIDEXAMPLE"]))
    assert status == 200
    assert json.loads(body)["requestContext"]["authorizer"]["iam"]["accountId"] == ACCOUNT


def test_cors(url: str, api: Any) -> None:
    cors = {
        "AllowOrigins": ["https://app.example"], "AllowMethods": ["GET", "POST"], "AllowHeaders": ["x-own"], "MaxAge": 60,
        "AllowCredentials": True, "ExposeHeaders": ["x-out"],
    }  # fmt: skip
    host = make(api, "cors", Cors=cors)
    status, headers, _ = ask(
        url, host, "/", "OPTIONS", Origin="https://app.example", Access_Control_Request_Method="POST"
    )
    assert status == 200
    assert headers["access-control-allow-origin"] == "https://app.example"
    assert headers["access-control-allow-methods"] == "GET,POST"
    assert (headers["access-control-allow-headers"], headers["access-control-max-age"]) == ("x-own", "60")
    status, headers, _ = ask(url, host, "/string", Origin="https://app.example")
    assert (status, headers["access-control-allow-credentials"]) == (200, "true")
    assert headers["access-control-expose-headers"] == "x-out"
    status, headers, _ = ask(url, host, "/string", Origin="https://other.example")
    assert (status, headers["access-control-allow-origin"]) == (200, None)


def test_a_streaming_url_gives_the_payload_as_it_is(url: str, api: Any) -> None:
    host = make(api, "streaming", InvokeMode="RESPONSE_STREAM")
    status, headers, body = ask(url, host, "/whole")
    assert (status, json.loads(body)["statusCode"]) == (200, 201)
    assert headers["transfer-encoding"] == "chunked"


def test_a_deleted_function_s_url_is_gone(url: str, api: Any) -> None:
    host = make(api, "short-lived")
    assert ask(url, host, "/string")[0] == 200
    api.delete_function(FunctionName="short-lived")
    assert ask(url, host, "/string")[0] == 404


def signed(host: str, key: str, secret: str) -> dict[str, str]:
    request = AWSRequest("GET", f"http://{host}/echo")
    SigV4Auth(Credentials(key, secret), "lambda", REGION).add_auth(request)
    return {name.replace("-", "_"): value for name, value in request.headers.items()}


def test_without_keys_the_secrets_that_were_given_out_are_verified() -> None:
    with service(neighbours={}) as address:
        own = client(address)
        make_role(address)
        host = make(own, "handed-out", public=False, AuthType="AWS_IAM")

        def status(key: str, secret: str) -> int:
            return ask(address, host, "/echo", **signed(host, key, secret))[0]

        assert status("test", "test") == 200
        assert status("test", "guess") == 403
        assert status(ACCOUNT, "test") == 200
        assert status("AKIAUNKNOWNKEY000000", "test") == 403
        assert status(CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]) == 200
        iam = client(address, "iam")
        iam.create_user(UserName="caller")
        made = iam.create_access_key(UserName="caller")["AccessKey"]
        assert status(made["AccessKeyId"], made["SecretAccessKey"]) == 200
        assert status(made["AccessKeyId"], "guess") == 403


def test_another_account_needs_a_permission() -> None:
    with service() as address:
        own = client(address)
        host = make(own, "ours", public=False, AuthType="AWS_IAM")
        theirs = signed(host, "111122223333", "test")
        assert ask(address, host, "/echo", **theirs)[0] == 403
        own.add_permission(
            FunctionName="ours", StatementId="them", Action="lambda:InvokeFunctionUrl", Principal="111122223333",
            FunctionUrlAuthType="AWS_IAM",
        )  # fmt: skip
        status, _, body = ask(address, host, "/echo", **theirs)
        assert status == 200
        assert json.loads(body)["requestContext"]["authorizer"]["iam"]["accountId"] == "111122223333"
        assert ask(address, host, "/echo", **signed(host, "444455556666", "test"))[0] == 403
