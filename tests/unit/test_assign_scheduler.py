"""The scheduler: each case by example, then random schedules that may break no rule."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lading.service.pool.assign import Scheduler
from lading.service.pool.decisions import (
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


def made(settings: Settings | None = None) -> Scheduler:
    """One that knows a version of each of some functions, named like it."""
    scheduler = Scheduler(settings or Settings())
    for name in "fghij":
        scheduler.enter(name, name)
    return scheduler


def test_the_first_request_starts_an_environment_and_the_next_reuses_it() -> None:
    scheduler = made()
    assert scheduler.submit("a", "f", 0) == [Start(1, "f", "a")]
    assert scheduler.finished(1, 1) == []
    assert scheduler.submit("b", "f", 2) == [Run(1, "b")]


def test_an_environment_that_is_too_old_ends_idle_or_after_its_request() -> None:
    scheduler = made(Settings(lifetime=100))
    scheduler.submit("a", "f", 0)
    assert scheduler.finished(1, 99) == []
    scheduler.submit("b", "f", 99)
    assert scheduler.finished(1, 100) == [Stop(1)]
    scheduler.submit("c", "f", 100)
    scheduler.finished(2, 150)
    assert scheduler.tick(199) == []
    assert scheduler.tick(200) == [Stop(2)]
    assert scheduler.submit("d", "f", 200) == [Start(3, "f", "d")]


def test_a_provisioned_environment_that_is_too_old_is_replaced() -> None:
    scheduler = made(Settings(lifetime=100))
    assert scheduler.provision("f", 1, 0) == [Start(1, "f", None)]
    scheduler.started(1, 1)
    assert scheduler.tick(100) == [Stop(1), Start(2, "f", None)]


def test_the_most_recently_used_is_taken() -> None:
    scheduler = made()
    scheduler.submit("a", "f", 0)
    scheduler.submit("b", "f", 0)
    scheduler.finished(2, 1)
    scheduler.finished(1, 2)
    assert scheduler.submit("c", "f", 3) == [Run(1, "c")]


def test_environments_of_another_function_are_not_taken() -> None:
    scheduler = made()
    scheduler.submit("a", "f", 0)
    scheduler.finished(1, 1)
    assert scheduler.submit("b", "g", 2) == [Start(2, "g", "b")]


def test_reserved_concurrency_throttles() -> None:
    scheduler = made()
    scheduler.reserve("f", 1, 0)
    scheduler.submit("a", "f", 0)
    assert scheduler.submit("b", "f", 0) == [Throttle("b", Reason.RESERVED)]


def test_reserved_zero_throttles_everything() -> None:
    scheduler = made()
    scheduler.reserve("f", 0, 0)
    assert scheduler.submit("a", "f", 0) == [Throttle("a", Reason.RESERVED)]


def test_a_reservation_is_taken_from_what_the_others_share() -> None:
    scheduler = made(Settings(account=3))
    scheduler.reserve("f", 2, 0)
    assert scheduler.submit("a", "g", 0) == [Start(1, "g", "a")]
    assert scheduler.submit("b", "g", 0) == [Throttle("b", Reason.ACCOUNT)]
    assert scheduler.submit("c", "f", 0) == [Start(2, "f", "c")]


def test_a_queued_request_runs_when_there_is_room() -> None:
    scheduler = made()
    scheduler.reserve("f", 1, 0)
    scheduler.submit("a", "f", 0, queue=True)
    assert scheduler.submit("b", "f", 0, queue=True) == []
    assert scheduler.finished(1, 1) == [Run(1, "b")]


def test_a_cancelled_request_does_not_run() -> None:
    scheduler = made()
    scheduler.reserve("f", 1, 0)
    scheduler.submit("a", "f", 0)
    scheduler.submit("b", "f", 0, queue=True)
    assert scheduler.cancel("b", "f")
    assert not scheduler.cancel("b", "f")
    assert scheduler.finished(1, 1) == []


def test_the_burst_is_limited_and_refills() -> None:
    scheduler = made(Settings(burst=2, burst_seconds=10))
    scheduler.submit("a", "f", 0)
    scheduler.submit("b", "f", 0)
    assert scheduler.submit("c", "f", 0) == [Throttle("c", Reason.RATE)]
    assert scheduler.submit("d", "f", 5) == [Start(3, "f", "d")]


def test_what_waits_for_a_token_starts_at_a_tick() -> None:
    scheduler = made(Settings(burst=1, burst_seconds=10))
    scheduler.submit("a", "f", 0)
    assert scheduler.submit("b", "f", 0, queue=True) == []
    assert scheduler.tick(5) == []
    assert scheduler.tick(10) == [Start(2, "f", "b")]


def test_synchronous_requests_come_at_ten_a_second_for_each_unit_of_concurrency() -> None:
    scheduler = made()
    scheduler.reserve("f", 1, 0)
    for number in range(10):
        [decision] = scheduler.submit(f"a{number}", "f", 0)
        assert isinstance(decision, Start | Run)
        scheduler.finished(1, 0)
    assert scheduler.submit("b", "f", 0) == [Throttle("b", Reason.RESERVED_REQUESTS)]
    assert scheduler.submit("c", "f", 0, metered=False) == [Run(1, "c")]
    scheduler.finished(1, 0)
    assert scheduler.submit("d", "f", 0.1) == [Run(1, "d")]


def test_functions_without_a_reservation_share_the_accounts_rate() -> None:
    scheduler = made(Settings(account=3))
    scheduler.reserve("h", 2, 0)
    for number in range(10):
        [decision] = scheduler.submit(f"a{number}", "fg"[number % 2], 0)
        assert isinstance(decision, Start | Run)
        scheduler.finished(decision.environment, 0)
    assert scheduler.submit("b", "f", 0) == [Throttle("b", Reason.ACCOUNT_REQUESTS)]
    assert isinstance(scheduler.submit("c", "h", 0)[0], Start)


@given(pauses=st.lists(st.floats(0, 0.3), max_size=120), reserved=st.integers(1, 3))
def test_no_schedule_gets_more_than_the_rate_and_a_slow_one_all(pauses: list[float], reserved: int) -> None:
    scheduler = made()
    scheduler.reserve("f", reserved, 0)
    most, now, taken = 10 * reserved, 0.0, list[float]()
    for number, pause in enumerate(pauses):
        now += pause
        [decision] = scheduler.submit(f"r{number}", "f", now)
        if isinstance(decision, Start | Run):
            taken.append(now)
            scheduler.finished(decision.environment, now)
        else:
            assert decision == Throttle(f"r{number}", Reason.RESERVED_REQUESTS)
            assert pause < 1 / most, "it came no faster than the rate"
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= most + (taken[last] - begin) * most + 1e-6


def test_idle_environments_end() -> None:
    scheduler = made(Settings(idle=60))
    scheduler.submit("a", "f", 0)
    scheduler.finished(1, 10)
    assert scheduler.tick(69) == []
    assert scheduler.tick(70) == [Stop(1)]
    assert scheduler.submit("b", "f", 71) == [Start(2, "f", "b")]


def test_provisioned_environments_start_ahead_and_stay() -> None:
    scheduler = made(Settings(idle=60))
    assert scheduler.provision("f", 2, 0) == [Start(1, "f", None), Start(2, "f", None)]
    assert scheduler.started(1, 1) == []
    assert scheduler.started(2, 1) == []
    assert scheduler.tick(1000) == []
    assert scheduler.submit("a", "f", 1001) == [Run(2, "a")]
    assert scheduler.provision("f", 0, 1002) == [Stop(1)]
    assert scheduler.finished(2, 1003) == [Stop(2)]


def test_a_lost_provisioned_environment_is_replaced() -> None:
    scheduler = made()
    scheduler.provision("f", 1, 0)
    scheduler.started(1, 1)
    scheduler.submit("a", "f", 2)
    assert scheduler.finished(1, 3, alive=False) == [Start(2, "f", None)]


def test_a_retired_environment_ends_after_its_request() -> None:
    scheduler = made()
    scheduler.submit("a", "f", 0)
    scheduler.submit("b", "f", 0)
    scheduler.finished(2, 1)
    assert scheduler.retire("f") == [Stop(2)]
    assert scheduler.finished(1, 2) == [Stop(1)]


def test_a_reservation_holds_over_all_versions_of_a_function() -> None:
    scheduler = Scheduler()
    scheduler.enter("f:1", "f")
    scheduler.enter("f:2", "f")
    scheduler.reserve("f", 2, 0)
    assert scheduler.submit("a", "f:1", 0) == [Start(1, "f:1", "a")]
    assert scheduler.submit("b", "f:2", 0) == [Start(2, "f:2", "b")]
    assert scheduler.submit("c", "f:1", 0) == [Throttle("c", Reason.RESERVED)]
    assert scheduler.submit("d", "f:2", 0) == [Throttle("d", Reason.RESERVED)]
    scheduler.finished(1, 1)
    assert scheduler.submit("e", "f:2", 1) == [Start(3, "f:2", "e")]


def test_what_waits_for_one_version_runs_when_another_is_through() -> None:
    scheduler = Scheduler()
    scheduler.enter("f:1", "f")
    scheduler.enter("f:2", "f")
    scheduler.reserve("f", 1, 0)
    scheduler.submit("a", "f:1", 0)
    assert scheduler.submit("b", "f:2", 0, queue=True) == []
    assert scheduler.finished(1, 1) == [Start(2, "f:2", "b")]


def test_provisioned_environments_take_their_share_of_a_reservation() -> None:
    scheduler = Scheduler()
    scheduler.enter("f:1", "f")
    scheduler.enter("f:2", "f")
    scheduler.reserve("f", 3, 0)
    scheduler.provision("f:1", 2, 0)
    assert scheduler.submit("a", "f:2", 0) == [Start(3, "f:2", "a")]
    assert scheduler.submit("b", "f:2", 0) == [Throttle("b", Reason.RESERVED)]
    scheduler.started(1, 1)
    assert scheduler.submit("c", "f:1", 1) == [Run(1, "c")]


def test_accounts_share_nothing() -> None:
    scheduler = Scheduler(Settings(account=1))
    scheduler.enter("f:1", "f", "one")
    scheduler.enter("g:1", "g", "one")
    scheduler.enter("h:1", "h", "two")
    scheduler.submit("a", "f:1", 0)
    assert scheduler.submit("b", "g:1", 0) == [Throttle("b", Reason.ACCOUNT)]
    assert scheduler.submit("c", "h:1", 0) == [Start(2, "h:1", "c")]


def test_a_reservation_given_up_counts_for_the_account_again() -> None:
    scheduler = made(Settings(account=2))
    scheduler.reserve("f", 1, 0)
    scheduler.submit("a", "f", 0)
    scheduler.submit("b", "g", 0)
    assert scheduler.submit("c", "g", 0) == [Throttle("c", Reason.ACCOUNT)]
    scheduler.reserve("f", None, 1)
    assert scheduler.submit("d", "f", 1) == [Throttle("d", Reason.ACCOUNT)]
    scheduler.finished(1, 2)
    assert scheduler.submit("e", "g", 2) == [Start(3, "g", "e")]


def test_an_allocation_counts_what_is_there_and_what_is_ready() -> None:
    scheduler = made()
    scheduler.provision("f", 2, 0)
    assert scheduler.allocation("f") == Allocation(2, 2, 0)
    scheduler.started(1, 1)
    assert scheduler.allocation("f") == Allocation(2, 2, 1)
    scheduler.finished(2, 2, alive=False)
    assert scheduler.allocation("f") == Allocation(2, 2, 1)
    scheduler.started(3, 3)
    scheduler.submit("a", "f", 4)
    assert scheduler.allocation("f") == Allocation(2, 2, 2)


def test_a_retired_version_provisions_no_more_and_is_forgotten_when_empty() -> None:
    scheduler = made()
    scheduler.provision("f", 1, 0)
    scheduler.started(1, 1)
    scheduler.submit("a", "f", 2)
    assert scheduler.retire("f") == []
    assert "f" not in scheduler.forget_empty()
    assert scheduler.finished(1, 3) == [Stop(1)]
    assert "f" in scheduler.forget_empty()
    assert scheduler.forget_empty() == []


def test_a_full_machine_stops_the_longest_unused() -> None:
    scheduler = made(Settings(alive=2))
    scheduler.submit("a", "f", 0)
    scheduler.submit("b", "g", 0)
    scheduler.finished(2, 1)
    scheduler.finished(1, 2)
    assert scheduler.submit("c", "h", 3) == [Stop(2), Start(3, "h", "c")]
    assert scheduler.submit("d", "i", 3) == [Stop(1), Start(4, "i", "d")]
    assert scheduler.submit("e", "j", 3) == [Throttle("e", Reason.ACCOUNT)]


def test_what_comes_after_an_answer_gets_the_environment_that_gave_it() -> None:
    scheduler = made(Settings(account=1))
    scheduler.submit("a", "f", 0)
    assert scheduler.submit("b", "f", 0) == [Throttle("b", Reason.ACCOUNT)], "it works on an answer still"
    scheduler.answered(1)
    assert scheduler.submit("c", "f", 0) == [Promise(1, "c")]
    assert scheduler.submit("d", "f", 0) == [Throttle("d", Reason.ACCOUNT)], "it is promised already"
    assert scheduler.finished(1, 1) == [Run(1, "c")]
    assert scheduler.finished(1, 2) == []
    assert scheduler.submit("e", "f", 3) == [Run(1, "e")]


def test_an_idle_environment_is_taken_before_one_that_has_only_answered() -> None:
    scheduler = made()
    for request in "ab":
        scheduler.submit(request, "f", 0)
    scheduler.finished(1, 1)
    scheduler.answered(2)
    assert scheduler.submit("c", "f", 2) == [Run(1, "c")]
    assert scheduler.submit("d", "f", 2) == [Promise(2, "d")]


def test_a_promise_that_is_overdue_is_another_start_and_a_broken_one_too() -> None:
    scheduler = made()
    scheduler.submit("a", "f", 0)
    scheduler.answered(1)
    assert scheduler.submit("b", "f", 0) == [Promise(1, "b")]
    assert scheduler.overdue(1, "a", 1) == [], "not its promise"
    assert scheduler.overdue(1, "b", 1) == [Start(2, "f", "b")]
    assert scheduler.overdue(1, "b", 1) == []
    scheduler.answered(2)
    assert scheduler.submit("c", "f", 2) == [Promise(2, "c")]
    assert scheduler.finished(2, 2, alive=False) == [Start(3, "f", "c")]
    assert scheduler.finished(1, 3) == []


def test_a_retired_environment_is_promised_to_nobody_and_breaks_its_promise() -> None:
    scheduler = made()
    scheduler.submit("a", "f", 0)
    scheduler.answered(1)
    scheduler.submit("b", "f", 0)
    scheduler.retire("f")
    assert scheduler.finished(1, 1) == [Stop(1), Start(2, "f", "b")]
    scheduler.retire("f")
    scheduler.answered(2)
    assert scheduler.submit("c", "f", 1) == [Start(3, "f", "c")]


def test_a_promise_that_is_overdue_at_the_limit_waits_or_is_throttled() -> None:
    for queue in (False, True):
        scheduler = made(Settings(account=1))
        scheduler.submit("a", "f", 0)
        scheduler.answered(1)
        assert scheduler.submit("b", "f", 0, queue=queue) == [Promise(1, "b")]
        assert scheduler.overdue(1, "b", 1) == ([] if queue else [Throttle("b", Reason.ACCOUNT)])
        assert scheduler.finished(1, 2) == ([Run(1, "b")] if queue else [])


def test_it_describes_itself() -> None:
    scheduler = made()
    scheduler.submit("a", "f", 0)
    assert repr(scheduler) == "<Scheduler [1 f starting a], 0 queued>"


FUNCTIONS = st.sampled_from(["f", "g", "h"])


class Schedules(RuleBasedStateMachine):
    """Carries decisions out as the pool would, keeping its own books, and compares after every step."""

    @initialize(account=st.integers(1, 8), burst=st.integers(1, 5), alive=st.integers(3, 12))
    def begin(self, account: int, burst: int, alive: int) -> None:
        self.settings = Settings(account=account, burst=burst, burst_seconds=5, idle=20, alive=alive)
        self.scheduler = made(self.settings)
        self.now = 0.0
        self.count = 0
        self.running: dict[int, str] = {}
        self.function_of: dict[int, str] = {}
        self.alive: dict[int, str] = {}
        self.starting: set[int] = set()
        self.waiting: dict[str, str] = {}
        self.promised: dict[int, str] = {}
        self.done: Counter[str] = Counter()
        self.reserved: dict[str, int | None] = {"f": None, "g": None, "h": None}
        self.starts: dict[str, list[float]] = {"f": [], "g": [], "h": []}

    def carry_out(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Start):
                assert decision.environment not in self.alive
                self.alive[decision.environment] = decision.version
                if decision.request is None:
                    self.starting.add(decision.environment)
                else:
                    self.starts[decision.version].append(self.now)
                    self.run(decision.environment, decision.request)
            elif isinstance(decision, Run):
                self.run(decision.environment, decision.request)
            elif isinstance(decision, Promise):
                assert decision.environment in self.running, "about to be free"
                assert decision.environment not in self.promised, "promised twice"
                self.promised[decision.environment] = decision.request
            elif isinstance(decision, Throttle):
                self.waiting.pop(decision.request)
                self.done[decision.request] += 1
            else:
                assert decision.environment not in self.running, "stopped while it worked"
                del self.alive[decision.environment]
                self.starting.discard(decision.environment)

    def run(self, environment: int, request: str) -> None:
        assert environment in self.alive
        assert environment not in self.starting
        assert environment not in self.running, "two invocations in one environment"
        assert self.waiting.pop(request) == self.alive[environment], "in another function's environment"
        self.running[environment] = request

    @rule(function=FUNCTIONS, queue=st.booleans())
    def submit(self, function: str, queue: bool) -> None:
        self.count += 1
        request = f"r{self.count}"
        self.waiting[request] = function
        self.carry_out(self.scheduler.submit(request, function, self.now, queue=queue))
        assert queue or request not in self.waiting or request in self.promised.values(), "neither run nor throttled"

    @precondition(lambda self: self.running)
    @rule(data=st.data(), alive=st.booleans())
    def finish(self, data: st.DataObject, alive: bool) -> None:
        environment = data.draw(st.sampled_from(sorted(self.running)))
        self.done[self.running.pop(environment)] += 1
        if not alive:
            del self.alive[environment]
        self.promised.pop(environment, None)
        self.carry_out(self.scheduler.finished(environment, self.now, alive=alive))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        self.scheduler.answered(data.draw(st.sampled_from(sorted(self.running))))

    @precondition(lambda self: self.promised)
    @rule(data=st.data())
    def lose_patience(self, data: st.DataObject) -> None:
        environment = data.draw(st.sampled_from(sorted(self.promised)))
        self.carry_out(self.scheduler.overdue(environment, self.promised.pop(environment), self.now))

    @precondition(lambda self: self.starting)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        environment = data.draw(st.sampled_from(sorted(self.starting)))
        self.starting.discard(environment)
        self.carry_out(self.scheduler.started(environment, self.now))

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.carry_out(self.scheduler.tick(self.now))

    @rule(function=FUNCTIONS)
    def retire(self, function: str) -> None:
        self.carry_out(self.scheduler.retire(function))

    @rule(function=FUNCTIONS, reserved=st.none() | st.integers(0, 2), provisioned=st.integers(0, 1))
    def configure(self, function: str, reserved: int | None, provisioned: int) -> None:
        if sum(value or 0 for key, value in self.reserved.items() if key != function) + (reserved or 0) > 3:
            return
        if any(self.alive[environment] == function for environment in self.running):
            return  # lowering a limit under running requests is no breach
        self.reserved[function] = reserved
        self.carry_out(self.scheduler.reserve(function, reserved, self.now))
        self.carry_out(self.scheduler.provision(function, provisioned, self.now))

    @rule()
    def drain(self) -> None:
        """With time and nothing else to do, everything that waits gets its turn, unless its function may not run."""
        for _ in range(200):
            for environment in sorted(self.starting):
                if environment in self.starting:
                    self.starting.discard(environment)
                    self.carry_out(self.scheduler.started(environment, self.now))
            for environment in sorted(self.running):
                self.done[self.running.pop(environment)] += 1
                self.promised.pop(environment, None)
                self.carry_out(self.scheduler.finished(environment, self.now))
            self.now += 5
            self.carry_out(self.scheduler.tick(self.now))
            if not self.waiting and not self.running:
                break
        shared = self.settings.account - sum(value or 0 for value in self.reserved.values())
        for function in self.waiting.values():
            reserved = self.reserved[function]
            assert reserved == 0 or (reserved is None and shared <= 3), f"lost: {self.waiting}, {self.scheduler!r}"

    @invariant()
    def limits_hold(self) -> None:
        if not hasattr(self, "alive"):
            return
        busy = Counter(self.alive[environment] for environment in self.running)
        for function, reserved in self.reserved.items():
            assert reserved is None or busy[function] <= reserved
        assert len(self.alive) <= self.settings.alive
        recent = {name: [at for at in times if at > self.now - 5] for name, times in self.starts.items()}
        assert all(len(times) <= 2 * self.settings.burst for times in recent.values())
        assert len(self.scheduler._environments) == len(self.alive)

    @invariant()
    def nothing_is_lost_or_done_twice(self) -> None:
        if not hasattr(self, "alive"):
            return
        assert all(count == 1 for count in self.done.values())
        assert self.count == len(self.done) + len(self.running) + len(self.waiting)


Schedules.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSchedules = Schedules.TestCase
