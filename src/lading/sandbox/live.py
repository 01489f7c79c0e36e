"""A live sandbox, as its owner holds it: start, watch, freeze, measure, end. Safe to close more than once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lading.errors import SandboxError
from lading.sandbox import measure
from lading.sandbox.ceiling import Ceiling
from lading.sandbox.cgroups import Group
from lading.sandbox.environment import debugged, process_environment, search_path
from lading.sandbox.image import ImageRoot
from lading.sandbox.inside import wire
from lading.sandbox.operations import Operation
from lading.sandbox.spec import ColdStart, ProcessEnded, SandboxSpec

_PATIENCE = 10.0
RUNTIME = "runtime"


@dataclass(frozen=True)
class Parts:
    """What an environment's owner holds of it."""

    channel: socket.socket
    stdout: int
    stderr: int
    pidfd: int
    api: socket.socket
    services: socket.socket | None
    credentials: socket.socket | None
    group: Group
    given: tuple[int, ...] = ()
    """Of walls that a template's copy will join: their namespaces and streams."""


class Sandbox:
    """One execution environment, from its first process to the last file. `fileno()` is readable when something ended."""

    def __init__(self, spec: SandboxSpec, identity: str, parts: Parts, release: Callable[[], None]) -> None:
        self.spec = spec
        self.id = identity
        self.cold_start = ColdStart.FORK
        self.cold_start_reason = ""
        self.runtime_api_socket = parts.api
        self.services_socket = parts.services
        """Listens at SERVICE_API; None unless the host serves other services to environments."""
        self.credentials_socket = parts.credentials
        """Listens at CREDENTIALS_API, where there are services and the environment is a template's or restored from one."""
        self.stdout = parts.stdout
        self.stderr = parts.stderr
        self.pidfd = parts.pidfd
        self.pid = _pid_of(parts.pidfd)
        self._parts = parts
        self._channel = parts.channel
        self._group = parts.group
        self._release = release
        self._events: list[ProcessEnded] = []
        self._closed = False
        self._memory_peak = self._oom_kills = self._cpu_usage = self._kills = 0
        self._most_held = self._most_own = 0
        self._ceiling: Ceiling | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"pid {self.pid}"
        return f"<Sandbox {self.id} {self.spec.runtime} {self.cold_start}, {state}>"

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._channel.fileno()

    @property
    def closed(self) -> bool:
        return self._closed

    def read_events(self) -> list[ProcessEnded]:
        """What ended since the last call; never blocks. Empty as well when the whole environment is gone: see pidfd."""
        events, self._events = self._events, []
        while message := self._receive(0):
            self._note(message, events)
        return events

    def wait(self, seconds: float) -> ProcessEnded | None:
        """The next process to end; None when none did in time or the environment is gone."""
        if not self._events and (message := self._receive(seconds)):
            self._note(message, self._events)
        return self._events.pop(0) if self._events else None

    def dress(self, operations: Sequence[Operation], trees: Mapping[str, int], *, start: bool) -> None:
        """Gives walls that stood ready the function they are for."""
        message = {
            "do": "dress",
            "operations": [operation.encode() for operation in operations],
            "descriptors": list(trees),
            "start": [runtime_start(self.spec, self.cold_start)] if start else [],
        }
        try:
            wire.send(self._channel, message, list(trees.values()))
        except OSError as error:
            raise SandboxError(f"environment {self.id} is gone", hint="start another one") from error

    def limit(self, ceiling: Ceiling) -> None:
        """The function's limits, from now on. What counts as memory is watched while something runs: `watch`."""
        self._group.limit(self.spec.memory, self.spec.ephemeral_storage)
        self._ceiling = ceiling

    def watch(self) -> None:
        """Something runs inside, or is about to."""
        if self._ceiling is not None and self._group.limits:
            self._ceiling.watch(self)

    def unwatch(self) -> None:
        """Nothing runs inside for now."""
        if self._ceiling is not None:
            self._ceiling.leave(self)

    def start_runtime(self) -> None:
        """Starts the runtime process: AWS's client, or the spec's command."""
        self._send(runtime_start(self.spec, self.cold_start))

    def keep(self, settings: Mapping[str, Any], channel: int) -> int:
        """Makes a template of the runtime process, which waits for it; the pidfd of its keeper, who answers on the channel."""
        self._send({"do": "keep", **settings}, [channel])
        deadline = time.monotonic() + 4 * _PATIENCE
        while wire.readable(self._channel.fileno(), deadline - time.monotonic()):
            received = wire.receive(self._channel)
            if received is None:
                break
            message, descriptors = received
            if "kept" in message:
                return descriptors[0]
            self._note(message, self._events)
        raise SandboxError(f"environment {self.id} did not become a template", hint="look at what its init code runs")

    def start_process(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], output: int | None = None
    ) -> None:
        """Starts another program inside, an extension, behind the same walls. `output`: a descriptor it writes to."""
        message = {"do": "start", "name": name, "command": list(command), "environment": dict(environment)}
        self._send(message, [] if output is None else [output])

    def terminate(self, name: str = RUNTIME, number: int = signal.SIGTERM) -> None:
        """Sends a signal to one process that was started by name; nothing happens when it has ended."""
        self._send({"do": "signal", "name": name, "signal": int(number)})

    def freeze(self, *, wait: bool = True) -> None:
        """Every process inside stands still; the walls' own first process goes on watching.

        Without `wait`, which never blocks, and without a freezer (they get SIGSTOP) a moment after this returns.
        """
        if self._group.limits:
            self._group.freeze(wait=wait)
            self.unwatch()
        else:
            self._send({"do": "signal all", "signal": int(signal.SIGSTOP)})

    def thaw(self, *, wait: bool = True) -> None:
        if self._group.limits:
            self.watch()
            self._group.thaw(wait=wait)
        else:
            self._send({"do": "signal all", "signal": int(signal.SIGCONT)})

    def limit_cpu(self) -> None:
        """From now on CPU time follows memory. Not before init is over: AWS lets init run at full speed."""
        if self._group.limits:
            self._group.limit_cpu(self.spec.memory)

    def connect(self, port: int) -> socket.socket:
        """A connection to a port of the environment's loopback. Raises SandboxError where nobody listens there."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            self._send({"do": "connect", "port": port}, [theirs.fileno()])
            theirs.close()
            received = wire.receive(ours) if wire.readable(ours.fileno(), _PATIENCE) else None
        if received is None or not received[1]:
            why = received[0]["error"] if received else "no answer"
            raise SandboxError(f"port {port} of environment {self.id}: {why}", hint="does something listen there yet?")
        return socket.socket(fileno=received[1][0])

    def reset(self) -> None:
        """Ends every process inside; /tmp, network and limits stay. `start_runtime()` begins again."""
        if self._group.limits:
            self.watch()
            self._group.thaw()
        self._send({"do": "reset"})
        deadline = time.monotonic() + _PATIENCE
        while message := self._receive(deadline - time.monotonic()):
            if "reset" in message:
                self._events.clear()
                return
        raise SandboxError(f"environment {self.id} did not reset", hint="close it and start another")

    def kill(self) -> None:
        """Ends everything inside, at once; `close()` still has to be called."""
        kill_parts(self._parts)

    def _held_by_tmp(self) -> int:
        """Bytes."""
        try:
            facts = os.statvfs(f"/proc/{self.pid}/root/tmp")
        except OSError:  # it is gone
            return 0
        return (facts.f_blocks - facts.f_bfree) * facts.f_frsize

    @property
    def memory_peak(self) -> int:
        """Bytes at most in use so far by everything inside, less what /tmp holds and what is shared with the zygote.

        Without a cgroup: the sum of the peaks of the processes now alive, shared memory counted.
        """
        if not self._closed:
            measured = self._limited_peak() if self._group.limits else measure.memory_peak(self.pid)
            self._memory_peak = max(self._memory_peak, measured)
        return self._memory_peak

    def _limited_peak(self) -> int:
        """The kernel's peak has /tmp in it: the most that it was seen to hold is taken off. Where that leaves more than the
        function may have, files have gone meanwhile: the most that was seen without them is the measure then.
        """
        highest = self._group.memory_peak
        if highest - self._most_held <= self._memory_peak:  # as after most invokes: no more than it was
            return self._memory_peak
        held = self._held_by_tmp()
        self._most_held = max(self._most_held, held)
        measured = highest - self._most_held
        if measured <= self.memory_limit:
            return measured
        return min(max(self._most_own, self._group.memory_now - held), self.memory_limit)

    # What the ceiling asks

    @property
    def memory_limit(self) -> int:
        """Bytes."""
        return self.spec.memory << 20

    def memory_own(self) -> int:
        """Bytes in use that are neither /tmp's nor those of cached files. Too few where files come and go meanwhile."""
        own = min(self._look() for _ in range(2))
        self._most_own = max(self._most_own, own)
        return own

    def _look(self) -> int:
        held = self._held_by_tmp()
        used = self._group.memory_now
        return used - max(held, self._held_by_tmp()) - self._group.cached_files

    def members(self) -> list[int]:
        """Processes under the limits, as this machine numbers them."""
        return self._group.members()

    def note_kill(self) -> None:
        """One of them was killed for its memory."""
        self._kills += 1

    @property
    def memory_now(self) -> int:
        """Bytes in use; without a cgroup as `memory_peak`."""
        return self._group.memory_now if self._group.limits else self.memory_peak

    @property
    def oom_killed(self) -> bool:
        """True when the memory limit ended a process inside; always False where there is no limit."""
        if not self._closed and self._group.limits:
            self._oom_kills = self._group.oom_kills
        return self._oom_kills + self._kills > 0

    @property
    def cpu_usage(self) -> int:
        """Nanoseconds of CPU used by everything inside; without a cgroup, by the processes now alive."""
        if not self._closed:
            measured = self._group.cpu_usage if self._group.limits else measure.cpu_usage(self.pid)
            self._cpu_usage = max(self._cpu_usage, measured)
        return self._cpu_usage

    def close(self) -> None:
        """Ends everything inside and removes what the host keeps of it. The measures stay readable."""
        if self._closed:
            return
        if self._group.limits:
            _ = self.memory_peak, self.oom_killed, self.cpu_usage  # to be known after the group is gone
        self.unwatch()
        close_parts(self._parts, self.id)
        self._closed = True
        self._release()

    def _send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        try:
            wire.send(self._channel, message, list(descriptors))
        except OSError as error:
            raise SandboxError(f"environment {self.id} is gone", hint="start another one") from error

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        if not wire.readable(self._channel.fileno(), seconds):
            return None
        received = wire.receive(self._channel)
        return received[0] if received else None

    @staticmethod
    def _note(message: dict[str, Any], events: list[ProcessEnded]) -> None:
        if "error" in message:
            raise SandboxError(f"an environment could not be made: {message['error']}", hint="close it, start another")
        if "ended" in message:
            refused = message.get("refused", "")
            events.append(ProcessEnded(message["ended"], message["code"], message["signal"], refused))


def kill_parts(parts: Parts) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(parts.pidfd, signal.SIGKILL)
    if parts.group.limits:
        parts.group.thaw()  # what is frozen can't die


def close_parts(parts: Parts, identity: str) -> None:
    """Ends what runs behind some walls and removes what the host keeps of them."""
    kill_parts(parts)
    if not wire.readable(parts.pidfd, _PATIENCE):
        raise SandboxError(f"environment {identity} survived SIGKILL", hint="look for its processes: stuck in D state?")
    parts.channel.close()
    parts.api.close()
    for other in filter(None, (parts.services, parts.credentials)):
        other.close()
    for descriptor in (parts.stdout, parts.stderr, parts.pidfd, *parts.given):
        os.close(descriptor)
    parts.group.remove()


def runtime_start(spec: SandboxSpec, cold_start: ColdStart) -> dict[str, Any]:
    """The message that starts the runtime process. A fork needs no command: the client is imported already."""
    environment = process_environment(spec)
    start = {"do": "start", "name": RUNTIME, "environment": environment, "command": []}
    if spec.image:
        return start | _image_start(spec.image, cold_start)
    if cold_start is ColdStart.FORK:
        return {**start, "handler": spec.handler, "path": list(search_path(spec.runtime))}
    if spec.entry:  # wrapper scripts are for managed runtimes only
        return {**start, "command": list(spec.entry)}
    command = [interpreter_inside(spec), *debugged(spec), "/var/runtime/bootstrap.py"]
    wrapper = environment.get("AWS_LAMBDA_EXEC_WRAPPER")
    return {**start, "command": [wrapper, *command] if wrapper else command}


def _image_start(image: ImageRoot, cold_start: ColdStart) -> dict[str, Any]:
    if cold_start is ColdStart.EXEC:
        return {"command": list(image.process.command), "folder": image.process.folder}
    assert image.client is not None, "only AWS's client is forked"
    path = list(image.client.path)
    return {"handler": image.client.handler, "path": path, "folder": image.process.folder}


def interpreter_inside(spec: SandboxSpec) -> str:
    if spec.image and spec.image.client:
        return spec.image.client.interpreter
    return f"/var/lang/bin/{spec.runtime}"


def await_ready(channel: socket.socket, count: int) -> tuple[list[socket.socket], tuple[int, ...]]:
    """The listening sockets that were asked for, once the walls stand, and what is given for a template's copy to join them.

    Raises SandboxError with the operation that failed.
    """
    if not wire.readable(channel.fileno(), _PATIENCE):
        raise SandboxError(f"an environment was not ready within {_PATIENCE:.0f} s", hint="is the machine overloaded?")
    received = wire.receive(channel)
    message, descriptors = received or ({"error": "its first process died"}, [])
    if "error" in message:
        raise SandboxError(f"an environment could not be made: {message['error']}", hint="choose another isolation")
    listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors[:count]]
    for listener in listeners:
        listener.settimeout(0)
    return listeners, tuple(descriptors[count:])


def _pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))
