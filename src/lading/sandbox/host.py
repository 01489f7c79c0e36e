"""This machine as a place for environments: what it can do, its launcher and zygotes, and every sandbox made here."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from lading.errors import SandboxError
from lading.sandbox import cgroups, layout, seccomp
from lading.sandbox.environment import RESOURCE_LIMITS, UID, base_environment, startup_variables
from lading.sandbox.forkers import Forker, Launcher, Setup
from lading.sandbox.live import Parts, Sandbox, await_ready, interpreter_inside, runtime_start
from lading.sandbox.operations import join
from lading.sandbox.spec import RUNTIME_API, Capabilities, ColdStart, Isolation, Network, SandboxSpec

_FIRST_UID = 1_500_000_000
"""Host users of environments: one each, so that no limit or signal of one reaches another. Far above real users."""
_UIDS = 4_096


class Host:
    """Makes sandboxes; blocks for some milliseconds each, so call it from a worker thread. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._hierarchies = find_hierarchies()
        self.capabilities = find_capabilities(self._hierarchies)
        self._launcher: Launcher | None = None
        self._zygotes: dict[tuple[Any, ...], Forker] = {}
        self._live: dict[str, Sandbox] = {}
        self._numbers = itertools.count(1)
        self._free: list[int] = []
        cgroups.sweep(self._hierarchies)
        self._hierarchies.prepare()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create(self, spec: SandboxSpec, *, start: bool = True) -> Sandbox:
        """A live environment; start=False leaves the runtime process to `Sandbox.start_runtime()`.

        Raises SandboxError where this host can't give what the spec asks for, or a step fails.
        """
        self._check(spec)
        wish, reason = choose_cold_start(spec)
        forker = self._zygote(spec) if wish is ColdStart.FORK else self._get_launcher()
        number = self._take_number()
        try:
            box = self._make(spec, wish, forker, number, start=start)
        except BaseException:
            self._free.append(number)
            raise
        box.cold_start, box.cold_start_reason = wish, reason
        self._live[box.id] = box
        return box

    def warm(self, spec: SandboxSpec) -> None:
        """Starts what `create(spec)` will fork from, so that the first start is as fast as the others."""
        self._check(spec)
        if choose_cold_start(spec)[0] is ColdStart.FORK:
            self._zygote(spec)
        else:
            self._get_launcher()

    def close(self) -> None:
        """Ends every sandbox, zygote and the launcher."""
        with self._lock:
            for box in list(self._live.values()):
                box.close()
            for forker in [*self._zygotes.values(), *filter(None, (self._launcher,))]:
                forker.close()
            self._zygotes.clear()
            self._launcher = None
            self._hierarchies.remove_owner()

    def _check(self, spec: SandboxSpec) -> None:
        if spec.isolation is not self.capabilities.isolation:
            why = "; ".join(self.capabilities.missing.values()) or f"this host gives {self.capabilities.isolation}"
            raise SandboxError(f"isolation {spec.isolation} is not available: {why}", hint="choose another --isolation")
        if spec.network is Network.OUTGOING and not self.capabilities.outgoing:
            raise SandboxError("outgoing network is not available here", hint='use network = "none"')
        for folder in (spec.code, *spec.layers, *filter(None, (spec.client,))):
            if not folder.is_dir():
                raise SandboxError(f"{folder} is not a folder", hint="unpack the code or layer there first")

    def _get_launcher(self) -> Launcher:
        with self._lock:
            if self._launcher is None or not self._launcher.alive:
                user = UID if self.capabilities.isolation is Isolation.USER else None
                self._launcher = Launcher(Setup(user=user, private=True))
            return self._launcher

    def _zygote(self, spec: SandboxSpec) -> Forker:
        key = (spec.interpreter, spec.client, spec.runtime)
        with self._lock:
            forker = self._zygotes.get(key)
            if forker is None or not forker.alive:
                environment = base_environment(replace(spec, environment={}))
                command = [interpreter_inside(spec)]
                forker = self._get_launcher().start_zygote(layout.zygote(spec), command, environment)
                self._zygotes[key] = forker
            return forker

    def _take_number(self) -> int:
        with self._lock:
            number = self._free.pop() if self._free else next(self._numbers)
        if number >= _UIDS:
            raise SandboxError(f"{_UIDS} environments are alive", hint="close some first")
        return number

    def _make(self, spec: SandboxSpec, wish: ColdStart, forker: Forker, number: int, *, start: bool) -> Sandbox:
        identity = f"{os.getpid()}-{number}"
        user = self._user(number)
        parts = layout.own(spec, "169-254-100-1", user)
        message = {
            "do": "create",
            "become": None,
            "operations": [
                step.encode() for step in (parts if wish is ColdStart.FORK else join(layout.base(spec), parts))
            ],
            "api": RUNTIME_API,
            "walls": {
                "uid": UID,
                "users": f"0 0 1\n{UID} {user} 1" if user != UID else f"{UID} {UID} 1",
                "switch": self.capabilities.isolation is Isolation.ROOT,
                "limits": RESOURCE_LIMITS,
                "filter": seccomp.program(platform.machine()).hex(),
                "folder": "/var/task",
            },
            "start": [runtime_start(spec, wish)] if start else [],
        }
        group = self._hierarchies.make(identity)
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            ours.callback(group.remove)
            group.limit(spec.memory)
            channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.enter_context(channel)
            theirs.enter_context(other)
            sent = {"channel": other.fileno()}
            read: list[int] = []
            for name in ("stdout", "stderr"):
                end, sent[name] = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(end, False)
                read.append(end)
                ours.callback(os.close, end)
                theirs.callback(os.close, sent[name])
            launcher = self._get_launcher()
            sent["code"] = launcher.tree([spec.code.resolve()])
            theirs.callback(os.close, sent["code"])
            if spec.layers:
                sent["layers"] = launcher.tree([layer.resolve() for layer in spec.layers])
                theirs.callback(os.close, sent["layers"])
            for index, door in enumerate(group.doors):
                sent[f"group:{index}"] = _open(door, theirs)
            if group.thaw_file:
                sent["thaw"] = _open(group.thaw_file, theirs)
            [pidfd] = forker.ask(message, sent)
            ours.callback(os.close, pidfd)
            theirs.close()
            api = await_ready(channel)
            ours.pop_all()
        return Sandbox(
            spec, identity, Parts(channel, read[0], read[1], pidfd, api, group), lambda: self._release(identity, number)
        )

    def _user(self, number: int) -> int:
        if self.capabilities.isolation is Isolation.USER:
            return UID
        return _FIRST_UID + os.getpid() % 131_072 * _UIDS + number

    def _release(self, identity: str, number: int) -> None:
        with self._lock:
            self._live.pop(identity, None)
            self._free.append(number)


def choose_cold_start(spec: SandboxSpec) -> tuple[ColdStart, str]:
    """How an environment will really start, and why not as asked."""
    if spec.cold_start is ColdStart.EXEC:
        return ColdStart.EXEC, ""
    if spec.entry:
        return ColdStart.EXEC, "a custom runtime has no client to fork"
    names = startup_variables(spec.environment)
    if names:
        return ColdStart.EXEC, f"{', '.join(names)} must be set before an interpreter starts"
    return ColdStart.FORK, ""


def find_hierarchies() -> cgroups.Hierarchies:
    return cgroups.find_hierarchies(
        Path("/proc/self/cgroup").read_text("utf-8"), Path("/proc/self/mounts").read_text("utf-8")
    )


def find_capabilities(hierarchies: cgroups.Hierarchies) -> Capabilities:
    """What this machine can do. Looks only: nothing is made."""
    if sys.platform != "linux":
        raise SandboxError(f"no isolation on {sys.platform}", hint="use --isolation=process")
    root = os.geteuid() == 0
    missing = {}
    if not root:
        missing["root"] = "full isolation needs root"
    if not hierarchies.folders:
        missing["cgroup"] = hierarchies.problem
    return Capabilities(
        isolation=Isolation.ROOT if root else Isolation.USER,
        cgroup=hierarchies.version if root else "none",
        freezer=root and bool(hierarchies.folders),
        overlay="overlay" in Path("/proc/filesystems").read_text("ascii").split(),
        outgoing=False,
        missing=missing,
    )


def sweep() -> list[str]:
    """Removes what killed owners left on this machine; returns their names. Every Host does this when it starts."""
    return cgroups.sweep(find_hierarchies())


def _open(path: Path, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor
