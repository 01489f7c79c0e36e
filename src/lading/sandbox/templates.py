"""SnapStart's half of the sandbox: a function's initialised process that is kept, and the environments restored from it.

The owner's side; `inside/keeper.py` does the work. What a template holds or says is hostile: it ran the function's init.
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from lading.errors import SandboxError
from lading.sandbox import operations as do
from lading.sandbox import seccomp
from lading.sandbox.environment import RESOURCE_LIMITS, UID
from lading.sandbox.forkers import Forker
from lading.sandbox.inside.becoming import NAMESPACES, STREAMS
from lading.sandbox.live import Parts, Sandbox
from lading.sandbox.outgoing import Router, Way
from lading.sandbox.spec import CREDENTIALS_API, SERVICE_API

_INNER = 100_000
"""In a template's user namespace the users of all environments of this owner begin here: a restored one takes its own."""
_PATIENCE = 10.0
_MOST_READY = 2
"""Walls that stand ready for one template's next copies."""


def adapt(message: dict[str, Any], base: int, number: int, count: int) -> None:
    """Changes a request for walls to those of a template, or of an environment restored from one; leaves others alone.

    base: the host's user number 0 of this owner, of `count`; 0 where there is one user only. number: this environment's.
    """
    walls = message["walls"]
    if SERVICE_API in message["listen"] and (message["template"] or message["restored"]):
        message["listen"] = [*message["listen"], CREDENTIALS_API]
    if message["template"]:
        walls["filter"] = seccomp.program(platform.machine(), template=True).hex()
        if base:
            walls["roomy"] = True
            after = number + 1
            walls["users"] += f"\n{_INNER} {base} {number}\n{_INNER + after} {base + after} {count - after}"
    elif message["restored"]:
        own = f"{UID} {UID} 1"
        message["users"] = f"0 0 1\n{UID} {_INNER + number} 1" if base else own
        walls["users"] = f"0 0 1\n{own}" if base else own


class Template:
    """A function's process as it was at its snapshot. It stands still and is copied; close it when no more are wanted."""

    def __init__(self, box: Sandbox, program: str, *, switch: bool) -> None:
        """box: where it ran its init and waits. program: the filter of restored processes."""
        self.spec = box.spec
        self.token = ""
        """By which its copies ask for credentials."""
        self.box = box
        self._copies = 0
        self._closed = False
        self._ready: list[Restored] = []
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        settings = {
            "filter": program,
            "processes": RESOURCE_LIMITS["NPROC"],
            "uid": UID,
            "switch": switch,
            "memory": box.spec.memory << 20,
        }
        try:
            with theirs:
                pidfd = box.keep(settings, theirs.fileno())
            self.keeper = Forker("the template", ours, pidfd)
        except SandboxError as error:
            ours.close()
            raise SandboxError(f"no snapshot: {error.message}", hint=_HINT) from error
        self.memory = box.memory_now
        """Bytes that it holds."""

    def __repr__(self) -> str:
        return f"<Template {self.box.id} of {self.spec.code}, {self.memory >> 20} MB, {self._copies} restored>"

    @property
    def alive(self) -> bool:
        return not self._closed and self.keeper.alive

    def close(self) -> None:
        """It ends at once; the place where restored environments live, when the last of them does."""
        with self._lock:
            closed, self._closed = self._closed, True
            ready, self._ready = self._ready, []
        if closed:
            return
        self.keeper.close()
        for box in ready:
            box.close()
        if not self._copies:
            self.box.close()

    # Walls that stand ready

    def wants(self, spares: int) -> bool:
        return self.alive and len(self._ready) < min(spares, _MOST_READY)

    def take(self) -> Restored | None:
        with self._lock:
            return self._ready.pop(0) if self._ready else None

    def give(self, box: Restored) -> None:
        with self._lock:
            if not self._closed:
                self._ready.append(box)
                return
        box.close()

    # Environments that live below it

    def add(self) -> None:
        with self._lock:
            self._copies += 1

    def remove(self) -> None:
        with self._lock:
            self._copies -= 1
            last = self._closed and not self._copies
        if last:
            self.box.close()


_HINT = "SnapStart needs root's or a user namespace's walls, ptrace, and a machine of x86_64"


class Restored(Sandbox):
    """An environment whose runtime process is a copy of a template's."""

    def __init__(self, template: Template, parts: Parts, number: tuple[str, int], release: Callable[[], None]) -> None:
        """number: its identity, and of its user among this owner's; 0 where there is one user only."""
        identity, user = number
        super().__init__(template.spec, identity, parts, release)
        self.cold_start_reason = "restored from a snapshot"
        self._template = template
        self._given = parts.given
        self._owner = _INNER + user if user else UID
        template.add()

    def furnish(self) -> None:
        """What was in /tmp at the snapshot is there again, and a copy of the template stands in these walls."""
        ours, theirs = socket.socketpair()
        with ours, theirs, self._doors() as doors:
            keeper = self._template.keeper
            keeper.ask({"do": "carry", "owner": self._owner}, {"temporary": self._given[-1], **doors})
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._send({"do": "adopt"}, [ours.fileno()])
            named = dict(zip((*NAMESPACES, *STREAMS), (*self._given[:-1], theirs.fileno()), strict=True))
            keeper.ask({"do": "copy", "identity": self.id, "owner": self._owner}, {**named, **doors})

    def hang(self, router: Router, way: Way) -> None:
        """Hangs it on the router: from inside its user namespace it can't."""
        router.hang(way, self._given[list(NAMESPACES).index("net")])
        self._send(
            {
                "do": "dress",
                "operations": [do.Uplink(way.address, way.gateway).encode()],
                "descriptors": [],
                "start": [],
            }
        )

    def start_runtime(self) -> None:
        """The copy goes on where the template stands still."""
        self.watch()
        self._template.keeper.ask({"do": "release", "identity": self.id}, {})

    def reset(self) -> None:
        """Never: after a failure another environment is restored."""
        raise SandboxError(f"environment {self.id} can't be reset", hint="restore another one")

    @property
    def memory_peak(self) -> int:
        """What the template holds counts as well, up to the limit: it is shared, on Lambda it would not be."""
        return min(self.spec.memory << 20, super().memory_peak + self._template.memory)

    def close(self) -> None:
        if not self._closed:
            super().close()
            self._template.remove()

    @contextlib.contextmanager
    def _doors(self) -> Iterator[dict[str, int]]:
        opened = {f"group:{n}": os.open(path, os.O_WRONLY | os.O_CLOEXEC) for n, path in enumerate(self._group.doors)}
        try:
            yield opened
        finally:
            for descriptor in opened.values():
                os.close(descriptor)

    def _await(self, what: str) -> None:
        while message := self._receive(_PATIENCE):
            if what in message:
                return
            self._note(message, self._events)
        raise SandboxError(f"environment {self.id} is gone", hint="restore another one")
