"""Telemetry: what each schema's subscribers get of each record, and when batches are sent, kept, tried again and dropped."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from lading.errors import SandboxError
from lading.runtimeapi.records import LOGS_SCHEMAS, TELEMETRY_SCHEMAS, shape
from lading.runtimeapi.subscription import Destination, Subscription
from lading.service.pool.telemetry import BEHIND, Subscriber, Telemetry

OLD, NEW = "2022-07-01", "2022-12-13"
LOGS, LOGS_DONE = LOGS_SCHEMAS
TIME = "2026-11-26T15:00:00.000Z"
JSON_LINE = '{"level":"INFO","message":"hello"}\n'
METRICS = {"durationMs": 1.5, "producedBytes": 4}
TRACING = {"type": "X-Amzn-Trace-Id", "value": "Root=1;Sampled=1"}
NOTHING = object()


def record(kind: str, content: Any) -> dict[str, Any]:
    return {"time": TIME, "type": kind, "record": content}


@pytest.mark.parametrize(
    ("kind", "content", "schemas", "expected"),
    [
        ("function", "hello\n", (*LOGS_SCHEMAS, *TELEMETRY_SCHEMAS), "hello\n"),
        ("function", JSON_LINE, (*LOGS_SCHEMAS, OLD), JSON_LINE),
        ("function", JSON_LINE, (NEW, "2025-01-29"), {"level": "INFO", "message": "hello"}),
        ("function", '{"a": NaN}\n', (NEW,), '{"a": NaN}\n'),
        ("function", "{" * 100_000 + "\n", (NEW,), "{" * 100_000 + "\n"),
        ("function", '{"a":' * 100_000 + "\n", (NEW,), '{"a":' * 100_000 + "\n"),
        ("extension", JSON_LINE, TELEMETRY_SCHEMAS, JSON_LINE),
        (
            "platform.start",
            {"requestId": "i", "version": "1", "tracing": TRACING},
            TELEMETRY_SCHEMAS,
            {"requestId": "i", "version": "1", "tracing": TRACING},
        ),
        (
            "platform.start",
            {"requestId": "i", "version": "1", "tracing": TRACING},
            LOGS_SCHEMAS,
            {"requestId": "i", "version": "1"},
        ),
        (
            "platform.report",
            {"requestId": "i", "metrics": METRICS, "status": "success"},
            LOGS_SCHEMAS,
            {"requestId": "i", "metrics": METRICS},
        ),
        ("platform.runtimeDone", {"requestId": "i", "status": "error", "metrics": METRICS}, (LOGS,), NOTHING),
        (
            "platform.runtimeDone",
            {"requestId": "i", "status": "error", "metrics": METRICS},
            (LOGS_DONE,),
            {"requestId": "i", "status": "failure"},
        ),
        ("platform.runtimeDone", {"requestId": "i", "status": "timeout"}, (LOGS_DONE,), {"requestId": "i", "status": "timeout"}),
        ("platform.end", {"requestId": "i"}, LOGS_SCHEMAS, {"requestId": "i"}),
        ("platform.end", {"requestId": "i"}, TELEMETRY_SCHEMAS, NOTHING),
        ("platform.fault", "RequestId: i Error: gone\n", LOGS_SCHEMAS, "RequestId: i Error: gone\n"),
        ("platform.fault", "RequestId: i Error: gone\n", TELEMETRY_SCHEMAS, NOTHING),
        ("platform.initStart", {"phase": "init"}, LOGS_SCHEMAS, NOTHING),
        ("platform.telemetrySubscription", {"name": "e"}, LOGS_SCHEMAS, NOTHING),
        ("platform.logsSubscription", {"name": "e"}, LOGS_SCHEMAS, {"name": "e"}),
        ("platform.logsSubscription", {"name": "e"}, TELEMETRY_SCHEMAS, NOTHING),
    ],
)  # fmt: skip
def test_what_a_schema_has_of_a_record(kind: str, content: Any, schemas: tuple[str, ...], expected: Any) -> None:
    for schema in schemas:
        shaped = shape(record(kind, content), schema, structured=True)
        assert shaped == (None if expected is NOTHING else record(kind, expected)), schema


def test_in_a_text_log_nothing_is_an_object() -> None:
    assert shape(record("function", JSON_LINE), NEW, structured=False) == record("function", JSON_LINE)


class Listener:
    """A subscriber's port: takes batches as they come, unless it is told not to."""

    def __init__(self, protocol: str = "HTTP", status: bytes = b"200 OK") -> None:
        self.protocol = protocol
        self.status = status
        self.up = True
        self.attempts = 0
        self.heads: list[bytes] = []
        self.batches: list[list[dict[str, Any]]] = []
        self._threads: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()

    def connect(self, port: int) -> socket.socket:
        """Called from a thread, as a sandbox's own is."""
        self.attempts += 1
        assert port == 8080
        if not self.up:
            raise SandboxError("nobody listens there")
        ours, theirs = socket.socketpair()
        self._loop.call_soon_threadsafe(
            lambda: self._threads.append(self._loop.run_in_executor(None, self._take, ours))
        )
        return theirs

    def _take(self, stream: socket.socket) -> None:
        with stream, stream.makefile("rb") as lines:
            if self.protocol == "TCP":
                self.batches.append([json.loads(line) for line in lines])
                return
            head = b"".join(iter(lines.readline, b"\r\n"))
            self.heads.append(head)
            size = next(int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"Content-Length"))
            batch = json.loads(lines.read(size))
            if self.status.startswith(b"2"):
                self.batches.append(batch)
            stream.sendall(b"HTTP/1.1 " + self.status + b"\r\n\r\n")


def subscription(protocol: str = "HTTP", **changes: Any) -> Subscription:
    values: dict[str, Any] = {
        "types": ("platform", "function"),
        "schema": NEW,
        "destination": Destination(protocol, 8080, "/logs?a=1" if protocol == "HTTP" else ""),
        "maximum_items": 1000,
        "maximum_bytes": 262_144,
        "timeout": 30.0,
    }
    return Subscription(**(values | changes))


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not done():
            await asyncio.sleep(0.005)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


@pytest.mark.parametrize(
    ("limit", "count", "size"),
    [({"maximum_items": 10}, 10, 1), ({"maximum_bytes": 1000}, 3, 300), ({"timeout": 0.025}, 2, 1)],
    ids=["items", "bytes", "milliseconds"],
)
def test_a_batch_goes_when_one_of_its_limits_is_reached(limit: dict[str, Any], count: int, size: int) -> None:
    async def work() -> None:
        listener = Listener()
        subscriber = Subscriber(subscription(**limit), listener.connect, structured=False)
        for number in range(count - 1):
            subscriber.add(record("function", f"{number}" * size))
        assert listener.attempts == 0, "not before"
        subscriber.add(record("function", "x" * size))
        await until(lambda: len(listener.batches) == 1)
        assert len(listener.batches[0]) == count
        assert listener.heads[0].startswith(b"POST /logs?a=1 HTTP/1.1\r\nHost: sandbox.localdomain:8080\r\n")

    run(work())


def test_over_tcp_a_record_is_a_line_and_only_wanted_types_are_sent() -> None:
    async def work() -> None:
        listener = Listener("TCP")
        subscriber = Subscriber(subscription("TCP", types=("function",)), listener.connect, structured=False)
        subscriber.add(record("platform.start", {"requestId": "i"}))
        subscriber.add(record("extension", "no\n"))
        subscriber.add(record("function", "one\ntwo\n"))
        await subscriber.drain()
        await until(lambda: len(listener.batches) == 1)
        assert listener.batches == [[record("function", "one\ntwo\n")]]

    run(work())


@pytest.mark.parametrize("trouble", ["nobody listens", "refused"])
def test_what_was_not_taken_is_sent_again_until_it_is(trouble: str) -> None:
    async def work() -> None:
        listener = Listener(status=b"500 No" if trouble == "refused" else b"200 OK")
        listener.up = trouble == "refused"
        subscriber = Subscriber(subscription(timeout=0.025), listener.connect, structured=False)
        subscriber.add(record("function", "kept\n"))
        await until(lambda: listener.attempts >= 3)
        assert listener.batches == []
        listener.up, listener.status = True, b"200 OK"
        await until(lambda: listener.batches == [[record("function", "kept\n")]])

    run(work())


def test_before_a_freeze_it_is_tried_once_and_afterwards_with_the_next_record() -> None:
    async def work() -> None:
        listener = Listener()
        listener.up = False
        subscriber = Subscriber(subscription(timeout=0.025), listener.connect, structured=False)
        subscriber.add(record("function", "1\n"))
        await subscriber.drain()
        tried = listener.attempts
        await asyncio.sleep(0.2)
        assert listener.attempts == tried, "nothing moves in there"
        listener.up = True
        subscriber.add(record("function", "2\n"))
        await until(lambda: [one["record"] for batch in listener.batches for one in batch] == ["1\n", "2\n"])

    run(work())


def test_a_subscriber_that_fell_behind_is_told_how_much_it_missed() -> None:
    async def work() -> None:
        listener = Listener()
        listener.up = False
        subscriber = Subscriber(subscription(maximum_bytes=10_000), listener.connect, structured=False)
        for number in range(40):
            subscriber.add(record("function", f"{number:02}" + "x" * 998))
        assert subscriber._size <= 2 * 10_000
        await until(lambda: listener.attempts > 0)
        listener.up = True
        await subscriber.drain()
        await until(lambda: sum(map(len, listener.batches)) > 0)
        sent = [one for batch in listener.batches for one in batch]
        [dropped] = [one["record"] for one in sent if one["type"] == "platform.logsDropped"]
        kept = [one["record"][:2] for one in sent if one["type"] == "function"]
        assert kept == [f"{number:02}" for number in range(40 - len(kept), 40)], "the newest"
        assert dropped["droppedRecords"] == 40 - len(kept)
        assert dropped["droppedBytes"] > 1000 * (40 - len(kept))
        assert dropped["reason"] == BEHIND

    run(work())


def test_who_subscribes_during_init_gets_what_was_before_and_later_nobody_is_waited_for() -> None:
    async def work() -> None:
        telemetry = Telemetry(structured=False)
        telemetry.begin_init()
        telemetry.add(record("platform.initStart", {"phase": "init"}))
        telemetry.add(record("function", "x" * (2 << 20)))
        listener = Listener()
        telemetry.subscribe(subscription(), listener.connect)
        telemetry.end_init()
        assert telemetry.wanted
        await telemetry.end()
        await until(lambda: len(listener.batches) == 1)
        assert listener.batches == [[record("platform.initStart", {"phase": "init"})]], (
            "bounded: no more than a megabyte"
        )
        assert not telemetry.wanted

    run(work())
