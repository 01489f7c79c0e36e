"""Delivers telemetry to the extensions that subscribed: batches of records, to their port inside the environment.

Never in an invoke's way: sends in a thread, keeps what could not be sent, and drops the oldest beyond a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import socket
import threading
import time
from typing import Any

from lading.runtimeapi.subscription import Subscription
from lading.service.pool.logs import iso

_KEPT = 10_000
_PATIENCE = 1.0
_CLONE_NEWNET = 0x40000000


class Telemetry:
    """Every record of one environment, for all its subscribers. Use from the event loop."""

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []
        self._records: list[dict[str, Any]] = []
        self._early = True

    def begin_init(self) -> None:
        """From here records are kept for those who subscribe during the init phase."""
        self._early = True

    def end_init(self) -> None:
        self._early = False
        self._records.clear()

    def add(self, record: dict[str, Any]) -> None:
        if self._early:
            self._records.append(record)
        for subscriber in self._subscribers:
            subscriber.add(record)

    def subscribe(self, subscription: Subscription, pid: int) -> None:
        """From now on, and what was recorded of this init before. `pid`: a process inside the environment."""
        subscriber = Subscriber(subscription, pid)
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
        for subscriber in self._subscribers:
            subscriber.close()
        self._subscribers = []


class Subscriber:
    """One subscription: buffers and sends. Use from the event loop; `pid` is a process inside the environment."""

    def __init__(self, subscription: Subscription, pid: int) -> None:
        self._subscription = subscription
        self._pid = pid
        self._records: list[dict[str, Any]] = []
        self._size = 0
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Future[bool] | None = None

    def add(self, record: dict[str, Any]) -> None:
        if record["type"].split(".")[0] not in self._subscription.types:
            return
        self._records.append(record)
        self._size += len(str(record["record"]))
        if len(self._records) > _KEPT:
            del self._records[0]
            self._dropped += 1
        full = len(self._records) >= self._subscription.maximum_items or self._size >= self._subscription.maximum_bytes
        if full:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._subscription.timeout, self._flush)

    async def drain(self) -> None:
        """Send what is there, once: before a freeze or at the end."""
        if self._sending is not None:
            await asyncio.wait([self._sending])
        self._flush()
        if self._sending is not None:
            await asyncio.wait([self._sending])

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sending is not None or not self._records:
            return
        batch, self._records, self._size = self._records, [], 0
        if self._dropped:
            record = {"droppedRecords": self._dropped, "reason": "the subscriber did not take them in time"}
            batch.append({"time": iso(time.time()), "type": "platform.logsDropped", "record": record})
            self._dropped = 0
        self._sending = asyncio.get_running_loop().run_in_executor(None, self._send, batch)
        self._sending.add_done_callback(lambda sent: self._sent(batch, sent))

    def _sent(self, batch: list[dict[str, Any]], sent: asyncio.Future[bool]) -> None:
        self._sending = None
        if not sent.cancelled() and not sent.exception() and sent.result():
            return
        self._records = [*batch, *self._records][-_KEPT:]

    def _send(self, batch: list[dict[str, Any]]) -> bool:
        try:
            connection = connect_inside(self._pid, self._subscription.port)
        except OSError:
            return False
        with connection, contextlib.suppress(OSError):
            if self._subscription.protocol == "TCP":
                connection.sendall("".join(json.dumps(record) + "\n" for record in batch).encode())
                return True
            connection.sendall(_post(self._subscription, json.dumps(batch).encode()))
            return connection.recv(64).startswith((b"HTTP/1.1 2", b"HTTP/1.0 2"))
        return False


def _post(subscription: Subscription, body: bytes) -> bytes:
    head = (
        f"POST {subscription.path} HTTP/1.1\r\nHost: sandbox.localdomain:{subscription.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def connect_inside(pid: int, port: int) -> socket.socket:
    """A connection to a port inside a process's network namespace. Raises OSError.

    A socket belongs to the namespace it was made in, whoever uses it: only a short-lived thread enters.
    """
    made: list[socket.socket | OSError] = []

    def enter() -> None:
        try:
            with open(f"/proc/{pid}/ns/net", "rb") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            made.append(socket.create_connection(("127.0.0.1", port), _PATIENCE))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    [result] = made
    if isinstance(result, OSError):
        raise result
    return result
