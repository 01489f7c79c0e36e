"""Reads a queue for a function: receives, filters, fills batches, invokes, and deletes what was done. What failed comes back
when its visibility timeout ends, and goes to the dead-letter queue by the queue's own redrive policy.

Source: Lambda Developer Guide, "Using Lambda with Amazon SQS".
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from lading.service.lineage import TRACE, join_traces
from lading.service.sources.mapping import PAYLOAD, Invoke, SourceMapping
from lading.service.sources.response import failed_records
from lading.service.sources.stream_rules import pause_after

CONCURRENCY = 10
"""Batches of a mapping at work at once, where its ScalingConfig doesn't say; AWS goes up to 1,250."""
PATIENCE = 1.0
"""Seconds that one look at an empty queue waits: as long as an end may have to."""
MOST_RECEIVED = 10
"""Messages of one ReceiveMessage."""
log = logging.getLogger("lading.service")
Message = dict[str, Any]
"""As SQS's ReceiveMessage gives it."""


class QueueClient(Protocol):
    """One queue. Raises LadingError or BotoCoreError when it can't be had."""

    async def receive(self, most: int, wait: float) -> list[Message]: ...

    async def delete(self, messages: list[Message]) -> None: ...

    async def release(self, messages: list[Message]) -> None:
        """They can be received again at once."""
        ...


Loops = Callable[[SourceMapping, str], Awaitable[bool]]
"""Whether a message of this trace header came out of too long a chain of the mapping's function."""


class QueuePoller:
    """`run` until `stop`: batches at work are finished then."""

    def __init__(self, mapping: SourceMapping, queue: QueueClient, invoke: Invoke, loops: Loops) -> None:
        self._mapping = mapping
        self._queue = queue
        self._invoke = invoke
        self._loops = loops
        fifo = mapping.source.endswith(".fifo")
        most = mapping.settings.get("ScalingConfig", {}).get("MaximumConcurrency", CONCURRENCY)
        self._room = asyncio.Semaphore(1 if fifo else most)  # order within groups: one batch after the other
        self._fifo = fifo
        self._kept: list[Message] = []
        """Received, and too large for the batch before."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._troubles = 0

    async def begin(self) -> None:
        """A queue keeps what comes before somebody reads."""

    async def run(self) -> None:
        while not self._stopping.is_set():
            await self._room.acquire()
            batch: list[Message] = []
            try:
                batch = await self._gather()
                self._troubles = 0
            except Exception as error:
                self._troubles += 1
                if self._troubles == 1:
                    log.warning("%s can't be read for a function: %s", self._mapping.source, error)
                await self._pause(self._troubles)
            if batch and not self._stopping.is_set():
                task = asyncio.create_task(self._work(batch))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._kept = batch + self._kept
                self._room.release()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._kept:
            await self._queue.release(self._kept)

    def stop(self) -> None:
        self._stopping.set()

    async def _pause(self, troubles: int) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), pause_after(troubles))
        except TimeoutError:
            return

    async def _gather(self) -> list[Message]:
        """The next batch: full, or what has come within the window of its first message; [] when nothing came."""
        mapping, batch = self._mapping, self._kept
        self._kept = []
        first = time.monotonic() if batch else 0.0
        while len(batch) < mapping.batch_size and not self._stopping.is_set():
            wanted = min(MOST_RECEIVED, mapping.batch_size - len(batch))
            left = first + mapping.window - time.monotonic() if batch else PATIENCE
            if left < PATIENCE:
                await asyncio.sleep(max(0.0, left))
            try:
                received = await self._queue.receive(wanted, PATIENCE if left >= PATIENCE else 0.0)
                batch += await self._filtered(received)
            except BaseException:
                self._kept = batch
                raise
            if batch and not first:
                first = time.monotonic()
            if not batch or (len(received) < wanted and time.monotonic() >= first + mapping.window):
                break
        count = _fitting(batch)
        batch, self._kept = batch[:count], batch[count:]
        return batch

    async def _filtered(self, messages: list[Message]) -> list[Message]:
        """What the filters take; the rest is done with."""
        filters = self._mapping.filters
        if not filters or not messages:
            return messages
        structured = filters.wants_structure("body")
        taken: list[Message] = []
        others: list[Message] = []
        for message in messages:
            record = make_record(message, self._mapping)
            if structured:
                record["body"] = _structure(record["body"])
            (taken if filters.take(record) else others).append(message)
        if others:
            await self._queue.delete(others)
        return taken

    async def _work(self, batch: list[Message]) -> None:
        try:
            await self._try(batch)
        except Exception:
            log.exception("a batch of %s could not be worked on; its messages come back", self._mapping.source)
        finally:
            self._room.release()

    async def _try(self, batch: list[Message]) -> None:
        """A message of a loop is not worked on: it comes back, until the queue's redrive policy takes it away."""
        looping = [message for message in batch if await self._loops(self._mapping, _trace(message))]
        if looping:
            log.warning(
                "%s: %d messages go round in a loop of %s",
                self._mapping.source,
                len(looping),
                self._mapping.function.name,
            )
            batch = [message for message in batch if message not in looping]
        if not batch:
            return
        records = [make_record(message, self._mapping) for message in batch]
        event = json.dumps({"Records": records}, separators=(",", ":")).encode()
        result = await self._invoke(self._mapping, event, join_traces(map(_trace, batch)))
        if result.refused:
            await self._pause(1)  # its place stays taken: fewer batches are tried while there is no room
            return
        if result.function_error:
            return
        failed: frozenset[str] = frozenset()
        if self._mapping.partial:
            failed = failed_records(result.payload, [message["MessageId"] for message in batch])
        done = [message for message in batch if message["MessageId"] not in failed]
        if self._fifo and failed:
            done = batch[: next(at for at, message in enumerate(batch) if message["MessageId"] in failed)]
        if done:
            await self._queue.delete(done)


def _trace(message: Message) -> str:
    """Of who sent it; "" where nobody traces."""
    return str(message.get("Attributes", {}).get(TRACE, ""))


def make_record(message: Message, mapping: SourceMapping) -> dict[str, Any]:
    """A message as a function gets it."""
    record = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": mapping.source,
        "awsRegion": mapping.source_scope.region,
    }
    if "MD5OfMessageAttributes" in message:
        record["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    return record


def _attribute(value: dict[str, Any]) -> dict[str, Any]:
    attribute: dict[str, Any] = {}
    if "StringValue" in value:
        attribute["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        attribute["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return attribute | {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}


def _structure(body: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def _fitting(batch: list[Message]) -> int:
    """How many messages from the first on fit into one event; at least one."""
    size = 0
    for count, message in enumerate(batch):
        size += len(json.dumps(message["Body"])) + 2_048
        if size > PAYLOAD and count:
            return count
    return len(batch)
