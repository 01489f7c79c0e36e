"""A whole service, put together: what `lading serve` runs, and what tests run beside themselves."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lading.errors import UsageError
from lading.sandbox.spec import Isolation
from lading.service.access import Note
from lading.service.clock import Clock
from lading.service.control.control import MEMORY, Control, open_control
from lading.service.control.overview import list_everything
from lading.service.engine import PoolInvoker, Walls
from lading.service.events import BUT_LOGS, Announcer, AsyncEvent, EventStream
from lading.service.front.app import Admission, Api, Front, Life
from lading.service.front.function_urls import FunctionUrls
from lading.service.front.gate import Gate, is_loopback
from lading.service.front.keyring import Keyring
from lading.service.front.lambda_api import LambdaApi
from lading.service.front.own import OwnRoutes
from lading.service.front.server import bind, connections, make_server
from lading.service.images import FunctionImages
from lading.service.inside import INSIDE, ServiceDoor
from lading.service.logs.api import LogsApi
from lading.service.logs.keeper import LogKeeper
from lading.service.logs.store import LogStore
from lading.service.logs.subscriptions import Subscriptions
from lading.service.metrics import Metrics
from lading.service.neighbours.credentials import RoleCredentials
from lading.service.neighbours.moto import TURN
from lading.service.neighbours.neighbours import Neighbours
from lading.service.neighbours.outside import AwsOutside, Sender
from lading.service.operation import Controls, OperationRoutes
from lading.service.provisioning import Provisioning
from lading.service.queue.dispatch import Queue
from lading.service.queue.event import QueuedEvent
from lading.service.queue.functions import ServiceFunctions, accepting
from lading.service.queue.store import DurableQueue
from lading.service.registry.access import Logins
from lading.service.registry.app import WithRegistry
from lading.service.registry.distribution import Distribution
from lading.service.registry.ecr_api import EcrApi
from lading.service.registry.registry import LocalRegistry
from lading.service.roots import ImageWay, choose_roots
from lading.service.snapshots import Snapshots
from lading.service.sources.discards import Discards
from lading.service.sources.sources import Service, Sources
from lading.service.stacks.door import StacksDoor
from lading.service.sweep import Sweep
from lading.service.tagging import TaggingApi
from lading.service.triggers.schedules import Schedules
from lading.service.triggers.taker import Triggers


@dataclass(frozen=True)
class Settings:
    """How to serve. `keys` (access key id → secret) are required beyond loopback; given, signatures are verified."""

    host: str = "127.0.0.1"
    port: int = 4566
    state: Path | str = MEMORY
    keys: Mapping[str, str] | None = None
    hosts: frozenset[str] = frozenset()
    """Further names that requests may have in Host and Origin."""
    walls: Walls | None = field(default_factory=Walls)
    """How environments are made; None: functions are kept and not run."""
    neighbours: Mapping[str, str] | None = None
    """None: Lambda alone, which takes any role. Else S3, IAM, SQS, … from this process, or from the URLs given by service."""
    images: ImageWay | None = None
    """How image functions start; None: lazily where this machine can."""
    note: Note | None = None
    """Is told of every request and event."""


def make_front(control: Control, settings: Settings) -> WithRegistry:
    """The application of a control plane. Raises UsageError for an open address without keys."""
    local = is_loopback(settings.host)
    if not local and not settings.keys:
        raise UsageError(
            f"{settings.host} can be reached from other machines, so every request must be signed",
            hint="name the keys that may sign: --keys FILE (one ACCESS_KEY_ID:SECRET a line)",
        )
    gate = Gate(settings.hosts, any_host=not local)
    parts = Parts(control, settings)
    apis, signed = parts.apis(), settings.keys is not None
    urls = FunctionUrls(control, parts.invoker, parts.keyring)
    if parts.invoker is not None:
        admission = Admission(Gate(any_host=True), parts.keyring, signed)
        inside = Front(apis, OwnRoutes(control), urls, admission, note=settings.note)
        # A function's login to the registry is GetAuthorizationToken's, as on AWS, wherever nobody else needs one.
        within = WithRegistry(
            inside, Distribution(parts.registry, parts.strict_logins), Gate(any_host=True), settings.note
        )
        parts.invoker.door = ServiceDoor(connections(within), parts.credentials)
    admission = Admission(gate, parts.keyring, signed)
    front = Front(apis, parts.routes(local=not signed), urls, admission, parts.life(), settings.note)
    return WithRegistry(front, Distribution(parts.registry, parts.logins), gate, settings.note)


class Parts:
    """What a service is made of, beside its control plane."""

    def __init__(self, control: Control, settings: Settings) -> None:
        self.clock = Clock()
        self.events = EventStream()
        self.metrics = Metrics()
        self.events.follow(self.metrics.add, BUT_LOGS)
        if settings.note is not None:
            self.events.follow(settings.note, BUT_LOGS)
        self.neighbours = Neighbours(settings.neighbours) if settings.neighbours is not None else None
        if self.neighbours is not None:
            control.outside = AwsOutside(self.neighbours, runs=settings.walls is not None)
        self.credentials = RoleCredentials(self.neighbours) if self.neighbours is not None else None
        self.keyring = Keyring(settings.keys, self.credentials.find if self.credentials is not None else None)
        self.invoker = (
            PoolInvoker(control, self.events, settings.walls, self.clock.running)
            if settings.walls is not None
            else None
        )
        self.provisioning = Provisioning(control, self.invoker) if self.invoker is not None else None
        self.snapshots = Snapshots(control, self.invoker)
        self.logs = LogKeeper(LogStore(control.packages.folder / "logs.sqlite"), self.events)
        self.registry = LocalRegistry(control.state, control.packages.folder, self.clock.now)
        secret = control.state.secret("registry")
        self.logins = Logins(secret, self.clock.now, required=settings.keys is not None)
        self.strict_logins = Logins(secret, self.clock.now, required=True)
        isolation = settings.walls.isolation if settings.walls is not None else None
        self.announcer = Announcer(self.events)
        folder = control.packages.folder / "images"
        roots = choose_roots(folder, settings.images, isolation, self._left, self.announcer.tell)
        self.images = FunctionImages(self.registry, roots)
        self.images.keep_only_roots_of(control.state.list_everywhere("version"))
        if self.invoker is not None:
            self.invoker.images = self.images
        control.serve_images(self.images)
        self._control = control
        self._settings = settings
        self.queue: Queue | None = None
        sender = Sender(self.neighbours, self.clock.now)
        if self.invoker is not None:
            store = DurableQueue(control.packages.folder / "queue.sqlite")
            functions = ServiceFunctions(control, self.invoker)
            self.queue = Queue(store, functions, sender.send, self.clock, self._count_event)
            sender.accept = self.queue.accept
        self.schedules: Schedules | None = None
        self.triggers = Triggers(control, self.queue, self.events, self.clock, sender.put_now)
        self.subscriptions = Subscriptions(self.logs.store, self.triggers)
        if self.neighbours is not None:
            self.neighbours.takers.append(self.triggers)
            self.schedules = Schedules(self.clock, self.triggers, TURN)
            self.neighbours.watchers.append(self.schedules.see)
        self.sweep = Sweep(
            control,
            self.clock,
            self.invoker.folders if self.invoker is not None else set,
            lambda: self.images.sweep(control.state.list_everywhere("version")),
        )
        self.sources: Sources | None = None
        self.stacks: StacksDoor | None = None
        if self.neighbours is not None:
            service = Service(control, self.invoker, self.neighbours, self.clock, self.events)
            self.sources = Sources(service, Discards(sender.put, self.clock))

    def apis(self) -> dict[str, Api]:
        accept = accepting(self.queue, self.clock.now) if self.queue is not None else None
        apis: dict[str, Api] = {
            "lambda": LambdaApi(self._control, self.invoker, accept),
            "logs": LogsApi(self.logs, self.subscriptions),
        }
        apis["ecr"] = EcrApi(self.registry, self.logins)
        apis["tagging"] = TaggingApi(self._control, self.logs.store, self.neighbours)
        if self.neighbours is None:
            return apis
        own = {name: apis[name] for name in ("lambda", "logs", "ecr")}
        walls = self._settings.walls
        inside = walls is not None and walls.isolation is not Isolation.PROCESS
        where = INSIDE if inside else ""
        self.stacks = StacksDoor(own, self.neighbours, self.keyring.signer, where)
        return {**apis, "cloudformation": self.stacks, **self.neighbours.apis()}

    def _count_event(self, metric: str, event: QueuedEvent) -> None:
        function, age = event.scope.function_arn(event.name), event.age(self.clock.now()) * 1000
        self.events.append(AsyncEvent(time.time(), function, event.id, metric, age))

    def _left(self, folders: tuple[Path, ...]) -> None:
        if self.invoker is not None:
            self.invoker.leave_root(folders)

    def routes(self, *, local: bool) -> OperationRoutes:
        def expire(arn: str) -> None:
            if self.invoker is not None:
                self.invoker.expire(arn)

        state = self._control.state
        functions = functools.partial(list_everything, state)
        controls = Controls(
            self.clock, self.events, self.metrics, self.queue, expire, functions, self.images.metrics
        )  # fmt: skip
        return OperationRoutes(OwnRoutes(self._control), controls, local=local)

    def life(self) -> Life:
        beginning = (
            self.announcer, self.neighbours, self.logs, self.registry, self.invoker, self.queue, self.triggers,
            self.subscriptions, self.schedules, self.provisioning, self.snapshots, self.sources, self.sweep,
            self.stacks,
        )  # fmt: skip
        starting = [part.start for part in beginning if part is not None]
        running = (
            self.stacks, self.sweep, self.sources, self.schedules, self.subscriptions, self.triggers, self.queue,
            self.provisioning, self.snapshots, self.invoker,
        )  # fmt: skip
        ending = (*running, self.images, self.neighbours, self.registry, self.logs)
        closing = [part.close for part in ending if part is not None]
        return Life(starting, closing)


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """A service on a thread of its own while the context lasts; its URL. Everything it accepted is kept when it ends."""
    control = open_control(settings.state)
    with contextlib.closing(control), contextlib.closing(bind(settings.host, settings.port)) as listener:
        server = make_server(make_front(control, settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        port = listener.getsockname()[1]
        thread.start()
        try:
            yield f"http://{settings.host}:{port}"
        finally:
            server.should_exit = True
            thread.join()
