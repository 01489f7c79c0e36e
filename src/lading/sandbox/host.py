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
from lading.sandbox.forkers import Forker, ForkerGoneError, Launcher, Setup
from lading.sandbox.live import Parts, Sandbox, await_ready, interpreter_inside, runtime_start
from lading.sandbox.operations import join
from lading.sandbox.spec import RUNTIME_API, Capabilities, ColdStart, Isolation, Network, SandboxSpec

_FIRST_UID = 1_500_000_000
"""Host users of environments: one each, so that no limit or signal of one reaches another. Far above real users."""
_UIDS = 4_096
NO_HIERARCHIES = cgroups.Hierarchies("none", {}, "no controllers are used")


class Host:
    """Makes sandboxes; blocks for some milliseconds each, so call it from a worker thread. Safe between threads."""

    def __init__(self, isolation: Isolation | None = None) -> None:
        """isolation: the strongest that works, unless a weaker one is asked for."""
        self._lock = threading.RLock()
        self.capabilities = find_capabilities(find_hierarchies(), isolation)
        self._hierarchies = find_hierarchies() if self.capabilities.cgroup != "none" else NO_HIERARCHIES
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
        number = self._take_number()
        try:
            try:
                box = self._make(spec, wish, self._forker(spec, wish), number, start=start)
            except ForkerGoneError:  # killed since it was last used: once more, with a new one
                box = self._make(spec, wish, self._forker(spec, wish), number, start=start)
        except BaseException:
            self._free.append(number)
            raise
        box.cold_start, box.cold_start_reason = wish, reason
        self._live[box.id] = box
        return box

    def warm(self, spec: SandboxSpec) -> None:
        """Starts what `create(spec)` will fork from, so that the first start is as fast as the others."""
        self._check(spec)
        self._forker(spec, choose_cold_start(spec)[0])

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
            raise SandboxError(
                f"isolation {spec.isolation} asked of a host of {self.capabilities.isolation}",
                hint="give Host and spec the same isolation",
            )
        if spec.network is Network.OUTGOING and not self.capabilities.outgoing:
            raise SandboxError("outgoing network is not available here", hint='use network = "none"')
        for folder in (spec.code, *spec.layers, *filter(None, (spec.client,))):
            if not folder.is_dir():
                raise SandboxError(f"{folder} is not a folder", hint="unpack the code or layer there first")

    def _get_launcher(self) -> Launcher:
        with self._lock:
            if self._launcher is None or not self._launcher.alive:
                user = self.capabilities.isolation is Isolation.USER
                self._launcher = Launcher(Setup(user=user, private=True))
            return self._launcher

    def _forker(self, spec: SandboxSpec, wish: ColdStart) -> Forker:
        return self._zygote(spec) if wish is ColdStart.FORK else self._get_launcher()

    def _zygote(self, spec: SandboxSpec) -> Forker:
        key = (spec.interpreter, spec.client, spec.runtime)
        with self._lock:
            forker = self._zygotes.get(key)
            if forker is None or not forker.alive:
                environment = base_environment(replace(spec, environment={}))
                command = [interpreter_inside(spec)]
                forker = self._get_launcher().start_zygote(layout.base(spec), command, environment)
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
                "users": f"0 0 1\n{UID} {user} 1" if user else f"{UID} 0 1",
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
        """The environment's user as its first process knows it; in a user namespace there is one only."""
        if self.capabilities.isolation is Isolation.USER:
            return 0
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


def find_capabilities(hierarchies: cgroups.Hierarchies, isolation: Isolation | None = None) -> Capabilities:
    """What this machine can do under the asked isolation. Looks only: nothing is made.

    Raises SandboxError where there are no walls at all to be had, or not the ones asked for.
    """
    if sys.platform != "linux" and isolation is not Isolation.PROCESS:
        raise SandboxError(f"no isolation on {sys.platform}", hint="use --isolation=process: no walls, your own risk")
    privileged = os.geteuid() == 0
    chosen = isolation or (Isolation.ROOT if privileged else Isolation.USER)
    if chosen is Isolation.ROOT and not privileged:
        raise SandboxError("isolation root needs root", hint="run as root, or use --isolation=user")
    if chosen is Isolation.USER and (problem := _user_namespace_problem()):
        raise SandboxError(
            f"isolation user is not available: {problem}", hint="run as root, or use --isolation=process"
        )
    limited = chosen is Isolation.ROOT and hierarchies.limits
    missing = {}
    if chosen is not Isolation.ROOT:
        missing["limits"] = f"isolation {chosen} can't limit memory and CPU, and freezes with SIGSTOP"
    elif not limited:
        missing["limits"] = f"memory, CPU and processes can't be limited: {hierarchies.problem}"
    if chosen is Isolation.PROCESS:
        missing["walls"] = "isolation process has no walls: the function can do all that you can"
    return Capabilities(
        isolation=chosen,
        cgroup=hierarchies.version if limited else "none",
        freezer=limited,
        overlay=chosen is not Isolation.PROCESS,
        outgoing=chosen is Isolation.PROCESS,
        missing=missing,
    )


def _user_namespace_problem() -> str:
    for name, refusal in (
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ):
        path = Path("/proc/sys") / name
        if path.exists() and path.read_text("ascii").strip() == refusal:
            return f"{path} is {refusal}"
    return ""


def sweep() -> list[str]:
    """Removes what killed owners left on this machine; returns their names. Every Host does this when it starts."""
    return cgroups.sweep(find_hierarchies())


def _open(path: Path, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor
