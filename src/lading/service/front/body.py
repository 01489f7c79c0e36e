"""A request's body from the socket, bounded in size and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from lading.service.contract.errors import ApiError
from lading.service.front.turn import Message

Receive = Callable[[], Awaitable[Message]]
PAUSE = 30.0
"""Seconds between two pieces of a body."""
WHOLE = 300.0
"""Seconds for a whole body."""


class DisconnectedError(Exception):
    """The client left before its request was complete."""


async def read_body(receive: Receive, declared: str | None, limit: int, too_large: ApiError) -> bytes:
    """The whole body. Raises `too_large` beyond `limit` bytes, ApiError (408) for a slow client, DisconnectedError."""
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise too_large
    parts: list[bytes] = []
    size = 0
    now = asyncio.get_running_loop().time
    end = now() + WHOLE
    try:
        async with asyncio.timeout(PAUSE) as patience:  # one timer, and no task: nearly every body is there already
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise DisconnectedError
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise too_large
                if not message.get("more_body"):
                    return b"".join(parts)
                patience.reschedule(min(end, now() + PAUSE))
    except TimeoutError:
        raise ApiError("RequestTimeoutException", "The request took too long to arrive.", status=408) from None
