"""How fast a streamed response may flow: AWS's pace, and a bounded buffer between an environment and its caller."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

BURST = 6 * 1024 * 1024
"""Bytes of a streamed response that flow as fast as they come …"""
RATE = 2 * 1024 * 1024
"""… and those per second after them (Lambda response streaming, "Bandwidth limits"; AWS's emulator refills the first, too)."""
BUFFERED = 1024 * 1024
"""Bytes that wait for a slow caller before the function has to."""


class Pace:
    """A token bucket. Times are given, in seconds."""

    def __init__(self, now: float, rate: float = RATE, burst: float = BURST) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, now

    def take(self, size: int, now: float) -> None:
        """So many bytes came."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - size
        self._at = now

    def wait(self, now: float) -> float:
        """Seconds until more may be read; 0 when there are tokens left."""
        return max(0.0, -self._tokens / self._rate - (now - self._at))


class StreamBuffer:
    """Pieces on their way to one caller. `put` and `hold` are the two ends of a StreamSink; `get` is the caller's."""

    def __init__(self, limit: int = BUFFERED) -> None:
        self._limit = limit
        self._pieces: deque[bytes | None] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._resume: Callable[[], None] | None = None
        self._abandoned = False

    def put(self, piece: bytes | None) -> None:
        """A piece, or None for the end."""
        if self._abandoned:
            return
        self._pieces.append(piece)
        self._size += len(piece or b"")
        self._news.set()

    def hold(self, resume: Callable[[], None]) -> bool:
        """Whether it is full: then `resume` is called when it no longer is."""
        if self._size < self._limit:
            return False
        self._resume = resume
        return True

    async def get(self) -> bytes | None:
        """The next piece; None at the end."""
        while not self._pieces:
            self._news.clear()
            await self._news.wait()
        piece = self._pieces.popleft()
        self._size -= len(piece or b"")
        self._release()
        return piece

    def abandon(self) -> None:
        """The caller left: what still comes is dropped, and the function goes on."""
        self._abandoned = True
        self._pieces.clear()
        self._size = 0
        self._release()

    def _release(self) -> None:
        if self._resume is not None and self._size < self._limit:
            resume, self._resume = self._resume, None
            resume()
