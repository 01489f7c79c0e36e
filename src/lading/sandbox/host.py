"""This machine as a place for environments: every sandbox is made here, by a launcher, a zygote or from walls that stand."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import platform
import socket
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lading.errors import SandboxError
from lading.sandbox import cgroups, layout, lessons, outgoing, seccomp, templates
from lading.sandbox.capabilities import NO_HIERARCHIES, find_capabilities, find_hierarchies
from lading.sandbox.ceiling import Ceiling
from lading.sandbox.environment import RESOURCE_LIMITS, UID
from lading.sandbox.forkers import Forker, ForkerGoneError, detached
from lading.sandbox.live import Parts, Sandbox, await_ready, close_parts, runtime_start
from lading.sandbox.operations import Operation, join
from lading.sandbox.plain import Guard, PlainSandbox
from lading.sandbox.spares import Built, Spares
from lading.sandbox.spec import (
    CREDENTIALS_API,
    RUNTIME_API,
    SERVICE_API,
    ColdStart,
    Isolation,
    Network,
    SandboxSpec,
)
from lading.sandbox.startup import kind_of, root_tree
from lading.sandbox.templates import Restored, Template
from lading.sandbox.zygotes import Zygotes

_FIRST_UID = 1_500_000_000
"""Host users of environments: one each, so that no limit or signal of one reaches another. Far above real users."""
_UIDS = 4_096
_NUMBERS = itertools.count(1)
"""Every host of this process takes its environments' numbers from here."""

_HOW_SNAPSHOTS = "SnapStart needs an image whose entry point is AWS's Python client, started by fork"


class Host:
    """Makes sandboxes; blocks for some milliseconds each, so call it from a worker thread. Safe between threads."""

    def __init__(self, isolation: Isolation | None = None, *, spares: int = 0, services: bool = False) -> None:
        """isolation: the strongest that works, unless a weaker one is asked for.

        spares: how many walls per runtime stand ready, without a function in them, for the next fork.
        services: environments have a `services_socket`, which the owner answers.
        """
        self._lock = threading.RLock()
        self.capabilities = find_capabilities(find_hierarchies(), isolation)
        self._hierarchies = find_hierarchies() if self.capabilities.cgroup != "none" else NO_HIERARCHIES
        self._zygotes = Zygotes(user=self.capabilities.isolation is Isolation.USER)
        self._spares = Spares(spares, self._build_spare)
        self._live: dict[str, Sandbox] = {}
        self._forkers: dict[str, Forker] = {}
        """What each of them was forked by, or its spare walls: it must live as long."""
        self._free: list[int] = []
        self._listen = [RUNTIME_API, SERVICE_API] if services else [RUNTIME_API]
        self._router: outgoing.Router | None = None
        self._guard: Guard | None = None
        self._ceiling = Ceiling()
        self._closed = False
        cgroups.sweep(self._hierarchies)
        self._hierarchies.prepare()
        if self.capabilities.isolation is Isolation.ROOT and self.capabilities.outgoing:
            self._spares.submit(outgoing.sweep)  # starts a program: not before the first environment

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create(self, spec: SandboxSpec, *, start: bool = True) -> Sandbox:
        """A live environment; start=False leaves the runtime process to `Sandbox.start_runtime()`.

        Raises SandboxError where this host can't give what the spec asks for, or a step fails.
        """
        self._check(spec)
        if spec.isolation is Isolation.PROCESS:
            return self._plain(spec, start=start)
        wish, _ = self._zygotes.choose(spec)
        try:
            return self._make(spec, wish, start=start)
        except ForkerGoneError:  # killed since it was last used: once more, with a new one
            return self._make(spec, wish, start=start)

    def warm(self, spec: SandboxSpec) -> None:
        """Starts what `create(spec)` will fork from, so that the first start is as fast as the others."""
        self._check(spec)
        if spec.isolation is Isolation.PROCESS:
            return
        wish, _ = self._zygotes.choose(spec)
        self._forker(spec, wish)
        if wish is ColdStart.FORK:
            self._spares.fill(spec)

    def keep(self, box: Sandbox) -> Template:
        """Makes a template of an environment's runtime process, which has finished its init and asked to be resumed.

        Everything else inside ends. The box is the template's from now on. Raises SandboxError.
        """
        box.unwatch()
        return Template(box, _filter(), switch=self.capabilities.isolation is Isolation.ROOT)

    def restore(self, template: Template, *, start: bool = True) -> Sandbox:
        """A copy of a template in new walls of its own; start=False leaves its start to `start_runtime()`.

        Follow it by `stand_by`, once there is time. Raises SandboxError; ForkerGoneError when the template is gone.
        """
        box = template.take() or self._stand(template)
        try:
            if start:
                box.start_runtime()
        except SandboxError:
            box.close()
            raise
        return box

    def stand_by(self, template: Template) -> None:
        """Walls for the template's next copies are made ready in the background, as many as this host keeps spare."""
        if self._spares.count:
            self._spares.submit(self._stand_by, template)

    def _stand_by(self, template: Template) -> None:
        while not self._closed and template.wants(self._spares.count):
            template.give(self._stand(template))

    def _stand(self, template: Template) -> Restored:
        """Walls that stand, for a copy of a template."""
        number, way = self._take_number(), self._way(template.spec)
        made = self._build(
            template.keeper, number, layout.walls(UID), {"way": way, "restored": True, **kind_of(template.spec)}
        )
        user = number if made.user else 0
        box = Restored(template, made.parts, (made.identity, user), lambda: self._release(made))
        self._live[box.id] = box
        try:
            box.limit(self._ceiling)
            if way and self._router:
                box.hang(self._router, way)
            box.furnish()
        except BaseException:
            box.close()
            raise
        return box

    def close(self) -> None:
        """Ends every sandbox, zygote and the launcher."""
        self._closed = True
        self._spares.close()
        with self._lock:
            for made in self._spares.remove():
                close_parts(made.parts, made.identity)
            for box in reversed(list(self._live.values())):  # restored ones before their templates
                box.close()
            self._zygotes.close()
            if self._router is not None:
                self._router.close()
                self._router = None
            self._ceiling.close()
            self._hierarchies.remove_owner()
            if self._guard is not None:
                self._guard.close()
                self._guard = None

    @property
    def live(self) -> tuple[Sandbox, ...]:
        """The sandboxes that are not closed, oldest first."""
        with self._lock:
            return tuple(self._live.values())

    @property
    def launcher_pid(self) -> int:
        """The process under which every zygote and environment of this host runs."""
        return self._zygotes.launcher().pid

    def _check(self, spec: SandboxSpec) -> None:
        if spec.isolation is not self.capabilities.isolation:
            raise SandboxError(
                f"isolation {spec.isolation} asked of a host of {self.capabilities.isolation}",
                hint="give Host and spec the same isolation",
            )
        if spec.network is Network.OUTGOING and not self.capabilities.outgoing:
            why = self.capabilities.missing["outgoing"]
            raise SandboxError(why, hint='use network = "none" (--network none)')
        for folder in spec.folders:
            if not folder.is_dir() and folder != spec.interpreter:
                raise SandboxError(f"{folder} is not a folder", hint="unpack the code or layer there first")

    def _forker(self, spec: SandboxSpec, wish: ColdStart) -> Forker:
        if wish is ColdStart.EXEC:
            return self._zygotes.launcher()
        forker = self._zygotes.get(spec)
        if spec.image:
            self._end_zygotes(self._zygotes.too_many)
        return forker

    def leave(self, folders: tuple[Path, ...]) -> None:
        """Ends what stands ready on an image's root, which nobody needs any more: it would keep a mount in use."""
        self._end_zygotes(functools.partial(self._zygotes.on, folders))

    def _end_zygotes(self, find: Callable[[Collection[Forker]], Sequence[tuple[Any, ...]]]) -> None:
        """find: those to end, given those that something lives of. What is being made of one meanwhile is made anew."""
        with self._lock:
            for key in find(set(self._forkers.values())):
                for made in self._spares.remove(key):
                    close_parts(made.parts, made.identity)
                    self._give_back(made.number, made.way)
                self._zygotes.end(key)

    def _way(self, spec: SandboxSpec) -> outgoing.Way | None:
        """A link to the router, which is opened for the first environment that needs a way out."""
        if spec.network is Network.NONE:
            return None
        with self._lock:
            if self._router is None:
                self._router = outgoing.Router()
            return self._router.take()

    def _give_back(self, number: int, way: outgoing.Way | None) -> None:
        with self._lock:
            self._free.append(number)
            if way and self._router:
                self._router.give_back(way)

    def _plain(self, spec: SandboxSpec, *, start: bool) -> Sandbox:
        """Isolation process: nothing of what follows here."""
        if spec.network is Network.NONE:
            raise SandboxError("isolation process can't take the network away", hint="use --network outgoing")
        if spec.code is None:
            raise SandboxError("an image needs a root of its own", hint="use --isolation=root or --isolation=user")
        with self._lock:
            self._guard = self._guard or Guard()
            number = self._take_number()
            identity = f"{os.getpid()}-{number}"
            box = PlainSandbox(spec, identity, self._guard, lambda: self._forget(identity, number))
            self._live[identity] = box
        if start:
            box.start_runtime()
        return box

    def _forget(self, identity: str, number: int) -> None:
        with self._lock:
            self._live.pop(identity, None)
            self._give_back(number, None)

    def _take_number(self) -> int:
        with self._lock:
            number = self._free.pop() if self._free else next(_NUMBERS)
        if number >= _UIDS:
            raise SandboxError(f"{_UIDS} environments are alive", hint="close some first")
        return number

    def _make(self, spec: SandboxSpec, wish: ColdStart, *, start: bool) -> Sandbox:
        if spec.template and spec.image and wish is ColdStart.EXEC:
            why = self._zygotes.reason(spec) or "it is to be started by exec"
            raise SandboxError(f"no snapshot of this image: {why}", hint=_HOW_SNAPSHOTS)
        with contextlib.ExitStack() as stack:
            trees = {"code": self._tree([spec.code], stack)} if spec.code else {}
            if wish is ColdStart.EXEC:
                trees |= root_tree(spec, stack)
            if spec.layers:
                trees["layers"] = self._tree(spec.layers, stack)
            spare = self._take_spare(spec) if wish is ColdStart.FORK and not spec.template else None
            if spare:
                box = self._sandbox(spec, wish, spare)
                try:
                    box.dress(layout.dress(spec, spare.user), trees, start=start)
                except SandboxError:
                    box.close()
                    raise ForkerGoneError("a prepared environment is gone", hint="start another one") from None
                self._spares.begun(box)
                return box
            number = self._take_number()
            way = self._way(spec)
            own = layout.own(spec, self._user(number), way)
            operations = own if wish is ColdStart.FORK else join(layout.base(spec), own)
            begin = [runtime_start(spec, wish)] if start else []
            rest = {"trees": trees, "start": begin, "way": way, "template": spec.template, **kind_of(spec)}
            made = self._build(self._forker(spec, wish), number, operations, rest)
            return self._sandbox(spec, wish, made)

    def _sandbox(self, spec: SandboxSpec, wish: ColdStart, made: Built) -> Sandbox:
        box = Sandbox(spec, made.identity, made.parts, lambda: self._release(made))
        box.limit(self._ceiling)
        box.watch()
        box.cold_start = wish
        box.cold_start_reason = self._zygotes.reason(spec)
        with self._lock:
            self._live[box.id] = box
            self._forkers[box.id] = made.forker
            if self._closed or not made.forker.alive:  # while it was made
                box.close()
                if self._closed:
                    raise SandboxError("the host was closed", hint="make another one")
                raise ForkerGoneError(f"{made.forker.name} was ended", hint="start another environment")
        return box

    def _tree(self, sources: Sequence[Path], stack: contextlib.ExitStack) -> int:
        """A mount of these folders. Of one alone root makes it here, for asking the launcher takes two changes of process."""
        resolved = [source.resolve() for source in sources]
        alone = len(resolved) == 1 and self.capabilities.isolation is Isolation.ROOT
        descriptor = detached(resolved[0]) if alone else self._zygotes.launcher().tree(resolved)
        stack.callback(os.close, descriptor)
        return descriptor

    def _build(self, forker: Forker, number: int, operations: Sequence[Operation], rest: Mapping[str, Any]) -> Built:
        """Walls that stand, with their first process. rest: trees, way, start: what to run, prepare: fork ahead, pages: what for
        (see `lessons`); template, restored: see `templates`; and what `kind_of` says.
        """
        identity, user = f"{os.getpid()}-{number}", self._user(number)
        message = {
            "do": "create",
            "become": None,
            "operations": [step.encode() for step in operations],
            "listen": self._listen,
            "walls": {
                "uid": UID,
                "users": f"0 0 1\n{UID} {user} 1" if user else f"{UID} 0 1",
                "switch": self.capabilities.isolation is Isolation.ROOT,
                "limits": RESOURCE_LIMITS,
                "filter": _filter(),
                "folder": rest["folder"],
            },
            "start": rest.get("start", []),
            "prepare": rest.get("prepare", False),
            "pages": rest.get("pages", ()),
            "plain": rest["plain"],
            "template": rest.get("template", False),
            "restored": rest.get("restored", False),
        }
        templates.adapt(message, user and user - number, number, _UIDS)
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            way: outgoing.Way | None = rest.get("way")
            ours.callback(self._give_back, number, way)
            group = self._hierarchies.make(identity)
            ours.callback(group.remove)
            group.begin()
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
            sent.update(rest.get("trees", {}))
            if way and self._router and not message["restored"]:
                sent["network"] = self._router.namespace
            for index, door in enumerate(group.doors):
                sent[f"group:{index}"] = _open(door, theirs)
            if group.thaw_file:
                sent["thaw"] = _open(group.thaw_file, theirs)
            [pidfd] = forker.ask(message, sent)
            ours.callback(os.close, pidfd)
            theirs.close()
            listeners, given = await_ready(channel, len(message["listen"]))
            ours.pop_all()
        at = dict(zip(message["listen"], listeners, strict=True))
        others = at.get(SERVICE_API), at.get(CREDENTIALS_API)
        parts = Parts(channel, read[0], read[1], pidfd, at[RUNTIME_API], *others, group, given)
        return Built(number, identity, user, forker, parts, way)

    def _take_spare(self, spec: SandboxSpec) -> Built | None:
        """Walls that stand ready for this runtime, and live."""
        made = self._spares.take(spec)
        if made is None or made.forker.alive:
            return made
        close_parts(made.parts, made.identity)
        self._release(made)
        return None

    def _build_spare(self, spec: SandboxSpec, pages: lessons.Ranges) -> Built:
        forker, number = self._forker(spec, ColdStart.FORK), self._take_number()
        way = self._way(spec)
        rest = {"prepare": True, "pages": pages, "way": way, **kind_of(spec)}
        return self._build(forker, number, layout.walls(self._user(number), way), rest)

    def _user(self, number: int) -> int:
        """The environment's user as its first process knows it; in a user namespace there is one only."""
        if self.capabilities.isolation is Isolation.USER:
            return 0
        return _FIRST_UID + os.getpid() % 131_072 * _UIDS + number

    def _release(self, made: Built) -> None:
        with self._lock:
            self._live.pop(made.identity, None)
            self._forkers.pop(made.identity, None)
            self._give_back(made.number, made.way)


@functools.cache
def _filter() -> str:
    return seccomp.program(platform.machine()).hex()


def sweep() -> list[str]:
    """Removes what killed owners left on this machine; returns their names. Every Host does this when it starts."""
    return sorted({*cgroups.sweep(find_hierarchies()), *outgoing.sweep()})


def _open(path: Path, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor
