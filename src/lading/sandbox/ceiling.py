"""Keeps what environments use within their memory, leaving aside what their /tmp holds: on Lambda that is a disk.

/tmp is a tmpfs, which the kernel counts, so its own limit has room for a full one. One thread looks at what runs, the more
often the closer to its limit it could be, and beyond it kills the largest process, as the kernel would.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lading.sandbox.inside import wire

_GROWTH = 4 << 30
"""Bytes a second: how fast a process can fill memory at most; measured 1 to 3 GB/s."""
_SHORTEST, _LONGEST = 0.002, 0.2
"""Seconds between two looks."""


class Watched(Protocol):
    """What is looked at. Sizes in bytes."""

    @property
    def memory_limit(self) -> int: ...

    @property
    def memory_now(self) -> int:
        """In use, /tmp and cached files counted."""

    def memory_own(self) -> int:
        """What of it is neither /tmp's nor a cached file's. Costs more to know."""

    def members(self) -> list[int]:
        """Processes inside, as this machine numbers them."""

    def note_kill(self) -> None:
        """A process was killed for memory."""


@dataclass
class _Turn:
    due: float
    victim: int = -1
    """A pidfd: nothing else is killed until it is gone."""


class Ceiling:
    """Any number of environments, from any thread. What is left or gone is not looked at again."""

    def __init__(self) -> None:
        self._turns: dict[Watched, _Turn] = {}
        self._changed = threading.Condition()
        self._wake = float("inf")
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, one: Watched) -> None:
        """From now on; again is fine."""
        with self._changed:
            if one in self._turns or self._closed:
                return
            self._turns[one] = turn = _Turn(time.monotonic() + pause(one.memory_limit))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lading-ceiling", daemon=True)
                self._thread.start()
            elif turn.due < self._wake:
                self._changed.notify()

    def leave(self, one: Watched) -> None:
        """Nothing of it runs any more, or it stands still."""
        with self._changed:
            turn = self._turns.pop(one, None)
        if turn is not None and turn.victim >= 0:
            os.close(turn.victim)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            watched = list(self._turns)
            self._changed.notify()
        for one in watched:
            self.leave(one)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                self._wake = min((turn.due for turn in self._turns.values()), default=float("inf"))
                left = self._wake - time.monotonic()
                if left > 0:
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                    continue
                now = time.monotonic()
                due = [(one, turn) for one, turn in self._turns.items() if turn.due <= now]
                # under the lock: whoever leaves has not been looked at since, and what it had may be closed
                for one, turn in due:
                    turn.due = now + self._look(one, turn)

    def _look(self, one: Watched, turn: _Turn) -> float:
        """Seconds until the next look."""
        try:
            used, limit = one.memory_now, one.memory_limit
            if used <= limit:
                return pause(limit - used)
            own = one.memory_own()
            if own <= limit:
                return pause(limit - own)
            if turn.victim >= 0:
                if not wire.readable(turn.victim, 0):
                    return _SHORTEST
                os.close(turn.victim)
                turn.victim = -1
            turn.victim = kill_largest(one.members)
            if turn.victim >= 0:
                one.note_kill()
            return _SHORTEST
        except OSError:  # its groups are gone, or going
            return _LONGEST


def pause(left: int) -> float:
    """Seconds in which so many bytes can't be used up."""
    return min(max(left / _GROWTH, _SHORTEST), _LONGEST)


def kill_largest(members: Callable[[], list[int]]) -> int:
    """SIGKILL to the one of these processes that holds most memory of its own; its pidfd, or -1 if there is none."""
    sizes = [(_size(pid), pid) for pid in members()]
    for _, pid in sorted(sizes, reverse=True):
        with contextlib.suppress(ProcessLookupError), contextlib.ExitStack() as stack:
            victim = os.pidfd_open(pid)
            stack.callback(os.close, victim)
            if pid in members():  # else its number was given again before it was opened
                signal.pidfd_send_signal(victim, signal.SIGKILL)
                stack.pop_all()
                return victim
    return -1


def _size(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return 0
    _, found, rest = text.partition(b"RssAnon:")
    return int(rest.split(None, 1)[0]) if found else 0
