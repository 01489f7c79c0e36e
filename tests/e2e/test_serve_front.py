"""The port itself: who is let in, limits, signatures, slow clients, health."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlsplit
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from serve_support import client, refusal, service

from lading.errors import UsageError
from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest
from lading.service.control.control import open_control
from lading.service.embed import Settings, make_front
from lading.service.front import body, connection, server
from lading.service.front.gate import Gate
from lading.service.front.keyring import IssuedKey, Keyring
from lading.service.front.sigv4 import verify

KEYS = {"AKIDEXAMPLE": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}


def ask(
    url: str, path: str, method: str = "GET", body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def test_health(url: str) -> None:
    status, headers, body = ask(url, "/_lading/health")
    assert status == 200 and json.loads(body)["status"] == "ok"
    assert len(headers["x-amzn-requestid"]) == 36
    assert ask(url, "/_lading/health", "POST")[0] == 405
    assert ask(url, "/_lading/none")[0] == 404
    assert ask(url, "/_lading/code/" + "0" * 64 + "?expires=1&signature=x")[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:4566", "", "[::1", "localhost.evil.example"])
def test_a_rebound_name_is_refused(url: str, host: str) -> None:
    assert ask(url, "/2015-03-31/functions", Host=host)[0] in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "[::1]:80", "lambda.us-east-1.localhost:4566"])
def test_names_of_this_machine_are_let_in(url: str, host: str) -> None:
    assert ask(url, "/2015-03-31/functions", Host=host)[0] == 200


@pytest.mark.parametrize(
    "header", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}]
)
def test_other_sites_pages_are_refused(url: str, header: dict[str, str]) -> None:
    status, headers, _ = ask(url, "/2015-03-31/functions/f/invocations", "POST", b"{}", **header)
    assert (status, headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert ask(url, "/2015-03-31/functions", Origin="http://localhost:3000")[0] == 200


def test_a_gate_knows_more_names_when_told() -> None:
    request = HttpRequest("GET", "/", headers={"host": "build.example:4566"})
    Gate(frozenset({"build.example"})).check(request)
    with pytest.raises(ApiError):
        Gate().check(request)


def test_bodies_have_a_largest_size(url: str) -> None:
    status, _, body = ask(url, "/2015-03-31/functions", "POST", Content_Length="70167212")
    assert status == 413
    assert json.loads(body)["message"] == "Request must be smaller than 70167211 bytes for the CreateFunction operation"
    api = client(url)
    found = refusal(
        api.create_function, FunctionName="f", Role="arn:aws:iam::000000000000:role/r", Runtime="python3.13", Handler="h",
        Code={"ZipFile": b"\0" * 52_428_801},
    )  # fmt: skip
    assert found == (413, "RequestEntityTooLargeException", "Zipped size must be smaller than 52428800 bytes")


def test_an_unknown_path_is_a_404(url: str) -> None:
    status, headers, _ = ask(url, "/2015-03-31/nothing")
    assert (status, headers["x-amzn-errortype"]) == (404, "UnknownOperationException")
    assert ask(url, "/")[0] == 501


def test_rubbish_on_the_socket_is_answered_or_cut(url: str) -> None:
    port = urlsplit(url).port
    assert port is not None
    random.seed(7)
    for junk in (b"\0" * 100, b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", random.randbytes(500)):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
            raw.sendall(junk)
            raw.shutdown(socket.SHUT_WR)
            reply = raw.recv(65536)
            assert reply == b"" or reply.startswith(b"HTTP/1.1 4")
    assert ask(url, "/_lading/health")[0] == 200


def test_slow_clients_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIME", 0.3)
    monkeypatch.setattr(body, "PAUSE", 0.3)
    with service() as url:
        port = urlsplit(url).port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(b"GET /_lading/health HTTP/1.1\r\nHost: localh")
            assert raw.recv(1000) == b""
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            head = b"POST /2015-03-31/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
            raw.sendall(head)
            assert raw.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_client_that_leaves_in_the_middle_harms_nobody(url: str) -> None:
    port = urlsplit(url).port
    assert port is not None
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
            raw.sendall(b"POST /2015-03-31/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    assert ask(url, "/_lading/health")[0] == 200


def test_signatures_are_verified_where_keys_are_given() -> None:
    with service(keys=KEYS) as url:
        key, secret = next(iter(KEYS.items()))
        good = client(url, aws_access_key_id=key, aws_secret_access_key=secret)
        assert good.list_functions()["Functions"] == []
        assert refusal(good.get_function, FunctionName="arn:aws:lambda:eu-west-1:000000000000:function:x y")[0] == 400
        assert refusal(good.list_tags, Resource="arn:aws:lambda:eu-west-1:000000000000:function:x")[0] == 404
        wrong = client(url, aws_access_key_id=key, aws_secret_access_key="wrong")
        assert refusal(wrong.list_functions)[:2] == (403, "InvalidSignatureException")
        stranger = client(url, aws_access_key_id="AKIDSTRANGER", aws_secret_access_key=secret)
        assert refusal(stranger.list_functions)[:2] == (403, "UnrecognizedClientException")
        assert ask(url, "/2015-03-31/functions")[0] == 403
        assert ask(url, "/_lading/health")[0] == 200


def signed(method: str, url: str, data: bytes, headers: dict[str, str]) -> HttpRequest:
    key, secret = next(iter(KEYS.items()))
    request = AWSRequest(method, url, headers=headers, data=data)
    SigV4Auth(Credentials(key, secret), "lambda", "eu-west-1").add_auth(request)
    parts = urlsplit(request.url)
    sent = {name.lower(): value for name, value in request.headers.items()} | {"host": parts.netloc}
    return HttpRequest(method, parts.path, tuple(parse_qsl(parts.query, keep_blank_values=True)), sent, data)


@pytest.mark.parametrize(
    "path",
    [
        "/a",
        "/a/arn%3Aaws%3Alambda%3Ax%2Fy",
        "/a?b=c&a=%2F%20x&a=1",
        "/a?tagKeys=k%C3%A9&tagKeys=z&empty=",
        "/%25/x%20y?q=~-_.",
    ],
)
def test_botocore_s_signature_is_ours(path: str) -> None:
    request = signed("POST", f"http://localhost:4566{path}", b'{"x": 1}', {"X-Amz-Invocation-Type": "  Event  now "})
    verify(request, Keyring(KEYS), time.time())
    changed: list[dict[str, Any]] = [
        {"body": b"{}"}, {"method": "PUT"}, {"path": request.path + "x"}, {"query": (*request.query, ("a", "b"))},
        {"headers": {**request.headers, "x-amz-invocation-type": "DryRun"}},
    ]  # fmt: skip
    for change in changed:
        with pytest.raises(ApiError, match="does not match"):
            verify(replace(request, **change), Keyring(KEYS), time.time())
    for moment in (time.time() - 1000, time.time() + 1000):
        with pytest.raises(ApiError, match="expired or not yet valid"):
            verify(request, Keyring(KEYS), moment)


def test_s3_s_signatures_in_headers_and_presigned() -> None:
    key, secret = next(iter(KEYS.items()))
    with service(keys=KEYS, neighbours={}, walls=None) as url:
        s3 = boto3.client(
            "s3", endpoint_url=url, region_name="eu-west-1", aws_access_key_id=key, aws_secret_access_key=secret,
            config=Config(signature_version="s3v4"),
        )  # fmt: skip
        s3.create_bucket(Bucket="signed", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        named = {"Bucket": "signed", "Key": "a folder/b+c%20\u00fc=1.txt"}
        try:
            s3.put_object(**named, Body=b"once")
            assert s3.get_object(**named)["Body"].read() == b"once"
            link = s3.generate_presigned_url("put_object", named)
            assert (
                urlopen(Request(link, b"twice", {"Content-Type": "text/plain"}, method="PUT"), timeout=10).status == 200
            )
            link = s3.generate_presigned_url("get_object", named, ExpiresIn=60)
            assert urlopen(link, timeout=10).read() == b"twice"
            for wrong in (
                link.replace("Expires=60", "Expires=90"),
                link.replace("X-Amz-Signature", "X-Amz-Signature0"),
            ):
                with pytest.raises(HTTPError, match="403"):
                    urlopen(wrong, timeout=10)
        finally:
            s3.delete_object(**named)
            s3.delete_bucket(Bucket="signed")


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_presigned_links_lead_to_s3(version: str) -> None:
    with service(neighbours={}, walls=None) as url:
        s3 = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test",
            config=Config(signature_version=version),
        )  # fmt: skip
        s3.create_bucket(Bucket="linked")
        try:
            s3.put_object(Bucket="linked", Key="k", Body=b"v")
            link = s3.generate_presigned_url("get_object", {"Bucket": "linked", "Key": "k"})
            assert urlopen(link, timeout=10).read() == b"v"
        finally:
            s3.delete_object(Bucket="linked", Key="k")
            s3.delete_bucket(Bucket="linked")


def test_temporary_keys_end() -> None:
    request = signed("GET", "http://localhost:4566/a", b"", {})
    key, secret = next(iter(KEYS.items()))
    now = time.time()
    for expires, refused in ((now + 9, False), (now - 9, True)):
        keys = Keyring({}, {key: IssuedKey(secret, "111122223333", expires)}.get)
        with pytest.raises(ApiError, match="is expired") if refused else contextlib.nullcontext():
            verify(request, keys, now)


def test_an_open_address_needs_keys(tmp_path: Path) -> None:
    control = open_control(tmp_path)
    try:
        with pytest.raises(UsageError, match=r"0\.0\.0\.0 can be reached from other machines"):
            make_front(control, Settings(host="0.0.0.0"))
        make_front(control, Settings(host="0.0.0.0", keys=KEYS))
    finally:
        control.close()


def test_a_port_that_is_taken_says_so(url: str) -> None:
    with pytest.raises(UsageError, match="can't listen on"):
        server.bind("127.0.0.1", urlsplit(url).port or 0)


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/2015-03-31/functions/", "GET"),
        ("/2015-03-31/functions/f/invocations", "POST"),
        ("/_lading/clock", "POST"),
        ("/_lading/events", "GET"),
    ],
)
@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/lambda/aws4_request"}]
)
def test_an_open_address_answers_nobody_without_a_right_signature(
    path: str, method: str, headers: dict[str, str]
) -> None:
    with service(host="0.0.0.0", keys=KEYS, walls=None) as address:
        local = address.replace("0.0.0.0", "127.0.0.1")
        status, _, body = ask(local, path, method, b"{}" if method == "POST" else b"", **headers)
        assert status in (401, 403, 404, 405), body
        assert refusal(client(local).list_functions)[:2] == (403, "UnrecognizedClientException")
