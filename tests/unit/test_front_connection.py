"""A connection to the port: requests in, answers out, byte for byte, over a transport that remembers. No sockets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from lading.service.contract.http import CutStreamError, HttpRequest, HttpResponse, Response, StreamedResponse
from lading.service.front import connection
from lading.service.front.app import send_response
from lading.service.front.connection import Connection
from lading.service.front.turn import Turn, read_headers


class Wire(asyncio.Transport):
    """Keeps what was written; is closed as a socket is, with the loop's next turn."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.9", 5)})
        self.written = b""
        self.closed = self.paused = False
        self.protocol: Connection | None = None

    def write(self, data: Any) -> None:
        assert not self.closed, "nothing is written to a closed connection"
        self.written += bytes(data)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            assert self.protocol is not None
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


@dataclass
class Answers:
    """The application: keeps the requests; answers as it is told, else with the body."""

    respond: Callable[[Turn], Awaitable[Response]] | None = None
    heads: list[HttpRequest] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError

    async def exchange(self, turn: Turn) -> None:
        self.heads.append(turn.head)
        response = await self.respond(turn) if self.respond else HttpResponse(200, {"A": "b"}, await whole(turn))
        await send_response(turn, response, "id")


async def whole(turn: Turn) -> bytes:
    body = b""
    while (message := await turn.receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    return body


def configured(answers: Answers) -> uvicorn.Config:
    return uvicorn.Config(answers, interface="asgi3", log_config=None, proxy_headers=False)


def talk(
    answers: Answers, *pieces: bytes, after: Callable[[Connection, Wire], None] | None = None, turns: int = 30
) -> Wire:
    """What a client that sends these pieces, one a turn of the loop, gets."""

    async def run() -> Wire:
        wire, state = Wire(), ServerState()
        wire.protocol = opened = Connection(configured(answers), state, {})
        opened.connection_made(wire)
        for piece in pieces:
            opened.data_received(piece)
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        if after is not None:
            after(opened, wire)
            for _ in range(turns):
                await asyncio.sleep(0)
        if not wire.closed:
            assert not state.tasks, "a turn is left"
            opened.connection_lost(None)
        await asyncio.sleep(0)
        assert not state.connections
        return wire

    return asyncio.run(run())


GET = b"GET /a%20b?x=1&y= HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nx-amzn-requestid: id\r\na: b\r\ncontent-length: %d\r\n\r\n%b"


def test_a_request_and_its_answer() -> None:
    answers = Answers()
    assert talk(answers, GET).written == OK % (0, b"")
    [head] = answers.heads
    assert (head.method, head.path, head.query, head.raw_query) == ("GET", "/a%20b", (("x", "1"), ("y", "")), "x=1&y=")
    assert (dict(head.headers), head.client) == ({"host": "h"}, "127.0.0.9")


def test_in_pieces_of_every_size() -> None:
    post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    for size in (1, 7, 50):
        wire = talk(Answers(), *(post[at : at + size] for at in range(0, len(post), size)))
        assert wire.written == OK % (5, b"hello") and not wire.closed


def test_chunked_bodies() -> None:
    post = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert talk(Answers(), post).written == OK % (5, b"abcde")


def test_what_is_sent_ahead_is_answered_in_order() -> None:
    posts = b"".join(b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n%d" % (n, n) for n in range(9))
    wire = talk(Answers(), posts)
    assert wire.written == b"".join(OK % (1, b"%d" % n) for n in range(9)) and not wire.paused


def test_fields_of_one_name_are_one() -> None:
    answers = Answers()
    talk(answers, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nx: 2\r\nCookie: a=1\r\ncookie: b=2\r\nHost: b\r\n\r\n")
    assert dict(answers.heads[0].headers) == {"host": "a,b", "x": "1,2", "cookie": "a=1; b=2"}


@pytest.mark.parametrize("closing", [b"HTTP/1.0\r\nHost: h\r\n", b"HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"])
def test_a_connection_that_is_not_kept(closing: bytes) -> None:
    wire = talk(Answers(), b"GET / " + closing + b"\r\n" + GET)
    assert wire.closed and wire.written.count(b"HTTP/1.1") == 1 and b"\r\nconnection: close\r\n" in wire.written


def test_another_protocol_is_not_gone_over_to() -> None:
    wire = talk(
        Answers(), b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"\x81\x00"
    )
    assert wire.written.startswith(b"HTTP/1.1 200") and wire.closed


@pytest.mark.parametrize(
    "junk",
    [
        b"\0\1\2", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"GET http:// HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", b"GET / HTTP/1.1\r\nA: b\nContent-Length: 1\r\n\r\n\r\nx\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request(junk: bytes) -> None:
    answers = Answers()
    wire = talk(answers, junk + GET)
    assert wire.written.startswith(b"HTTP/1.1 400 Bad Request\r\n") and wire.closed and not answers.heads
    # after a good one, that one's answer comes, and the end
    wire = talk(answers, GET + junk)
    assert wire.written.startswith(b"HTTP/1.1 200 ") and wire.written.count(b"HTTP/1.1") == 1
    assert len(answers.heads) == 1 and wire.closed


def test_a_body_that_cannot_be_read_on_ends_the_connection_after_the_answers_before_it() -> None:
    broken = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"
    wire = talk(Answers(), broken)
    assert wire.closed and not wire.written
    wire = talk(Answers(), GET + broken)
    assert wire.closed and wire.written.startswith(b"HTTP/1.1 200 ") and wire.written.count(b"HTTP/1.1") == 1

    async def at_once(turn: Turn) -> Response:
        return HttpResponse(413)

    begun, rest = broken[:-6], broken[-6:]
    wire = talk(Answers(at_once), begun, b"", b"", rest)
    assert wire.closed and wire.written.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("filler", [b"GET /%s", b"GET / HTTP/1.1\r\nA: %s", b"GET / HTTP/1.1\r\n%s"])
def test_a_head_has_a_largest_size(filler: bytes) -> None:
    answers = Answers()
    text = b"a: b\r\n" * 20_000 if filler.endswith(b"\n%s") else b"x" * 100_000
    whole = filler.replace(b"%s", text)
    wire = talk(answers, *(whole[at : at + 5_000] for at in range(0, len(whole), 5_000)))
    assert wire.written.startswith(b"HTTP/1.1 431 ") and wire.closed and not answers.heads


@pytest.mark.parametrize("filler", [b"x" * 70_000, b"x\r\nb: x" * 12_000])
def test_a_head_that_comes_in_one_read_has_the_same_largest_size(filler: bytes) -> None:
    answers = Answers()
    wire = talk(answers, b"GET / HTTP/1.1\r\na: " + filler + b"\r\n\r\n")
    assert wire.written.startswith(b"HTTP/1.1 431 ") and wire.closed and not answers.heads


def test_a_head_counts_from_where_it_begins_in_a_read() -> None:
    """Of a read that ends a body the rest is the next head's, and no more."""
    body = b"x" * 200_000
    post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n"
    for cut in (2, 20, len(GET) - 2):
        wire = talk(Answers(), post + body[:50_000], body[50_000:] + GET[:cut], GET[cut:])
        assert wire.written == OK % (200_000, body) + OK % (0, b"")


def test_who_waits_for_a_word_gets_it() -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    wire = talk(Answers(), head, b"", b"", b"ok")
    assert wire.written == b"HTTP/1.1 100 Continue\r\n\r\n" + OK % (2, b"ok")

    async def refuse(turn: Turn) -> Response:
        return HttpResponse(413)

    assert b"100 Continue" not in talk(Answers(refuse), head, turns=5).written


def test_an_answer_before_the_body_lets_the_rest_pass_and_the_next_come() -> None:
    async def refuse(turn: Turn) -> Response:
        return HttpResponse(413 if turn.head.method == "POST" else 200)

    big = b"x" * 200_000
    post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n"
    wire = talk(Answers(refuse), post, big[:100_000], big[100_000:] + GET)
    assert re.findall(rb"HTTP/1.1 (\d+)", wire.written) == [b"413", b"200"] and not wire.paused and not wire.closed


def test_a_body_that_nobody_takes_waits_in_its_socket() -> None:
    go = asyncio.Event()

    async def later(turn: Turn) -> Response:
        await go.wait()
        return HttpResponse(200, {}, b"%d" % len(await whole(turn)))

    def check(_: Connection, wire: Wire) -> None:
        assert wire.paused and not wire.written
        go.set()

    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"
    wire = talk(Answers(later), head, b"x" * 50_000, b"x" * 50_000, after=check)
    assert wire.written.endswith(b"\r\n\r\n100000") and not wire.paused


async def _pieces(*parts: bytes, cut: bool = False) -> Any:
    for part in parts:
        yield part
    if cut:
        raise CutStreamError


def streamed(*parts: bytes, cut: bool = False, **headers: str) -> Callable[[Turn], Awaitable[Response]]:
    async def respond(turn: Turn) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return StreamedResponse(200, named, _pieces(*parts, cut=cut))

    return respond


def test_streams() -> None:
    head = b"HTTP/1.1 200 OK\r\nx-amzn-requestid: id\r\n"
    chunked = talk(Answers(streamed(b"ab", b"", b"c")), GET)
    assert chunked.written == head + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    sized = talk(Answers(streamed(b"ab", b"c", Content_Length="3")), GET)
    assert sized.written == head + b"content-length: 3\r\n\r\nabc" and not sized.closed
    old = talk(Answers(streamed(b"ab", b"c")), b"GET / HTTP/1.0\r\n\r\n")
    assert old.written == head + b"connection: close\r\n\r\nabc" and old.closed
    nothing = talk(Answers(streamed(b"abc", Content_Length="3")), GET.replace(b"GET", b"HEAD"))
    assert nothing.written == head + b"content-length: 3\r\n\r\n" and not nothing.closed


@pytest.mark.parametrize(
    "respond", [streamed(b"ab", cut=True), streamed(b"ab", Content_Length="3"), streamed(b"abcd", Content_Length="3")]
)
def test_a_stream_that_is_not_what_was_announced_is_cut(respond: Callable[[Turn], Awaitable[Response]]) -> None:
    wire = talk(Answers(respond), GET + GET)
    assert wire.closed and wire.written.count(b"HTTP/1.1") == 1 and not wire.written.endswith(b"0\r\n\r\n")


def test_a_stream_ends_with_its_client() -> None:
    ended = []

    async def forever() -> Any:
        try:
            yield b"a"
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def respond(turn: Turn) -> Response:
        return StreamedResponse(200, {}, forever())

    talk(Answers(respond), GET, after=lambda _, wire: wire.close())
    assert ended


@pytest.mark.parametrize(
    "headers", [{"A": "b\r\nSet-Cookie: c"}, {"A": "b\nc"}, {"A\r\nB": "c"}, {"A b": "c"}, {"A": "\0"}, {"": "a"}]
)
def test_a_header_cannot_break_out_of_its_line(headers: dict[str, str]) -> None:
    async def respond(turn: Turn) -> Response:
        return HttpResponse(200, headers)

    wire = talk(Answers(respond), GET)
    assert wire.written.startswith(b"HTTP/1.1 500 ") and b"cookie" not in wire.written.lower()


def test_headers_of_the_connection_are_the_connections() -> None:
    given = [("Connection", "close"), ("Transfer-Encoding", "chunked"), ("Content-Length", "7"), ("A", "\xe9")]
    assert read_headers(given) == (b"a: \xe9\r\n", 7)


def test_bodies_that_there_are_none_of() -> None:
    async def respond(turn: Turn) -> Response:
        return HttpResponse(204 if turn.head.method == "GET" else 200, {"Content-Length": "9"}, b"")

    wire = talk(Answers(respond), GET + GET.replace(b"GET", b"HEAD"))
    none, head = wire.written.split(b"\r\n\r\n")[:2]
    assert b"content-length" not in none and head.endswith(b"content-length: 9")


def test_an_application_that_fails_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def respond(turn: Turn) -> Response:
        raise ZeroDivisionError

    wire = talk(Answers(respond), GET)
    assert wire.closed and not wire.written and "ZeroDivisionError" in caplog.text


def test_asked_to_end_it_answers_what_it_has_and_takes_no_more() -> None:
    assert talk(Answers(), after=lambda opened, _: opened.shutdown()).closed
    go = asyncio.Event()

    async def later(turn: Turn) -> Response:
        await go.wait()
        return HttpResponse(200)

    def end(opened: Connection, _: Wire) -> None:
        opened.shutdown()
        go.set()

    wire = talk(Answers(later), GET, after=end)
    assert wire.closed and wire.written.startswith(b"HTTP/1.1 200") and b"connection: close" in wire.written


@pytest.mark.parametrize(
    ("setting", "sent"),
    [
        ("HEAD_TIME", b""),
        ("HEAD_TIME", b"GET / HTT"),
        ("IDLE_TIME", GET),
        ("HEAD_TIME", GET + b"GET / HTTP/1.1\r\nHost"),
        ("REST_TIME", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx"),
    ],
)
def test_who_is_slow_is_cut(monkeypatch: pytest.MonkeyPatch, setting: str, sent: bytes) -> None:
    monkeypatch.setattr(connection, setting, 0.01)

    async def at_once(turn: Turn) -> Response:
        return HttpResponse(200)

    async def run() -> None:
        wire = Wire()
        wire.protocol = opened = Connection(configured(Answers(at_once)), ServerState(), {})
        opened.connection_made(wire)
        opened.data_received(sent)
        async with asyncio.timeout(20):
            while not wire.closed:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)

    asyncio.run(run())
