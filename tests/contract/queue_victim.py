"""A process that accepts and works on events until it is killed: `queue_victim.py FILE JOURNAL COUNT FIRST`.

Prints each id once it is accepted. Its function writes "tried ID" to the journal, its destination "sent ID".
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from lading.service.clock import Clock
from lading.service.control.names import Scope
from lading.service.queue.dispatch import Plan, Queue
from lading.service.queue.event import Delivery, QueuedEvent, Result
from lading.service.queue.store import DurableQueue

CONFIG = {"DestinationConfig": {"OnSuccess": {"Destination": "arn:aws:sqs:r:a:q"}}}


class Written:
    """Functions and destinations that write down what they are asked."""

    def __init__(self, journal: Path) -> None:
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def plan(self, event: QueuedEvent) -> Plan:
        return Plan(CONFIG)

    async def attempt(self, event: QueuedEvent) -> Result:
        os.write(self._journal, f"tried {event.id}\n".encode())
        await asyncio.sleep(0.001)
        return Result(b"null")

    async def send(self, event: QueuedEvent, delivery: Delivery) -> None:
        os.write(self._journal, f"sent {event.id}\n".encode())


async def work(file: Path, journal: Path, count: int, first: int) -> None:
    written = Written(journal)
    queue = Queue(DurableQueue(file), written, written.send, Clock())
    await queue.start()
    now = Clock().now()
    for number in range(first, first + count):
        event = QueuedEvent(f"id-{number}", Scope("0" * 12, "eu-west-1"), f"f{number % 3}", None, b"{}", now, now)
        await queue.accept(event)
        os.write(1, f"{event.id}\n".encode())
    while await queue.count():
        await asyncio.sleep(0.005)
    await queue.close()


asyncio.run(work(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
