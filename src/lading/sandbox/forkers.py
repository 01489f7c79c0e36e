"""The owner's side of a launcher or a zygote: starts it, asks it for environments and mount trees. Safe between threads."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from lading.errors import SandboxError
from lading.sandbox.inside import kernel, wire
from lading.sandbox.operations import Operation

_PATIENCE = 20.0
"""Seconds until a launcher or zygote that says nothing counts as broken."""
_MODULES = (
    "kernel",
    "immortal",
    "density",
    "netlink",
    "wire",
    "root",
    "snapshot",
    "tracing",
    "becoming",
    "keeper",
    "process",
    "first",
    "forker",
)
_STUB = """
import json, os, sys, types
def begin(channel, sources):
    with os.fdopen(sources) as file:
        given = json.load(file)
    for name in ("lading", "lading.sandbox", "lading.sandbox.inside"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
    for name, text in given["modules"]:
        full = "lading.sandbox.inside." + name
        module = sys.modules[full] = types.ModuleType(full)
        setattr(sys.modules["lading.sandbox.inside"], name, module)
        exec(compile(text, full, "exec"), module.__dict__)
    return sys.modules["lading.sandbox.inside.forker"].main(channel, given["setup"])
(begin(int(sys.argv[1]), int(sys.argv[2])) or int)()
"""


_CLOSED = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV


class ForkerGoneError(SandboxError):
    """A launcher or zygote died; another one can be started."""


class NoWallsError(SandboxError):
    """The kernel makes none of the namespaces that walls are built of."""


@dataclass(frozen=True)
class Setup:
    """How a forker prepares itself before it serves."""

    user: bool = False
    """Becomes root of a user namespace of its own."""
    private: bool = False
    """Takes a mount namespace of its own."""
    modules: tuple[str, ...] = ()
    """What it imports ahead."""
    optional: tuple[str, ...] = ()
    """The same, where there is such a module."""


class Forker:
    """A live launcher or zygote."""

    def __init__(self, name: str, channel: socket.socket, pidfd: int) -> None:
        self.name = name
        self._channel = channel
        self._pidfd = pidfd
        self._lock = threading.Lock()
        self._broken = False
        channel.settimeout(_PATIENCE)
        self._answer()

    def ask(self, message: dict[str, Any], descriptors: Mapping[str, int]) -> list[int]:
        """The descriptors of the answer. Raises SandboxError with what the other side could not do."""
        message["descriptors"] = list(descriptors)
        with self._lock:
            try:
                wire.send(self._channel, message, list(descriptors.values()))
            except OSError as error:
                raise self._gone() from error
            return self._answer()

    def tree(self, sources: Sequence[Path]) -> int:
        """Folders of the host, merged (a later one wins), as a read-only mount that can be sent into an environment."""
        [descriptor] = self.ask({"do": "tree", "paths": [str(path) for path in sources], "attributes": _CLOSED}, {})
        return descriptor

    @property
    def alive(self) -> bool:
        return not self._broken and not wire.readable(self._pidfd, 0)

    def close(self) -> None:
        """Ends it; what a zygote forked ends with it."""
        self._broken = True
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        wire.readable(self._pidfd, _PATIENCE)
        os.close(self._pidfd)

    def _gone(self) -> ForkerGoneError:
        self._broken = True
        return ForkerGoneError(f"{self.name} is gone", hint="see what it wrote to the standard error stream")

    def _answer(self) -> list[int]:
        try:
            received = wire.receive(self._channel)
        except TimeoutError as error:
            raise SandboxError(
                f"{self.name} did not answer within {_PATIENCE:.0f} s", hint="is the machine overloaded?"
            ) from error
        except OSError as error:  # closed by another thread
            raise self._gone() from error
        if received is None:
            raise self._gone()
        message, descriptors = received
        if "error" in message:
            raise SandboxError(
                f"{self.name}: {message['error']}",
                hint="choose another isolation: --isolation=user or --isolation=root",
            )
        return descriptors


class Launcher(Forker):
    """The forker that sees the host's files: builds whole roots (exec path, zygotes) and makes mount trees."""

    def __init__(self, setup: Setup) -> None:
        import subprocess

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sources = program(setup)
        command = [sys.executable, "-I", "-S", "-c", _STUB, str(theirs.fileno()), str(sources)]
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno(), sources], stdin=subprocess.DEVNULL, start_new_session=True, cwd="/"
            )
        os.close(sources)
        self.pid = self._process.pid
        try:
            super().__init__("the launcher", ours, os.pidfd_open(self._process.pid))
        except SandboxError as error:
            self.close()
            why = error.message.removeprefix("the launcher: ")
            raise NoWallsError(
                f"no walls can be made here: {why}",
                hint="a chroot, or a container that allows no namespaces? Run lading outside of it, or use --isolation=process",
            ) from error

    def close(self) -> None:
        super().close()
        self._process.wait()

    def start_zygote(
        self,
        operations: Sequence[Operation],
        command: Sequence[str],
        environment: Mapping[str, str],
        trees: Mapping[str, int],
    ) -> Forker:
        """An interpreter in a root of its own that has AWS's client imported and forks on request.

        trees: mounts that the operations name.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        modules = ("awslambdaric.bootstrap", "awslambdaric.__main__", "concurrent.futures.thread", "http.client")
        sources = program(Setup(modules=modules, optional=("awslambdaric.lambda_literals",)))  # imported at every init
        request = {
            "do": "create",
            "operations": [operation.encode() for operation in operations],
            "become": [*command, "-c", _STUB, "3", "4"],
            "environment": dict(environment),
        }
        try:
            with theirs:
                sent = {**trees, "channel": theirs.fileno(), "sources": sources, "stderr": 2}
                [pidfd] = self.ask(request, sent)
        finally:
            os.close(sources)
        return Forker(f"the zygote of {command[0]}", ours, pidfd)


def detached(source: Path) -> int:
    """As `Forker.tree` for one folder, made by this process: for root. Raises SandboxError."""
    tree = -1
    try:
        tree = kernel.open_tree(str(source))
        kernel.set_mount_attributes("", _CLOSED, tree=tree, private=True)
    except OSError as error:
        if tree >= 0:
            os.close(tree)
        raise SandboxError(
            f"{source} can't be mounted: {error}", hint="is it on a file system that allows it?"
        ) from error
    return tree


def program(setup: Setup) -> int:
    """A descriptor from which a started interpreter reads everything it needs of ours: nothing is imported from a disk."""
    text = json.dumps({"modules": _sources(), "setup": vars(setup)}).encode()
    descriptor = os.memfd_create("lading")
    os.write(descriptor, text)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@functools.cache
def _sources() -> list[tuple[str, str]]:
    folder = resources.files("lading.sandbox.inside")
    return [(name, folder.joinpath(f"{name}.py").read_text("utf-8")) for name in _MODULES]
