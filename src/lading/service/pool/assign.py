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
REQUESTS = 10
"""Synchronous requests per second for each unit of concurrency (Lambda quotas, "Invocation requests per … Region")."""
LIFETIME_SECONDS = 2400.0
"""Age from which an environment takes no more requests: its credentials hold an hour, its longest invoke 15 minutes."""
IDLE_SECONDS = 600.0
"""How long an unused environment is kept here. AWS doesn't say."""


class Reason(Enum):
    """Why a request is throttled: `Reason` in AWS's TooManyRequestsException."""

    RESERVED = "ReservedFunctionConcurrentInvocationLimitExceeded"
    ACCOUNT = "ConcurrentInvocationLimitExceeded"
    RATE = "FunctionInvocationRateLimitExceeded"
    """Environments were wanted faster than a function may start them."""
    RESERVED_REQUESTS = "ReservedFunctionInvocationRateLimitExceeded"
    ACCOUNT_REQUESTS = "CallerRateLimitExceeded"
    """More requests per second than concurrency allows. AWS names these reasons and explains none: the choice is ours."""


@dataclass(frozen=True)
class Start:
    """Start an environment, then run the request in it; without a request it is provisioned: report it `started`."""

    environment: int
    version: str
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
class Allocation:
    """A version's provisioned environments: how many are wanted, how many there are, how many of them are initialized."""

    wanted: int
    allocated: int
    available: int


class _State(Enum):
    STARTING = "starting"
    BUSY = "busy"
    IDLE = "idle"


@dataclass
class _Environment:
    number: int
    version: str
    state: _State
    request: str | None
    provisioned: bool
    made: float
    used: float
    retired: bool = False

    def __repr__(self) -> str:
        what = f" {self.request}" if self.request else ""
        return f"{self.number} {self.version} {self.state.value}{what}{' provisioned' if self.provisioned else ''}"


@dataclass
class _Bucket:
    """Tokens that come back at a steady rate, up to the most there may be. Full at first."""

    tokens: float = 0.0
    at: float | None = None

    def take(self, most: float, rate: float, now: float) -> bool:
        gained = most if self.at is None else max(0.0, now - self.at) * rate
        self.tokens = min(most, self.tokens + gained)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class _Account:
    """What the functions of one account and region share."""

    reserved: int = 0
    """The sum of its functions' reservations."""
    used: int = 0
    """What its functions without a reservation use."""
    requests: _Bucket = field(default_factory=_Bucket)


@dataclass
class _Function:
    """All versions of a function together: its reservation, what they use of it, and its start tokens."""

    account: _Account
    reserved: int | None = None
    used: int = 0
    """Over its versions the larger of busy and provisioned: provisioned counts even where it does nothing."""
    starts: _Bucket = field(default_factory=_Bucket)
    requests: _Bucket = field(default_factory=_Bucket)


@dataclass
class _Version:
    """The scheduler's view of one version: its idle environments in order of use, its queue."""

    function: _Function
    wanted: int = 0
    """Provisioned environments that are asked for."""
    busy: int = 0
    provisioned: int = 0
    alive: int = 0
    idle: OrderedDict[int, None] = field(default_factory=OrderedDict)
    queue: deque[str] = field(default_factory=deque)

    @property
    def empty(self) -> bool:
        """Whether it can be forgotten."""
        return not (self.wanted or self.alive or self.queue)

    def count(self, *, busy: int = 0, provisioned: int = 0) -> None:
        """Change the counts, and what the function and the account use by them."""
        before = max(self.busy, self.provisioned)
        self.busy += busy
        self.provisioned += provisioned
        gained = max(self.busy, self.provisioned) - before
        self.function.used += gained
        if self.function.reserved is None:
            self.function.account.used += gained


@dataclass(frozen=True)
class Settings:
    """Limits of the account and of this machine."""

    account: int = ACCOUNT_CONCURRENCY
    burst: int = BURST
    burst_seconds: float = BURST_SECONDS
    idle: float = IDLE_SECONDS
    lifetime: float = LIFETIME_SECONDS
    alive: int = 4000
    """Environments that exist at once: beyond it the longest unused one makes room."""


class Scheduler:
    """All versions and environments of this machine. A version is of a function, a function of an account."""

    def __init__(self, settings: Settings = Settings()) -> None:
        self._settings = settings
        self._accounts: dict[str, _Account] = {}
        self._functions: dict[str, _Function] = {}
        self._versions: dict[str, _Version] = {}
        self._waiting: dict[str, None] = {}
        """Versions with a queue, the longest waiting first."""
        self._environments: dict[int, _Environment] = {}
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        queued = sum(len(version.queue) for version in self._versions.values())
        alive = ", ".join(map(repr, self._environments.values()))
        return f"<Scheduler [{alive}], {queued} queued>"

    # What happens outside

    def enter(self, version: str, function: str, account: str = "") -> None:
        """A version is to be known: every other call that names it comes after this one."""
        self._versions.setdefault(version, _Version(self._function(function, account)))

    def submit(
        self, request: str, version: str, now: float, *, queue: bool = False, metered: bool = True
    ) -> list[Decision]:
        """A request arrived. `queue`: wait for room in place of being throttled. `metered`: the rate of requests counts, too."""
        entry = self._versions[version]
        # what a limit of concurrency refuses doesn't count as a request of this second
        if metered and self._room(entry) is None and (too_fast := self._too_fast(entry.function, now)):
            return [Throttle(request, too_fast)]
        if entry.queue:
            # 1. Others wait already: behind them.
            refused: Reason | None = self._room(entry) or Reason.RATE
            decisions: list[Decision] = []
        else:
            decisions, refused = self._place(request, version, now)
        if refused is None:
            return decisions
        if queue:
            entry.queue.append(request)
            self._waiting[version] = None
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
            return [*self._provision(entry.version, now), *self._serve_queues(now)]
        return self._released(entry, now)

    def reserve(self, function: str, reserved: int | None, now: float, *, account: str = "") -> list[Decision]:
        """What a function's versions may use together; None: it shares what its account has left."""
        entry = self._function(function, account)
        share = entry.account
        if entry.reserved is None:
            share.used -= entry.used
        else:
            share.reserved -= entry.reserved
        entry.reserved = reserved
        if reserved is None:
            share.used += entry.used
        else:
            share.reserved += reserved
        return self._serve_queues(now)

    def provision(self, version: str, wanted: int, now: float) -> list[Decision]:
        """Set a version's provisioned environments; what is missing starts, what is too much ends when idle."""
        self._versions[version].wanted = wanted
        return [*self._provision(version, now), *self._serve_queues(now)]

    def allocation(self, version: str) -> Allocation:
        """How far a version's provisioned environments are."""
        entry = self._versions[version]
        starting = sum(
            environment.version == version and environment.provisioned and environment.state is _State.STARTING
            for environment in self._environments.values()
        )
        return Allocation(entry.wanted, entry.provisioned, entry.provisioned - starting)

    def version_of(self, environment: int) -> str:
        return self._environments[environment].version

    def retire(self, version: str) -> list[Decision]:
        """Its environments are of an old revision: idle ones end now, the others after their request."""
        self._versions[version].wanted = 0
        decisions: list[Decision] = []
        for entry in [entry for entry in self._environments.values() if entry.version == version]:
            entry.retired = True
            if entry.state is _State.IDLE:
                decisions.append(self._stop(entry))
        return decisions

    def cancel(self, request: str, version: str) -> bool:
        """A queued request is not wanted any more; False when it isn't queued."""
        entry = self._versions.get(version)
        try:
            if entry is None:
                return False
            entry.queue.remove(request)
        except ValueError:
            return False
        return True

    def tick(self, now: float) -> list[Decision]:
        """Time went by: end what was idle too long or is too old, start what had to wait for tokens."""
        decisions: list[Decision] = []
        for name, version in self._versions.items():
            for number in list(version.idle):
                entry = self._environments[number]
                unused = not entry.provisioned and now - entry.used >= self._settings.idle
                if unused or self._too_old(entry, now):
                    decisions.append(self._stop(entry))
            decisions += self._provision(name, now)
        return [*decisions, *self._serve_queues(now)]

    def forget_empty(self) -> list[str]:
        """The versions that had nothing any more, now unknown."""
        empty = [name for name, version in self._versions.items() if version.empty]
        for name in empty:
            del self._versions[name]
            self._waiting.pop(name, None)
        return empty

    # Deciding

    def _place(self, request: str, version: str, now: float) -> tuple[list[Decision], Reason | None]:
        """An environment for a request, or why there is none."""
        entry = self._versions[version]
        # 2. A limit of the function or of the account is reached.
        refused = self._room(entry)
        if refused is not None:
            return [], refused
        # 3. A warm environment: the most recently used, so that the others can go idle.
        if entry.idle:
            number, _ = entry.idle.popitem()
            environment = self._environments[number]
            environment.state, environment.request = _State.BUSY, request
            entry.count(busy=1)
            return [Run(number, request)], None
        # 4. No token left to start another.
        if not self._take_token(entry.function, now):
            return [], Reason.RATE
        # 5. A new one, in place of the longest unused if the machine is full.
        decisions = self._make_room()
        if decisions is None:
            return [], Reason.ACCOUNT
        environment = self._add(version, request, now, provisioned=False)
        return [*decisions, Start(environment.number, version, request)], None

    def _room(self, entry: _Version) -> Reason | None:
        """None when one more request may run at once."""
        function = entry.function
        if function.reserved == 0:
            return Reason.RESERVED
        if entry.busy < entry.provisioned:
            return None
        if function.reserved is not None:
            return Reason.RESERVED if function.used >= function.reserved else None
        share = function.account
        return Reason.ACCOUNT if share.used >= self._settings.account - share.reserved else None

    def _too_fast(self, entry: _Function, now: float) -> Reason | None:
        """None when one more request may come in this second."""
        share = entry.account
        if entry.reserved is not None:
            most = REQUESTS * entry.reserved
            # of no concurrency at all the other limit tells
            return None if not most or entry.requests.take(most, most, now) else Reason.RESERVED_REQUESTS
        most = REQUESTS * (self._settings.account - share.reserved)
        return None if most <= 0 or share.requests.take(most, most, now) else Reason.ACCOUNT_REQUESTS

    def _take_token(self, entry: _Function, now: float) -> bool:
        settings = self._settings
        return entry.starts.take(settings.burst, settings.burst / settings.burst_seconds, now)

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
        version = self._versions[entry.version]
        if entry.request is not None:
            version.count(busy=-1)
        entry.state, entry.request, entry.used = _State.IDLE, None, now
        version.idle[entry.number] = None
        surplus = entry.provisioned and version.provisioned > version.wanted
        ends = entry.retired or surplus or self._too_old(entry, now)
        decisions: list[Decision] = [self._stop(entry)] if ends else []
        return [*decisions, *self._provision(entry.version, now), *self._serve_queues(now)]

    def _serve_queues(self, now: float) -> list[Decision]:
        """Whoever waits, first come first served within a version."""
        decisions: list[Decision] = []
        for name in list(self._waiting):
            queue = self._versions[name].queue
            while queue:
                placed, refused = self._place(queue[0], name, now)
                decisions += placed
                if refused is not None:
                    break
                queue.popleft()
            if not queue:
                del self._waiting[name]
        return decisions

    def _provision(self, version: str, now: float) -> list[Decision]:
        """Bring the number of provisioned environments to what is set."""
        entry = self._versions[version]
        decisions: list[Decision] = []
        while entry.provisioned < entry.wanted:
            made = self._make_room()
            if made is None:
                break
            environment = self._add(version, None, now, provisioned=True)
            decisions += [*made, Start(environment.number, version, None)]
        for number in list(entry.idle):
            if entry.provisioned <= entry.wanted:
                break
            if self._environments[number].provisioned:
                decisions.append(self._stop(self._environments[number]))
        return decisions

    def _too_old(self, entry: _Environment, now: float) -> bool:
        return now - entry.made >= self._settings.lifetime

    # Keeping the books

    def _function(self, name: str, account: str) -> _Function:
        known = self._functions.get(name)
        if known is None:
            share = self._accounts.setdefault(account, _Account())
            known = self._functions[name] = _Function(share)
        return known

    def _add(self, version: str, request: str | None, now: float, *, provisioned: bool) -> _Environment:
        environment = _Environment(next(self._numbers), version, _State.STARTING, request, provisioned, now, now)
        self._environments[environment.number] = environment
        entry = self._versions[version]
        entry.alive += 1
        entry.count(busy=int(request is not None), provisioned=int(provisioned))
        return environment

    def _stop(self, entry: _Environment) -> Stop:
        self._forget(entry)
        return Stop(entry.number)

    def _forget(self, entry: _Environment) -> None:
        version = self._versions[entry.version]
        del self._environments[entry.number]
        version.idle.pop(entry.number, None)
        version.alive -= 1
        version.count(busy=-int(entry.request is not None), provisioned=-int(entry.provisioned))
