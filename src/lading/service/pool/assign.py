"""The scheduler: which environment gets which request, what is started, throttled, queued and stopped.

Pure: no I/O, no clock (times are given, monotonic seconds). Every call returns the decisions for the pool to carry
out, in order. One per service.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import Enum

ACCOUNT_CONCURRENCY = 1000
BURST = 1000
"""Environments that a function may start at once …"""
BURST_SECONDS = 10.0
"""… and again in every period of so many seconds (Lambda function scaling, 2023)."""
IDLE_SECONDS = 600.0
"""How long an unused environment is kept here. AWS doesn't say."""


class Reason(Enum):
    """Why a request is throttled: `Reason` in AWS's TooManyRequestsException."""

    RESERVED = "ReservedFunctionConcurrentInvocationLimitExceeded"
    ACCOUNT = "ConcurrentInvocationLimitExceeded"
    RATE = "FunctionInvocationRateLimitExceeded"


@dataclass(frozen=True)
class Start:
    """Start an environment, then run the request in it; without a request it is provisioned: report it `started`."""

    environment: int
    function: str
    request: str | None


@dataclass(frozen=True)
class Run:
    """Run the request in an environment that is warm."""

    environment: int
    request: str


@dataclass(frozen=True)
class Throttle:
    request: str
    reason: Reason


@dataclass(frozen=True)
class Stop:
    """End an environment that does nothing."""

    environment: int


Decision = Start | Run | Throttle | Stop


@dataclass(frozen=True)
class Concurrency:
    """What is set on a function. `reserved` None: it shares the account's."""

    reserved: int | None = None
    provisioned: int = 0


class _State(Enum):
    STARTING = "starting"
    BUSY = "busy"
    IDLE = "idle"


@dataclass
class _Environment:
    number: int
    function: str
    state: _State
    request: str | None
    provisioned: bool
    used: float
    retired: bool = False

    def __repr__(self) -> str:
        what = f" {self.request}" if self.request else ""
        return f"{self.number} {self.function} {self.state.value}{what}{' provisioned' if self.provisioned else ''}"


@dataclass
class _Function:
    """The scheduler's view of one function: its idle environments in order of use, its queue, its start tokens."""

    concurrency: Concurrency = Concurrency()
    busy: int = 0
    provisioned: int = 0
    idle: OrderedDict[int, None] = field(default_factory=OrderedDict)
    queue: deque[str] = field(default_factory=deque)
    tokens: float = BURST
    refilled: float | None = None


@dataclass(frozen=True)
class Settings:
    """Limits of the account and of this machine."""

    account: int = ACCOUNT_CONCURRENCY
    burst: int = BURST
    burst_seconds: float = BURST_SECONDS
    idle: float = IDLE_SECONDS
    alive: int = 4000
    """Environments that exist at once: beyond it the longest unused one makes room."""


class Scheduler:
    """All functions and environments of one account on one machine."""

    def __init__(self, settings: Settings = Settings()) -> None:
        self._settings = settings
        self._functions: dict[str, _Function] = {}
        self._environments: dict[int, _Environment] = {}
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        queued = sum(len(function.queue) for function in self._functions.values())
        alive = ", ".join(map(repr, self._environments.values()))
        return f"<Scheduler [{alive}], {queued} queued>"

    # What happens outside

    def submit(self, request: str, function: str, now: float, *, queue: bool = False) -> list[Decision]:
        """A request arrived. `queue`: wait for room in place of being throttled."""
        entry = self._function(function)
        if entry.queue:
            # 1. Others wait already: behind them.
            refused: Reason | None = self._room(function) or Reason.RATE
            decisions: list[Decision] = []
        else:
            decisions, refused = self._place(request, function, now)
        if refused is None:
            return decisions
        if queue:
            entry.queue.append(request)
            return decisions
        return [*decisions, Throttle(request, refused)]

    def started(self, environment: int, now: float) -> list[Decision]:
        """A provisioned environment finished its init."""
        return self._released(self._environments[environment], now)

    def finished(self, environment: int, now: float, *, alive: bool = True) -> list[Decision]:
        """The request of an environment is through, resets included; `alive` False: the environment is gone."""
        entry = self._environments[environment]
        if not alive:
            self._forget(entry)
            return [*self._provision(entry.function, now), *self._serve_queues(now)]
        return self._released(entry, now)

    def configure(self, function: str, concurrency: Concurrency, now: float) -> list[Decision]:
        """Set reserved and provisioned concurrency; what is missing starts, what is too much ends when idle."""
        self._function(function).concurrency = concurrency
        return [*self._provision(function, now), *self._serve_queues(now)]

    def retire(self, function: str) -> list[Decision]:
        """Its environments are of an old revision: idle ones end now, the others after their request."""
        decisions: list[Decision] = []
        for entry in [entry for entry in self._environments.values() if entry.function == function]:
            entry.retired = True
            if entry.state is _State.IDLE:
                decisions.append(self._stop(entry))
        return decisions

    def cancel(self, request: str, function: str) -> bool:
        """A queued request is not wanted any more; False when it isn't queued."""
        try:
            self._function(function).queue.remove(request)
        except ValueError:
            return False
        return True

    def tick(self, now: float) -> list[Decision]:
        """Time went by: end what was idle too long, start what had to wait for tokens."""
        decisions: list[Decision] = []
        for function in self._functions.values():
            for number in list(function.idle):
                entry = self._environments[number]
                if now - entry.used < self._settings.idle:
                    break
                if not entry.provisioned:
                    decisions.append(self._stop(entry))
        return [*decisions, *self._serve_queues(now)]

    # Deciding

    def _place(self, request: str, function: str, now: float) -> tuple[list[Decision], Reason | None]:
        """An environment for a request, or why there is none."""
        entry = self._function(function)
        # 2. A limit of the function or of the account is reached.
        refused = self._room(function)
        if refused is not None:
            return [], refused
        # 3. A warm environment: the most recently used, so that the others can go idle.
        if entry.idle:
            number, _ = entry.idle.popitem()
            environment = self._environments[number]
            environment.state, environment.request = _State.BUSY, request
            entry.busy += 1
            return [Run(number, request)], None
        # 4. No token left to start another.
        if not self._take_token(entry, now):
            return [], Reason.RATE
        # 5. A new one, in place of the longest unused if the machine is full.
        decisions = self._make_room()
        if decisions is None:
            return [], Reason.ACCOUNT
        entry.busy += 1
        environment = self._add(function, request, now, provisioned=False)
        return [*decisions, Start(environment.number, function, request)], None

    def _room(self, function: str) -> Reason | None:
        """None when one more request may run at once."""
        entry = self._function(function)
        reserved = entry.concurrency.reserved
        if reserved is not None:
            return Reason.RESERVED if entry.busy >= reserved else None
        if entry.busy < entry.provisioned:
            return None
        return Reason.ACCOUNT if self._shared_use() >= self._shared_limit() else None

    def _shared_limit(self) -> int:
        return self._settings.account - sum(f.concurrency.reserved or 0 for f in self._functions.values())

    def _shared_use(self) -> int:
        """What functions without a reservation use: provisioned counts even where it does nothing."""
        shared = (f for f in self._functions.values() if f.concurrency.reserved is None)
        return sum(max(f.busy, f.provisioned) for f in shared)

    def _take_token(self, entry: _Function, now: float) -> bool:
        settings = self._settings
        if entry.refilled is None:
            entry.tokens = settings.burst
        else:
            gained = (now - entry.refilled) * settings.burst / settings.burst_seconds
            entry.tokens = min(float(settings.burst), entry.tokens + max(0.0, gained))
        entry.refilled = now
        if entry.tokens < 1:
            return False
        entry.tokens -= 1
        return True

    def _make_room(self) -> list[Decision] | None:
        """Stop the longest unused environment if the machine is full; None when none can be stopped."""
        if len(self._environments) < self._settings.alive:
            return []
        idle = [e for e in self._environments.values() if e.state is _State.IDLE and not e.provisioned]
        if not idle:
            return None
        return [self._stop(min(idle, key=lambda entry: entry.used))]

    def _released(self, entry: _Environment, now: float) -> list[Decision]:
        """An environment has nothing to do any more."""
        function = self._function(entry.function)
        if entry.request is not None:
            function.busy -= 1
        entry.state, entry.request, entry.used = _State.IDLE, None, now
        function.idle[entry.number] = None
        surplus = entry.provisioned and function.provisioned > function.concurrency.provisioned
        decisions: list[Decision] = [self._stop(entry)] if entry.retired or surplus else []
        return [*decisions, *self._provision(entry.function, now), *self._serve_queues(now)]

    def _serve_queues(self, now: float) -> list[Decision]:
        """Whoever waits, first come first served within a function."""
        decisions: list[Decision] = []
        for name, function in self._functions.items():
            while function.queue:
                placed, refused = self._place(function.queue[0], name, now)
                decisions += placed
                if refused is not None:
                    break
                function.queue.popleft()
        return decisions

    def _provision(self, function: str, now: float) -> list[Decision]:
        """Bring the number of provisioned environments to what is set."""
        entry = self._function(function)
        decisions: list[Decision] = []
        while entry.provisioned < entry.concurrency.provisioned:
            made = self._make_room()
            if made is None:
                break
            environment = self._add(function, None, now, provisioned=True)
            decisions += [*made, Start(environment.number, function, None)]
        for number in list(entry.idle):
            if entry.provisioned <= entry.concurrency.provisioned:
                break
            if self._environments[number].provisioned:
                decisions.append(self._stop(self._environments[number]))
        return decisions

    # Keeping the books

    def _function(self, name: str) -> _Function:
        return self._functions.setdefault(name, _Function())

    def _add(self, function: str, request: str | None, now: float, *, provisioned: bool) -> _Environment:
        environment = _Environment(next(self._numbers), function, _State.STARTING, request, provisioned, now)
        self._environments[environment.number] = environment
        self._function(function).provisioned += provisioned
        return environment

    def _stop(self, entry: _Environment) -> Stop:
        self._forget(entry)
        return Stop(entry.number)

    def _forget(self, entry: _Environment) -> None:
        function = self._function(entry.function)
        del self._environments[entry.number]
        function.idle.pop(entry.number, None)
        function.provisioned -= entry.provisioned
        if entry.request is not None:
            function.busy -= 1
