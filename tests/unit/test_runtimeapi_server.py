"""The HTTP side of the Runtime API: what a connection makes of bytes, however they are cut, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.runtimeapi.calls import ACCEPTED, MAXIMUM_PAYLOAD, Request, Response
from lading.service.pool.server import MAXIMUM_HEAD, Connection, encode


class Recorder:
    """An endpoint that writes down what it is told and answers at once."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def request(self, connection: Connection, request: Request) -> None:
        self.calls.append(request)
        connection.reply(ACCEPTED)

    def stream_started(self, connection: Connection, request: Request) -> None:
        self.calls.append(("started", request.path))

    def stream_data(self, connection: Connection, data: bytes) -> None:
        self.calls.append(data)

    def stream_ended(self, connection: Connection, trailers: Mapping[str, str], *, complete: bool) -> None:
        self.calls.append((dict(trailers), complete))
        connection.reply(ACCEPTED)

    def disconnected(self, connection: Connection) -> None:
        self.calls.append("disconnected")


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


def connect() -> tuple[Connection, Recorder, Wire]:
    endpoint, wire = Recorder(), Wire()
    connection = Connection(endpoint)
    connection.connection_made(wire)
    return connection, endpoint, wire


PLAIN = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Type: a/b\r\n\r\nhello"
CHUNKED = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\n\r\n"
NO_BODY = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
STREAM = (
    b"POST /2018-06-01/runtime/invocation/i/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
    b"Lambda-Runtime-Function-Response-Mode: streaming\r\nTrailer: Lambda-Runtime-Function-Error-Type\r\n\r\n"
    b"3\r\nabc\r\n0\r\nLambda-Runtime-Function-Error-Type: Function.Late\r\n\r\n"
)


@given(st.lists(st.integers(1, 40), max_size=30))
def test_however_the_bytes_are_cut(cuts: list[int]) -> None:
    connection, endpoint, wire = connect()
    data = PLAIN + NO_BODY + CHUNKED
    at = 0
    for size in cuts:
        connection.data_received(data[at : at + size])
        at += size
    connection.data_received(data[at:])
    assert [(call.method, call.path, call.body) for call in endpoint.calls] == [
        ("POST", "/x", b"hello"),
        ("GET", "/next", b""),
        ("POST", "/x", b"hello"),
    ]
    assert endpoint.calls[0].headers["content-type"] == "a/b"
    assert wire.written == encode(ACCEPTED) * 3


def test_a_stream_with_trailers() -> None:
    connection, endpoint, _ = connect()
    connection.data_received(STREAM)
    assert endpoint.calls == [
        ("started", "/2018-06-01/runtime/invocation/i/response"),
        b"abc",
        ({"lambda-runtime-function-error-type": "Function.Late"}, True),
    ]


def test_a_stream_that_breaks_off() -> None:
    connection, endpoint, _ = connect()
    connection.data_received(STREAM[:-60])
    connection.connection_lost(None)
    assert endpoint.calls[-2:] == [({}, False), "disconnected"]


def test_expect_continue() -> None:
    connection, _, wire = connect()
    connection.data_received(b"POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert wire.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.data_received(b"ok")
    assert wire.written.endswith(encode(ACCEPTED))


def test_connection_close_is_honoured() -> None:
    connection, _, wire = connect()
    connection.data_received(b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert wire.closed
    assert b"Connection: close\r\n" in wire.written


def test_of_a_body_too_large_one_byte_too_many_is_kept() -> None:
    connection, endpoint, _ = connect()
    size = MAXIMUM_PAYLOAD + 1_000_000
    connection.data_received(b"POST /x HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size)
    for _ in range(size // 100_000):
        connection.data_received(bytes(100_000))
    connection.data_received(bytes(size % 100_000))
    assert len(endpoint.calls[0].body) == MAXIMUM_PAYLOAD + 1


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET x HTTP/1.1\r\n\r\n",
        b"GET /x HTTP/2\r\n\r\n",
        b"GET /x HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /x HTTP/1.1\r\n folded: 1\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 2000,
        b"GET /x HTTP/1.1\r\nX: " + b"a" * (MAXIMUM_HEAD + 1),
        b"GET /x HTTP/1.1\r\n" + b"X: a\r\n" * 200 + b"\r\n",
    ],
)
def test_what_is_refused(data: bytes) -> None:
    connection, endpoint, wire = connect()
    connection.data_received(data)
    assert wire.written.startswith(b"HTTP/1.1 400 ")
    assert wire.closed
    assert endpoint.calls == []


def test_header_values_cannot_split_the_response() -> None:
    data = encode(Response(200, b"", (("Lambda-Runtime-Client-Context", "a\r\nInjected: 1"),)))
    assert b"\r\nInjected" not in data
