"""A function's process at its snapshot: it leaves its threads behind and waits to be copied; then what a copy does first.

Runs in the function's own interpreter and imports nothing of ours: on the exec path it is a file in /var/runtime.
Nothing that it says is trusted by whoever makes the copies.
"""

# ruff: noqa: PTH109, PTH110, PTH115, PTH208 -- pathlib is not worth its import in every function

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import select
import signal
import socket
import stat
import sys
import threading
from typing import Any

CHANNEL = 3
"""The descriptor whose other end the first process of the environment holds: our pid goes with every message."""
HELLO = b"h"
_HIGH = 900
_KEPT_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | getattr(os, "O_DIRECT", 0)


def install() -> None:
    """AWS's client asks for /restore/next once: the answer takes the snapshot, and every copy asks again."""
    from awslambdaric import lambda_runtime_client  # type: ignore[import-not-found]

    client = lambda_runtime_client.BaseLambdaRuntimeClient
    ask = client.restore_next

    def restore_next(self: Any) -> None:
        ask(self)
        become_template()
        ask(self)

    client.restore_next = restore_next


def become_template() -> None:
    """Returns once in every copy, never in this process."""
    threads = [one.name for one in threading.enumerate() if one is not threading.main_thread()]
    children = _children()
    _fork_without_threads(threads, children)
    _seed()  # OpenSSL's generators are made now, once
    gc.collect()
    gc.freeze()
    kept, folder = _look(), _folder()
    import ctypes  # not in a copy, where it would take time

    os.write(CHANNEL, HELLO)
    forked = os.read(CHANNEL, 1)
    # from here on we are a copy, in another environment
    if forked:
        ctypes.pythonapi.PyOS_BeforeFork()  # what os.fork() does around a fork, which was made for us
        ctypes.pythonapi.PyOS_AfterFork_Child()
    elif os.fork():  # threads must not think that they are the template's: a fork of our own sets that right
        os._exit(0)
    with contextlib.suppress(OSError):
        os.chdir(folder)  # joining another view of files leads to its root
    for one in kept:
        one.renew()
    os.write(CHANNEL, HELLO)
    os.close(CHANNEL)
    _seed()


class Kept:
    """A descriptor that was open at the snapshot. A copy never shares one: it gets its like, or a dead one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.inheritable = os.get_inheritable(number)
        self.flags = fcntl.fcntl(number, fcntl.F_GETFL)
        self.status = os.fstat(number)
        self.target = os.readlink(f"/proc/self/fd/{number}")
        self.other: Kept | None = None
        """Of a pipe within this process: the end that is written to."""
        self.offset = 0
        self.watched: list[tuple[int, int]] = []
        if stat.S_ISREG(self.status.st_mode):
            self.offset = os.lseek(number, 0, os.SEEK_CUR)
        elif self.target == "anon_inode:[eventpoll]":
            self.watched = _watched(number)

    def warning(self) -> str:
        """What its user should know; empty for what works on in a copy."""
        what = f"descriptor {self.number} ({self.target})"
        if stat.S_ISSOCK(self.status.st_mode):
            peer = _peer(self.number)
            return f"{what}, a connection to {peer}," if peer else f"{what}, a socket,"
        if stat.S_ISREG(self.status.st_mode):
            return what if not os.path.exists(self.target) else ""
        known = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]", "pipe:", "/")
        return "" if self.target.startswith(known) else what

    def renew(self) -> None:
        """Something at the same number that nobody else holds."""
        try:
            fresh = self._fresh()
        except OSError:
            fresh = os.open("/dev/null", os.O_RDWR)
        self._place(fresh)

    def _place(self, fresh: int) -> None:
        if fresh != self.number:
            os.dup2(fresh, self.number)
            os.close(fresh)
        os.set_inheritable(self.number, self.inheritable)

    def _fresh(self) -> int:
        mode = self.status.st_mode
        if stat.S_ISSOCK(mode):
            ours, theirs = socket.socketpair()
            theirs.close()
            if self.flags & os.O_NONBLOCK:
                ours.settimeout(0)
            return ours.detach()
        if stat.S_ISFIFO(mode) and self.other is not None:
            reading, writing = map(_away, os.pipe2(os.O_CLOEXEC | self.flags & os.O_NONBLOCK))
            self.other._place(writing)
            return reading
        if self.target == "anon_inode:[eventfd]" and hasattr(os, "eventfd"):
            return os.eventfd(0, os.EFD_CLOEXEC | self.flags & os.O_NONBLOCK)
        if self.target == "anon_inode:[eventpoll]":
            return self._poll()
        fresh = os.open(self.target, self.flags & _KEPT_FLAGS | os.O_CLOEXEC)
        if stat.S_ISREG(mode):
            os.lseek(fresh, self.offset, os.SEEK_SET)
        return fresh

    def _poll(self) -> int:
        fresh = select.epoll()
        for number, events in self.watched:
            with contextlib.suppress(OSError):
                fresh.register(number, events)
        copied = os.dup(fresh.fileno())
        fresh.close()
        return copied


def _fork_without_threads(threads: list[str], children: list[str]) -> None:
    """Returns in a child. Its parent says what is left behind, and waits for its end."""
    sys.stdout.flush()
    sys.stderr.flush()
    said, saying = os.pipe()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(saying)
        os.read(said, 1)
        os.close(said)
        return
    os.close(said)
    # libraries that know of forks have ended their threads by now and begin again in a copy; others' are lost
    native = len(os.listdir("/proc/self/task")) - 1 - len(threads)
    lost = [f"thread {name!r}" for name in threads]
    lost += [f"{native} thread(s) of native code"] if native > 0 else []
    lost += [f"child process {name}" for name in children]
    for what in lost:
        _warn(f"{what} runs at the snapshot and will not run in restored environments")
    for one in _look():
        if what := one.warning():
            _warn(f"{what} is open at the snapshot and dead in restored environments: open it again after the restore")
    os.close(saying)
    while True:
        signal.pause()


def _look() -> list[Kept]:
    """What is open, beyond the standard streams and our channel. Later ones may watch earlier ones: polls come last."""
    numbers = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    kept = []
    for number in numbers:
        if number > CHANNEL:
            with contextlib.suppress(OSError):  # the folder that was just listed, for one
                kept.append(Kept(number))
    writers = {one.target: one for one in kept if one.target.startswith("pipe:") and one.flags & os.O_ACCMODE}
    for one in kept:
        if one.target in writers and not one.flags & os.O_ACCMODE:
            one.other = writers[one.target]
    renewed = {one.other.number for one in kept if one.other}
    kept = [one for one in kept if one.number not in renewed]
    return sorted(kept, key=lambda one: one.target == "anon_inode:[eventpoll]")


def _away(descriptor: int) -> int:
    """The same at a number that none of two ends goes to."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    os.close(descriptor)
    return moved


def _watched(number: int) -> list[tuple[int, int]]:
    found = []
    with open(f"/proc/self/fdinfo/{number}") as file:
        for line in file:
            words = line.split()
            if words and words[0] == "tfd:":
                found.append((int(words[1]), int(words[3], 16)))
    return found


def _peer(number: int) -> str:
    with contextlib.suppress(OSError):
        copied = socket.socket(fileno=os.dup(number))
        with copied:
            address = copied.getpeername()
            return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)
    return ""


def _children() -> list[str]:
    names = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/children") as file:
            for pid in file.read().split():
                with open(f"/proc/{pid}/comm") as comm:
                    names.append(f"{pid} ({comm.read().strip()})")
    return names


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # removed
        return "/"


def _seed() -> None:
    """`random` begins anew at each fork; OpenSSL looks at the pid, which may be the same, so it is given something new."""
    ssl = sys.modules.get("_ssl")
    if ssl is not None:
        with contextlib.suppress(Exception):
            ssl.RAND_add(os.urandom(48), 48.0)


def _warn(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"lading: warning: {text}\n".encode())
