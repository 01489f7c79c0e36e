"""Keeps a function's initialised process standing still and copies it into new walls on request: SnapStart's restores.

A child of the template's first process, with privileges in the template's user namespace only. The template ran hostile code:
since it stands still none of that runs, and a copy first runs when it has no privilege any more and its walls are complete.
"""

# ruff: noqa: PTH208 -- pathlib is not worth its import in every environment

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import struct
from collections.abc import Callable
from typing import Any, Protocol

from lading.sandbox.inside import becoming, kernel, root, wire
from lading.sandbox.inside.becoming import NAMESPACES, STREAMS
from lading.sandbox.inside.snapshot import CHANNEL
from lading.sandbox.inside.tracing import READ, Tracee

Client = Callable[[], None]

_WORD = 1 << 64
_PIECE = 1 << 20
_PATIENCE = 5.0


class WallsError(Exception):
    """What the owner asked for can't be done for these walls; the template is none the worse."""


class First(Protocol):
    """The first process of new walls, made with a request and its descriptors."""

    def run(self) -> Client | None: ...


class Keeper:
    """`run` returns only in a fork that becomes something else."""

    def __init__(self, settings: dict[str, Any], descriptors: dict[str, socket.socket], pid: int) -> None:
        """settings: filter and processes (restored ones' limit), uid, switch, memory in bytes. pid: the template's.

        descriptors: channel (the owner's), runtime (the template's), first (the first process's, to wait for).
        """
        self.settings = settings
        self.channel = descriptors["channel"]
        self.runtime = descriptors["runtime"]
        self.first = descriptors["first"]
        self.pid = pid
        self.copies: dict[str, Tracee] = {}
        """Copies that stand still, by the identity of their walls."""
        self.wake, self.signalled = socket.socketpair()
        self.shared: list[tuple[int, int, int]] = []
        """Writable memory that copies would share: start, size, protection."""

    def run(self, make: Callable[[dict[str, Any], dict[str, int]], First]) -> Client | None:
        try:
            self._enter()
            self.template = Tracee.seize(self.pid, (READ, CHANNEL), _PATIENCE)
            self.first.send(b"k")
            if self.first.recv(1) != b"g":
                raise OSError(10, "processes of the template's can't be ended")
            # from here on nobody is left who could write into its memory
            self.template.settle()
            self.memory = self.template.memory()
            self.temporary = os.open("/tmp", os.O_RDONLY | os.O_CLOEXEC)
            becoming.furnish(self.memory, self.template.scratch, bytes.fromhex(self.settings["filter"]))
            self._make_room()
            self._find_shared()
            self.first.close()
        except BaseException as error:
            wire.send(self.channel, {"error": f"{type(error).__name__}: {error}"})
            os._exit(1)
        wire.send(self.channel, {"ready": True})
        while True:
            self._await_message()
            received = wire.receive(self.channel)
            if received is None:
                os._exit(0)  # and the template with us
            message, descriptors = received
            named = dict(zip(message["descriptors"], descriptors))  # noqa: B905 -- its argument is newer than 3.9
            try:
                if message["do"] == "create":
                    made = self._create(message, named, make)
                    if made is not None:
                        return made.run()
                elif message["do"] == "carry":
                    self._carry(message, named)
                elif message["do"] == "copy":
                    self._copy(message, named)
                else:
                    self._release(message)
            except WallsError as error:
                wire.send(self.channel, {"error": str(error)})
            except BaseException as error:
                # what was half done must not reach another copy: there is no template any more
                wire.send(self.channel, {"error": f"{type(error).__name__}: {error}"})
                os._exit(1)
            finally:
                for descriptor in named.values():
                    os.close(descriptor)

    # Beginning

    def _enter(self) -> None:
        """A view of /proc without masks, which a user namespace needs to be allowed another; then the template's users."""
        for end in (self.wake, self.signalled):
            end.settimeout(0)
        signal.set_wakeup_fd(self.signalled.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        users = os.open(f"/proc/{self.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        kernel.setns(users, kernel.CLONE_NEWUSER)
        os.close(users)

    def _make_room(self) -> None:
        """What its copies have counts against the template's own limit of processes as well: that rises as far as it may.

        Each copy gets the one of every function.
        """
        hard = resource.prlimit(self.pid, resource.RLIMIT_NPROC)[1]
        at = self.template.scratch + becoming.LIMIT
        os.pwrite(self.memory, struct.pack("QQ", hard % _WORD, hard % _WORD), at)
        self.template.call("prlimit64", 0, resource.RLIMIT_NPROC, at, 0)
        os.pwrite(self.memory, struct.pack("QQ", *[self.settings["processes"]] * 2), at)

    def _find_shared(self) -> None:
        start = end = protection = 0
        with open(f"/proc/{self.pid}/smaps") as file:
            for line in file:
                words = line.split()
                if not words[0].endswith(":"):
                    start, end = (int(text, 16) for text in words[0].split("-"))
                    protection = sum(bit for bit, letter in ((1, "r"), (2, "w"), (4, "x")) if letter in words[1])
                elif words[0] == "VmFlags:" and "sh" in words and "mw" in words:
                    self.shared.append((start, end - start, protection))
        total = sum(size for _, size, _ in self.shared)
        if total > self.settings["memory"]:
            raise OSError(12, f"{total} bytes of shared memory at the snapshot, more than the function's memory")

    # New walls

    def _create(
        self, message: dict[str, Any], named: dict[str, int], make: Callable[[dict[str, Any], dict[str, int]], First]
    ) -> First | None:
        """In the child, the first process of a new pid namespace, which a new user namespace owns that copies may enter:
        it is their own user who made it.
        """
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._detach()
            try:
                self._unshare(theirs)
                first = os.fork()
                if first:
                    theirs.send(struct.pack("i", first))
                    os._exit(0)
            except BaseException:
                os._exit(1)
            theirs.close()
            own = dict(named)
            named.clear()
            return make(message, own)
        theirs.close()
        try:
            if ours.recv(1) == b"u":
                for name in ("uid_map", "gid_map"):
                    with open(f"/proc/{pid}/{name}", "wb", buffering=0) as file:
                        file.write(message["users"].encode())
                ours.send(b"n")
            answer = ours.recv(4)
        finally:
            ours.close()
            os.waitpid(pid, 0)
        if len(answer) != 4:
            raise OSError(10, "no user namespace below the template's: does this machine allow it?")
        [first] = struct.unpack("i", answer)
        pidfd = os.pidfd_open(first)
        try:
            wire.send(self.channel, {"pid": first}, [pidfd])
        finally:
            os.close(pidfd)
        return None

    def _unshare(self, partner: socket.socket) -> None:
        uid = self.settings["uid"]
        if self.settings["switch"]:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        kernel.unshare(kernel.CLONE_NEWUSER)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        partner.send(b"u")
        if partner.recv(1) != b"n":
            os._exit(1)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        if self.settings["switch"]:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        kernel.unshare(kernel.CLONE_NEWPID)

    def _detach(self) -> None:
        """In a fork: nothing of ours stays open."""
        signal.set_wakeup_fd(-1)
        for end in (self.wake, self.signalled):
            end.close()
        self.channel.close()
        self.runtime.close()
        os.close(self.memory)

    def _carry(self, message: dict[str, Any], named: dict[str, int]) -> None:
        """What was in /tmp at the snapshot is in new walls' too, on the account of those: named: temporary, the doors."""
        if os.listdir(self.temporary):
            pid = os.fork()
            if pid == 0:
                self._detach()
                status = 1
                try:
                    for name in sorted(name for name in named if name.startswith("group:")):
                        os.write(named[name], b"0")
                    root.copy_tree(self.temporary, named["temporary"], message["owner"])
                    status = 0
                finally:
                    os._exit(status)
            if os.waitpid(pid, 0)[1]:
                raise WallsError("/tmp can't be copied: does it fit into the function's memory?")
        wire.send(self.channel, {"carried": True})

    # Copies

    def _copy(self, message: dict[str, Any], named: dict[str, int]) -> None:
        """Copies the template into walls that stand, where the copy stands still as well until it is released.

        named: NAMESPACES, STREAMS and the doors of control groups.
        """
        copy = self.template.fork()
        try:
            memory = copy.memory()
            try:
                doors = sorted(name for name in named if name.startswith("group:"))
                numbers = becoming.hand(
                    self.runtime, copy, memory, [named[name] for name in (*NAMESPACES, *STREAMS, *doors)]
                )
                calls = becoming.calls(numbers[len(NAMESPACES) :], self.template, self.settings)
                copy.plan(calls, memory, becoming.BECOMING)
                joining = [("setns", number, flag) for number, flag in zip(numbers, NAMESPACES.values())]  # noqa: B905
                copy.run(joining, memory, becoming.JOINING)
            finally:
                os.close(memory)
            process = copy.fork()
        finally:
            copy.kill()
        try:
            process.run(calls, -1, becoming.BECOMING)
            becoming.check(process, message["owner"])
            if self.shared:
                self._unshare_memory(process)
            if process.identity:
                # one more, whose parent ends: it becomes a child of the first process in there, who waits for it
                outer, process = process, process.fork(inner=True)
                outer.kill()
        except BaseException:
            process.kill()
            raise
        self.copies[message["identity"]] = process
        wire.send(self.channel, {"copied": True})

    def _release(self, message: dict[str, Any]) -> None:
        """From here on a copy is on its own: its call has returned."""
        process = self.copies.pop(message["identity"], None)
        if process is None:
            raise WallsError("the copy is gone")
        process.release(1 if process.identity else 0)  # 0: it has to fork by itself
        wire.send(self.channel, {"released": True})

    def _await_message(self) -> None:
        """Copies that are killed before they were released end only when we, who trace them, see it."""
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll()]
            if self.wake.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    self.wake.recv(4096)
                self.copies = {identity: copy for identity, copy in self.copies.items() if not copy.ended()}
            if self.channel.fileno() in ready:
                return

    def _unshare_memory(self, process: Tracee) -> None:
        """What the template shared with its children is shared with those to come, not with it and its other copies."""
        memory = process.memory()
        try:
            for start, size, protection in self.shared:
                # shared, anonymous, fixed
                process.call("mmap", start, size, 3, 0x31, -1, 0)
                for at in range(start, start + size, _PIECE):
                    os.pwrite(memory, os.pread(self.memory, min(_PIECE, start + size - at), at), at)
                process.call("mprotect", start, size, protection)
        finally:
            os.close(memory)


def end_others(spared: set[int], seconds: float, now: Callable[[], float]) -> bool:
    """SIGKILL to every process of this pid namespace but some; False when others are still there after so long."""
    deadline = now() + seconds
    while True:
        others = {int(name) for name in os.listdir("/proc") if name.isdigit()} - spared
        if not others:
            return True
        if now() > deadline:
            return False
        for number in (signal.SIGSTOP, signal.SIGKILL):  # what stands still makes no more of its kind
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
