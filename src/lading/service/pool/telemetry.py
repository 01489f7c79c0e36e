"""Delivers telemetry to the extensions that subscribed: batches of records, to their port inside the environment.

Never in an invoke's way: sends in a thread, keeps what could not be sent, and drops the oldest beyond a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from lading.errors import SandboxError
from lading.runtimeapi.records import shape
from lading.runtimeapi.subscription import Destination, Subscription
from lading.service.moment import iso

EARLY = 10_000
"""Records that are kept for those who subscribe during the init phase …"""
EARLY_BYTES = 1024 * 1024
"""… and characters that functions and extensions may have written into them."""
PATIENCE = 1.0
"""Seconds that a subscriber has to take a batch."""
FIRST_RETRY, SLOWEST_RETRY = 0.05, 1.0
"""Seconds until a batch that was not taken is sent again: doubled with every attempt."""
BEHIND = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs."

Connect = Callable[[int], socket.socket]
"""A connection to a port inside the environment. Raises SandboxError."""


class Telemetry:
    """Every record of one environment, for all its subscribers. Use from the event loop."""

    def __init__(self, *, structured: bool) -> None:
        """structured: the function's log format is JSON."""
        self._structured = structured
        self._subscribers: list[Subscriber] = []
        self._records: deque[dict[str, Any]] = deque(maxlen=EARLY)
        self._size = 0
        self._early = True

    @property
    def wanted(self) -> bool:
        """Whether records go anywhere, or may yet."""
        return self._early or bool(self._subscribers)

    def begin_init(self) -> None:
        """From here records are kept for those who subscribe during the init phase."""
        self._early = True

    def end_init(self) -> None:
        self._early = False
        self._records.clear()
        self._size = 0

    def add(self, record: dict[str, Any]) -> None:
        if self._early:
            self._size += len(record["record"]) if isinstance(record["record"], str) else 0
            if self._size <= EARLY_BYTES:
                self._records.append(record)
        for subscriber in self._subscribers:
            subscriber.add(record)

    def subscribe(self, subscription: Subscription, connect: Connect) -> None:
        """From now on, and what was recorded of this init before."""
        subscriber = Subscriber(subscription, connect, structured=self._structured)
        for record in self._records:
            subscriber.add(record)
        self._subscribers.append(subscriber)

    async def drain(self) -> None:
        """Send what is there, once: before a freeze."""
        for subscriber in self._subscribers:
            await subscriber.drain()

    async def end(self) -> None:
        """Send what is there and forget the subscribers: they are about to end."""
        await self.drain()
        self._subscribers = []


class Subscriber:
    """One subscription: buffers and sends. Use from the event loop."""

    def __init__(self, subscription: Subscription, connect: Connect, *, structured: bool) -> None:
        self._subscription = subscription
        self._connect = connect
        self._structured = structured
        self._records: deque[bytes] = deque()
        self._size = 0
        self._dropped_records = self._dropped_bytes = self._failures = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Future[bool] | None = None

    def add(self, record: dict[str, Any]) -> None:
        wanted = self._subscription
        if record["type"].partition(".")[0] not in wanted.types:
            return
        shaped = shape(record, wanted.schema, structured=self._structured)
        if shaped is None:
            return
        self._records.append(_encode(shaped))
        self._size += len(self._records[-1])
        self._make_room()
        full = len(self._records) >= wanted.maximum_items or self._size >= wanted.maximum_bytes
        if full and not self._failures:
            self._flush()
        elif self._timer is None:
            self._expect(wanted.timeout)

    async def drain(self) -> None:
        """Send what is there, once: before a freeze or at the end. Nothing is sent by itself until more is there."""
        if self._sending is not None:
            await asyncio.wait([self._sending])
        self._flush()
        if self._sending is not None:
            await asyncio.wait([self._sending])
        self._forget_timer()

    def _make_room(self) -> None:
        """A batch is as large as asked for; twice that may wait while one is not taken."""
        while len(self._records) > 2 * self._subscription.maximum_items or (
            self._size > 2 * self._subscription.maximum_bytes and len(self._records) > 1
        ):
            lost = len(self._records.popleft())
            self._size -= lost
            self._dropped_records += 1
            self._dropped_bytes += lost

    def _expect(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._flush)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        self._forget_timer()
        if self._sending is not None or not self._records:
            return
        batch = [*self._records, *self._confess()]
        self._records.clear()
        self._size = 0
        self._sending = asyncio.get_running_loop().run_in_executor(None, self._send, batch)
        self._sending.add_done_callback(lambda sent: self._sent(batch, sent))

    def _confess(self) -> list[bytes]:
        """The record of what was dropped."""
        if not self._dropped_records:
            return []
        record = {"droppedBytes": self._dropped_bytes, "droppedRecords": self._dropped_records, "reason": BEHIND}
        self._dropped_records = self._dropped_bytes = 0
        return [_encode({"time": iso(time.time()), "type": "platform.logsDropped", "record": record})]

    def _sent(self, batch: list[bytes], sent: asyncio.Future[bool]) -> None:
        self._sending = None
        if not sent.cancelled() and not sent.exception() and sent.result():
            self._failures = 0
            return
        self._records.extendleft(reversed(batch))
        self._size += sum(map(len, batch))
        self._make_room()
        self._forget_timer()
        self._expect(min(SLOWEST_RETRY, FIRST_RETRY * 2.0 ** min(self._failures, 16)))
        self._failures += 1

    def _send(self, batch: list[bytes]) -> bool:
        try:
            connection = self._connect(self._subscription.destination.port)
        except SandboxError:
            return False
        with connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE)
            if self._subscription.destination.protocol == "TCP":
                connection.sendall(b"".join(record + b"\n" for record in batch))
                return True
            connection.sendall(_request(self._subscription.destination, b"[" + b",".join(batch) + b"]"))
            return connection.recv(64).startswith((b"HTTP/1.1 2", b"HTTP/1.0 2"))
        return False


def _encode(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def _request(to: Destination, body: bytes) -> bytes:
    head = (
        f"{to.method} {to.path} HTTP/1.1\r\nHost: sandbox.localdomain:{to.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
