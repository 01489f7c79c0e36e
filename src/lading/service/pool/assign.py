"""The scheduler: which environment gets which request, what is started, throttled, queued and stopped.

Pure: no I/O, no clock (times are given, monotonic seconds). Every call returns the decisions for the pool to carry
out, in order. One per service.
"""

from __future__ import annotations

import itertools

from lading.service.pool.books import Account, Entry, FunctionBook, State, VersionBook, Waiting
from lading.service.pool.decisions import (
    REQUESTS,
    Allocation,
    Decision,
    Promise,
    Reason,
    Run,
    Settings,
    Start,
    Stop,
    Throttle,
)


class Scheduler:
    """All versions and environments of this machine. A version is of a function, a function of an account."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._accounts: dict[str, Account] = {}
        self._functions: dict[str, FunctionBook] = {}
        self._versions: dict[str, VersionBook] = {}
        self._waiting: dict[str, None] = {}
        """Versions with a queue, the longest waiting first."""
        self._environments: dict[int, Entry] = {}
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        queued = sum(len(version.queue) for version in self._versions.values())
        alive = ", ".join(map(repr, self._environments.values()))
        return f"<Scheduler [{alive}], {queued} queued>"

    # What happens outside

    def enter(self, version: str, function: str, account: str = "") -> None:
        """A version is to be known: every other call that names it comes after this one."""
        self._versions.setdefault(version, VersionBook(version, self._function(function, account)))

    def submit(
        self, request: str, version: str, now: float, *, queue: bool = False, metered: bool = True
    ) -> list[Decision]:
        """A request arrived. `queue`: wait for room in place of being throttled. `metered`: the rate of requests counts, too."""
        entry = self._versions[version]
        # what a limit of concurrency refuses doesn't count as a request of this second
        if metered and self._admits(entry) and (too_fast := self._too_fast(entry.function, now)):
            return [Throttle(request, too_fast)]
        waiting = Waiting(request, queue)
        if entry.queue:
            # 1. Others wait already: behind them.
            return self._refuse(waiting, entry, self._room(entry) or Reason.RATE)
        return self._place_or_refuse(waiting, version, now)

    def answered(self, environment: int) -> None:
        """The request of an environment has its answer, and nothing is known that keeps it from being `finished` at once. It
        counts as busy until then."""
        entry = self._environments[environment]
        if entry.promised is None and not entry.retired:
            self._versions[entry.version].answered[environment] = None

    def overdue(self, environment: int, request: str, now: float) -> list[Decision]:
        """A request has waited long enough for the environment that it was promised."""
        entry = self._environments.get(environment)
        if entry is None or entry.promised is None or entry.promised.request != request:
            return []
        waiting, entry.promised = entry.promised, None
        return self._place_or_refuse(waiting, entry.version, now, patient=False)

    def started(self, environment: int, now: float) -> list[Decision]:
        """A provisioned environment finished its init."""
        return self._released(self._environments[environment], now)

    def finished(self, environment: int, now: float, *, alive: bool = True) -> list[Decision]:
        """The request of an environment is through, resets included; `alive` False: the environment is gone."""
        entry = self._environments[environment]
        waiting, entry.promised = entry.promised, None
        self._versions[entry.version].answered.pop(environment, None)
        if alive and waiting is not None and not self._ends(entry, now):
            entry.state, entry.request, entry.used = State.BUSY, waiting.request, now
            return [Run(environment, waiting.request)]
        if alive:
            decisions = self._released(entry, now)
        else:
            self._forget(entry)
            decisions = [*self._provision(entry.version, now), *self._serve_queues(now)]
        if waiting is not None:
            decisions += self._place_or_refuse(waiting, entry.version, now)
        return decisions

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
            environment.version == version and environment.provisioned and environment.state is State.STARTING
            for environment in self._environments.values()
        )
        return Allocation(entry.wanted, entry.provisioned, entry.provisioned - starting)

    def version_of(self, environment: int) -> str:
        return self._environments[environment].version

    def retire(self, version: str) -> list[Decision]:
        """Its environments are of an old revision: idle ones end now, the others after their request."""
        self._versions[version].wanted = 0
        self._versions[version].answered.clear()
        decisions: list[Decision] = []
        for entry in [entry for entry in self._environments.values() if entry.version == version]:
            entry.retired = True
            if entry.state is State.IDLE:
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

    def _place_or_refuse(self, waiting: Waiting, version: str, now: float, *, patient: bool = True) -> list[Decision]:
        """An environment for a request; else it waits, if it can, or is throttled."""
        decisions, refused = self._place(waiting, version, now, patient=patient)
        return decisions if refused is None else [*decisions, *self._refuse(waiting, self._versions[version], refused)]

    def _refuse(self, waiting: Waiting, entry: VersionBook, reason: Reason) -> list[Decision]:
        if not waiting.queue:
            return [Throttle(waiting.request, reason)]
        entry.queue.append(waiting.request)
        self._waiting[entry.name] = None
        return []

    def _place(
        self, waiting: Waiting, version: str, now: float, *, patient: bool = True
    ) -> tuple[list[Decision], Reason | None]:
        """An environment for a request, or why there is none. `patient`: one that is about to be free will do."""
        entry, request = self._versions[version], waiting.request
        refused = self._room(entry)
        # 2. A warm environment: the most recently used, so that the others can go idle.
        if refused is None and entry.idle:
            number, _ = entry.idle.popitem()
            environment = self._environments[number]
            environment.state, environment.request = State.BUSY, request
            entry.count(busy=1)
            return [Run(number, request)], None
        # 3. One that has answered and is about to be free: it counts as busy until then, and afterwards again.
        if patient and entry.promises:
            number = next(iter(entry.answered))
            del entry.answered[number]
            self._environments[number].promised = waiting
            return [Promise(number, request)], None
        # 4. A limit of the function or of the account is reached.
        if refused is not None:
            return [], refused
        # 5. No token left to start another.
        if not self._take_token(entry.function, now):
            return [], Reason.RATE
        # 6. A new one, in place of the longest unused if the machine is full.
        decisions = self._make_room()
        if decisions is None:
            return [], Reason.ACCOUNT
        environment = self._add(version, request, now, provisioned=False)
        return [*decisions, Start(environment.number, version, request)], None

    def _admits(self, entry: VersionBook) -> bool:
        """Whether no limit of concurrency keeps one more request out."""
        return self._room(entry) is None or entry.promises

    def _room(self, entry: VersionBook) -> Reason | None:
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

    def _too_fast(self, entry: FunctionBook, now: float) -> Reason | None:
        """None when one more request may come in this second."""
        share = entry.account
        if entry.reserved is not None:
            most = REQUESTS * entry.reserved
            # of no concurrency at all the other limit tells
            return None if not most or entry.requests.take(most, most, now) else Reason.RESERVED_REQUESTS
        most = REQUESTS * (self._settings.account - share.reserved)
        return None if most <= 0 or share.requests.take(most, most, now) else Reason.ACCOUNT_REQUESTS

    def _take_token(self, entry: FunctionBook, now: float) -> bool:
        settings = self._settings
        return entry.starts.take(settings.burst, settings.burst / settings.burst_seconds, now)

    def _make_room(self) -> list[Decision] | None:
        """Stop the longest unused environment if the machine is full; None when none can be stopped."""
        if len(self._environments) < self._settings.alive:
            return []
        idle = [e for e in self._environments.values() if e.state is State.IDLE and not e.provisioned]
        if not idle:
            return None
        return [self._stop(min(idle, key=lambda entry: entry.used))]

    def _released(self, entry: Entry, now: float) -> list[Decision]:
        """An environment has nothing to do any more."""
        version = self._versions[entry.version]
        if entry.request is not None:
            version.count(busy=-1)
        entry.state, entry.request, entry.used = State.IDLE, None, now
        version.idle[entry.number] = None
        decisions: list[Decision] = [self._stop(entry)] if self._ends(entry, now) else []
        return [*decisions, *self._provision(entry.version, now), *self._serve_queues(now)]

    def _ends(self, entry: Entry, now: float) -> bool:
        """Whether an environment serves no more requests."""
        version = self._versions[entry.version]
        surplus = entry.provisioned and version.provisioned > version.wanted
        return entry.retired or surplus or self._too_old(entry, now)

    def _serve_queues(self, now: float) -> list[Decision]:
        """Whoever waits, first come first served within a version."""
        decisions: list[Decision] = []
        for name in list(self._waiting):
            queue = self._versions[name].queue
            while queue:
                placed, refused = self._place(Waiting(queue[0], queue=True), name, now)
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

    def _too_old(self, entry: Entry, now: float) -> bool:
        return now - entry.made >= self._settings.lifetime

    # Keeping the books

    def _function(self, name: str, account: str) -> FunctionBook:
        known = self._functions.get(name)
        if known is None:
            share = self._accounts.setdefault(account, Account())
            known = self._functions[name] = FunctionBook(share)
        return known

    def _add(self, version: str, request: str | None, now: float, *, provisioned: bool) -> Entry:
        environment = Entry(next(self._numbers), version, State.STARTING, request, provisioned, now, now)
        self._environments[environment.number] = environment
        entry = self._versions[version]
        entry.alive += 1
        entry.count(busy=int(request is not None), provisioned=int(provisioned))
        return environment

    def _stop(self, entry: Entry) -> Stop:
        self._forget(entry)
        return Stop(entry.number)

    def _forget(self, entry: Entry) -> None:
        version = self._versions[entry.version]
        del self._environments[entry.number]
        version.idle.pop(entry.number, None)
        version.answered.pop(entry.number, None)
        version.alive -= 1
        version.count(busy=-int(entry.request is not None), provisioned=-int(entry.provisioned))
