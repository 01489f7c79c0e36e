"""A queue among the neighbours, for its poller. What blocks runs on the threads it is given."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from lading.service.control.names import Scope
from lading.service.neighbours.neighbours import Neighbours
from lading.service.sources.sqs import Message

_BATCH = 10
"""Entries of DeleteMessageBatch and ChangeMessageVisibilityBatch."""
_T = TypeVar("_T")
log = logging.getLogger("lading.service")


class NeighbourQueue:
    """The `QueueClient` over SQS."""

    def __init__(self, neighbours: Neighbours, scope: Scope, name: str, threads: Executor) -> None:
        self._neighbours = neighbours
        self._scope = scope
        self._name = name
        self._threads = threads
        self._url = ""

    async def receive(self, most: int, wait: float) -> list[Message]:
        def ask() -> list[Message]:
            found: list[Message] = self._client().receive_message(
                QueueUrl=self._address(), MaxNumberOfMessages=most, WaitTimeSeconds=int(wait),
                AttributeNames=["All"], MessageAttributeNames=["All"],
            ).get("Messages", [])  # fmt: skip
            return found

        return await self._ask(ask)

    async def delete(self, messages: list[Message]) -> None:
        await self._ask(lambda: self._batches("delete_message_batch", messages, {}))

    async def release(self, messages: list[Message]) -> None:
        await self._ask(lambda: self._batches("change_message_visibility_batch", messages, {"VisibilityTimeout": 0}))

    def _batches(self, operation: str, messages: list[Message], more: dict[str, int]) -> None:
        for start in range(0, len(messages), _BATCH):
            part = messages[start : start + _BATCH]
            entries = [
                {"Id": str(at), "ReceiptHandle": message["ReceiptHandle"], **more} for at, message in enumerate(part)
            ]
            answer = getattr(self._client(), operation)(QueueUrl=self._address(), Entries=entries)
            for failed in answer.get("Failed", []):
                log.warning("%s of %s failed for a message: %s", operation, self._name, failed.get("Message"))

    def _client(self) -> Any:
        return self._neighbours.client("sqs", self._scope)

    def _address(self) -> str:
        if not self._url:
            self._url = self._client().get_queue_url(QueueName=self._name)["QueueUrl"]
        return self._url

    async def _ask(self, question: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, question)
