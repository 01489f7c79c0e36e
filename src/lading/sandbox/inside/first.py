"""Process 1 of an environment: builds its walls, starts what runs inside, reports what ends, and takes all with it.

It keeps the client imported (on the fork path) and no open files but its channel: a reset is one more fork.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from lading.sandbox.inside import becoming, keeper, kernel, process, root, wire

Client = Callable[[], None]
_PATIENCE = 10.0


class First:
    """The first process, from its fork to the end of the environment."""

    def __init__(self, request: dict[str, Any], descriptors: dict[str, int]) -> None:
        self.channel = socket.socket(fileno=descriptors.pop("channel"))
        self.output = [descriptors.pop("stdout"), descriptors.pop("stderr")]
        self.thaw = descriptors.pop("thaw", None)
        self.groups = [descriptors.pop(name) for name in sorted(descriptors) if name.startswith("group:")]
        self.trees = descriptors
        self.request = request
        self.names: dict[int, str] = {}
        self.partners: dict[int, socket.socket] = {}
        """What a started process says when its program can't be started; closed when it can."""
        self.ready: tuple[int, socket.socket] | None = None
        self.runtime: socket.socket | None = None
        """The channel of a runtime process that is kept as a template, or of one that comes from a template."""
        self.keeps = False
        """Whether a template was made here: what is restored from it lives below us."""
        self.strangers: dict[int, int] = {}
        """Processes whose end was seen before they said what they are, with their status."""
        self.wake, self.signalled = socket.socketpair()

    def run(self) -> Client | None:
        """Returns only in a fork that becomes the client; the first process itself never returns."""
        try:
            listeners = self._build()
        except BaseException as error:
            wire.send(self.channel, {"error": f"{type(error).__name__}: {error}"})
            os._exit(1)
        given = [*(listener.fileno() for listener in listeners), *self._given()]
        wire.send(self.channel, {"ready": True}, given)
        for listener in listeners:
            listener.close()
        for descriptor in given[len(listeners) :]:
            os.close(descriptor)
        try:
            return self._serve()
        except OSError:
            self._end()  # the channel broke: the owner is gone
            raise

    def _build(self) -> list[socket.socket]:
        root.Builder(self.trees).run(self.request["operations"])
        listeners = []
        for host, port in self.request["listen"]:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(64)
            listeners.append(listener)
        if self.request["restored"]:
            self._enter_groups()
        return listeners

    def _enter_groups(self) -> None:
        """A view of control groups as a process of this environment has it; we stay outside of them."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            try:
                for group in self.groups:
                    os.write(group, b"0")
                kernel.unshare(kernel.CLONE_NEWCGROUP)
                wire.send(theirs, {}, [os.open("/proc/self/ns/cgroup", os.O_RDONLY)])
            finally:
                os._exit(0)
        theirs.close()
        with ours:
            received = wire.receive(ours)
        os.waitpid(pid, 0)
        if received is None:
            raise OSError(1, "no view of control groups")
        [namespace] = received[1]
        kernel.setns(namespace, kernel.CLONE_NEWCGROUP)
        os.close(namespace)

    def _given(self) -> list[int]:
        """What the owner needs to have a template's copy join us: our namespaces, its streams, our /tmp."""
        if not self.request["restored"]:
            return []
        names = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in becoming.NAMESPACES]
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        temporary = os.open("/tmp", os.O_RDONLY | os.O_CLOEXEC)
        return [*names, null, *(os.dup(descriptor) for descriptor in self.output), temporary]

    def _serve(self) -> Client | None:
        for end in (self.wake, self.signalled):
            end.settimeout(0)
        signal.set_wakeup_fd(self.signalled.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.poll = poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        if self.request["prepare"]:
            client = self._prepare()
            if client:
                return client
        for start in self.request["start"]:
            client = self._start(start)
            if client:
                return client
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self.wake.fileno():
                    self._reap()
                    continue
                if self.runtime is not None and descriptor == self.runtime.fileno():
                    self._introduce(self.runtime)
                    continue
                received = wire.receive(self.channel)
                if received is None:
                    self._end()
                    return None
                client = self._obey(*received)
                if client:
                    return client

    def _obey(self, message: dict[str, Any], descriptors: list[int]) -> Client | None:
        action = message["do"]
        if action == "start":
            return self._start(message, descriptors)
        if action == "dress":
            return self._dress(message, descriptors)
        if action == "keep":
            return self._keep(message, descriptors[0])
        if action == "adopt":
            self.runtime = socket.socket(fileno=descriptors[0])
            self.poll.register(self.runtime, select.POLLIN)
        elif action == "connect":
            self._connect(message["port"], descriptors[0])
        elif action == "reset":
            self._reset()
        else:
            self._signal(message)
        return None

    def _dress(self, message: dict[str, Any], descriptors: list[int]) -> Client | None:
        self.trees = dict(zip(message["descriptors"], descriptors))  # noqa: B905 -- its argument is newer than 3.9
        try:
            root.Builder(self.trees).run(message["operations"])
        except OSError as error:
            wire.send(self.channel, {"error": str(error)})
            return None
        if self.request["restored"]:
            wire.send(self.channel, {"dressed": True})
        return self._start(message["start"][0]) if message["start"] else None

    def _signal(self, message: dict[str, Any]) -> None:
        if message["do"] == "signal all":
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, message["signal"])
            return
        for pid, name in self.names.items():
            if name == message["name"]:
                os.kill(pid, message["signal"])

    def _connect(self, port: int, answer_number: int) -> None:
        """The owner is in another network: it gets a connection to a port of this one's loopback."""
        with socket.socket(fileno=answer_number) as answer, socket.socket() as connection:
            connection.settimeout(1)
            try:
                connection.connect(("127.0.0.1", port))
            except OSError as error:
                wire.send(answer, {"error": str(error)})
            else:
                wire.send(answer, {"connected": True}, [connection.fileno()])

    def _reset(self) -> None:
        self.names.clear()
        self._kill_others()
        while self.partners:
            self.partners.popitem()[1].close()
        if self.ready:
            self.ready[1].close()
            self.ready = None
        wire.send(self.channel, {"reset": True})

    def _keep(self, message: dict[str, Any], channel: int) -> Client | None:
        """Whoever speaks on the runtime's channel becomes the template; everything else in here ends."""
        assert self.runtime is not None, "these walls are not for a template"
        pid = wire.sender_of(self.runtime) if wire.readable(self.runtime.fileno(), _PATIENCE) else 0
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            ours.close()
            self._detach()
            sockets = {"channel": socket.socket(fileno=channel), "runtime": self.runtime, "first": theirs}
            return keeper.Keeper(message, sockets, pid).run(type(self))
        theirs.close()
        os.close(channel)
        self.keeps = True
        pidfd = os.pidfd_open(child)
        with ours:
            self.names.clear()
            kept = wire.readable(ours.fileno(), _PATIENCE) and ours.recv(1) == b"k"
            if kept and keeper.end_others({os.getpid(), child, pid}, _PATIENCE, time.monotonic):
                ours.send(b"g")
        wire.send(self.channel, {"kept": True}, [pidfd])
        os.close(pidfd)
        return None

    def _detach(self) -> None:
        """In the fork that keeps the template: what only the first process needs."""
        for end in (self.channel, self.wake, self.signalled):
            end.close()
        for descriptor in (*self.output, *self.groups, *([] if self.thaw is None else [self.thaw])):
            os.close(descriptor)
        self.poll = select.poll()

    def _introduce(self, runtime: socket.socket) -> None:
        """A restored process tells by itself that it is the runtime; the kernel says which one it is."""
        pid = wire.sender_of(runtime)
        self.poll.unregister(runtime)
        runtime.close()
        self.runtime = None
        if pid in self.strangers:
            self._tell_end("runtime", self.strangers[pid])
        elif pid:
            self.names[pid] = "runtime"
        else:
            wire.send(self.channel, {"ended": "runtime", "code": 1, "signal": None, "refused": ""})
        self.strangers.clear()

    def _prepare(self) -> Client | None:
        """Forks the runtime process ahead: it gives up its privileges, then waits to hear what it is to run."""
        return self._start({"name": "", "command": [], "wait": True, "pages": self.request["pages"]})

    def _hand_over(self, start: dict[str, Any]) -> bool:
        """Lets the process that was forked ahead be the one to start."""
        if self.ready is None or start["command"]:
            return False
        (pid, partner), self.ready = self.ready, None
        try:
            partner.sendall(json.dumps(start).encode())
            partner.shutdown(socket.SHUT_WR)
        except OSError:
            partner.close()
            return False
        self.names[pid], self.partners[pid] = start["name"], partner
        return True

    def _start(self, start: dict[str, Any], output: Sequence[int] = ()) -> Client | None:
        """`output`: where it writes, standard error too, if not where all others do."""
        if self._hand_over(start):
            return None
        waits = "wait" in start
        partner, own = socket.socketpair()
        if self._speaks(start):
            partner.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        pid = kernel.fork() if self.request["plain"] or start["command"] else os.fork()
        if pid:
            own.close()
            for descriptor in output:
                os.close(descriptor)
            process.adopt(pid, self.request["walls"], partner)
            if waits:
                self.ready = pid, partner
            else:
                self.names[pid], self.partners[pid] = start["name"], partner
                if self._speaks(start):
                    self.runtime = self.partners.pop(pid)
            return None
        partner.close()
        return self._become(start, output, own)

    def _become(self, start: dict[str, Any], output: Sequence[int], own: socket.socket) -> Client | None:
        """In a fresh fork: it loses what it may not have, then is what it was started to be."""
        try:
            for end in (self.channel, self.wake, self.signalled):
                end.detach()  # closed below by number: the objects must not close another's later
            for other in [*self.partners.values(), *([self.ready[1]] if self.ready else [])]:
                other.detach()
            # out of the way of the numbers that they become
            streams = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in output] * 2
            process.enter(self.request["walls"], self.groups, streams or self.output, own)
            if "wait" in start:
                process.rehearse(start["pages"])
                start = process.await_start(process.KEPT)
            process.change_folder(start.get("folder") or self.request["walls"]["folder"])
            if start["command"]:
                process.execute(start["command"], start["environment"], keep=self._speaks(start))
            if not self._speaks(start):
                os.close(process.KEPT)
            return process.client(start["handler"], start["environment"], start["path"])
        except BaseException as error:
            os.write(2, f"lading: {start['name']} could not start: {type(error).__name__}: {error}\n".encode())
            os._exit(125)

    def _speaks(self, start: dict[str, Any]) -> bool:
        """Whether the process keeps its channel to us: to become a template."""
        return bool(self.request["template"]) and start["name"] == "runtime"

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.wake.recv(4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            name, partner = self.names.pop(pid, None), self.partners.pop(pid, None)
            if name is not None:
                self._tell_end(name, status, "" if partner is None else process.read_refusal(partner))
            elif self.request["restored"]:
                self.strangers[pid] = status

    def _tell_end(self, name: str, status: int, refused: str = "") -> None:
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        wire.send(self.channel, {"ended": name, "code": code, "signal": number, "refused": refused})

    def _kill_others(self) -> None:
        """SIGKILL to every process of this namespace but this one, and waits until they are gone."""
        while True:
            try:
                os.kill(-1, signal.SIGKILL)
                os.waitpid(-1, 0)
            except (ProcessLookupError, ChildProcessError):
                return

    def _end(self) -> None:
        """Ends the environment: frozen processes of a v1 hierarchy can't die, so they are thawed first."""
        if self.thaw is not None:
            with contextlib.suppress(OSError):
                os.write(self.thaw, b"THAWED")
        if self.keeps:
            # restored environments see their owner gone as well: to end before them would take frozen ones along
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)
        os._exit(0)
