"""A transport that lets a response's head wait for its body: what is written in one go reaches the socket in one write."""

from __future__ import annotations

import asyncio
from typing import Any

LONG = 16_384
"""Bytes from which a second write costs less than a copy."""


class OneWrite:
    """In place of the transport itself, for a protocol that writes a head and then at once its body.

    What nothing follows goes out with the loop's next turn.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None

    def write(self, data: bytes) -> None:
        """The first of two waits, the second takes it along; what is long goes by itself."""
        if self._held is None and len(data) < LONG:
            self._held = data
            self._loop.call_soon(self._flush)
        elif self._held is not None and len(data) < LONG:
            held, self._held = self._held, None
            self._transport.write(held + data)
        else:
            self._flush()
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._transport.write(held)
