"""One timer for many deadlines: by a loop whose clock the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from lading.service.alarm import Alarm


class Timer:
    def __init__(self, due: float, ring: Callable[[], None]) -> None:
        self.due, self.ring, self.cancelled = due, ring, False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """The part of an event loop that an Alarm uses."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []
        self.soon: list[Callable[[], None]] = []
        self.made = 0

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, ring: Callable[[], None]) -> Timer:
        self.made += 1
        self.timers.append(Timer(due, ring))
        return self.timers[-1]

    def call_soon(self, action: Callable[[], None]) -> None:
        self.soon.append(action)

    def turn(self) -> None:
        actions, self.soon = self.soon, []
        for action in actions:
            action()

    def run_to(self, moment: float) -> None:
        while due := [one for one in self.timers if not one.cancelled and one.due <= moment]:
            first = min(due, key=lambda one: one.due)
            self.timers.remove(first)
            self.now = first.due
            first.ring()
        self.now = moment


def alarm() -> tuple[Clock, Alarm, list[float]]:
    clock = Clock()
    return clock, Alarm(cast("asyncio.AbstractEventLoop", clock)), []


def test_a_deadline_is_kept_to_the_moment_after_many_that_were_cleared() -> None:
    clock, one, rung = alarm()
    for _ in range(100):
        one.set(3.0, lambda: rung.append(-1.0))
        clock.run_to(clock.now + 0.01)
        one.clear()
    assert clock.made == 1, "a hundred deadlines, one timer"
    begun = clock.now
    one.set(3.0, lambda: rung.append(clock.now))
    clock.run_to(begun + 2.99)
    assert rung == []
    clock.run_to(begun + 10)
    assert rung == [begun + 3.0]


def test_an_earlier_deadline_takes_the_place_of_a_later_one() -> None:
    clock, one, rung = alarm()
    one.set(900.0, lambda: rung.append(-1.0))
    one.set(0.05, lambda: rung.append(clock.now))
    clock.run_to(1000.0)
    assert rung == [100.05]


def test_a_closed_alarm_leaves_nothing_on_the_loop() -> None:
    clock, one, rung = alarm()
    one.set(1.0, lambda: rung.append(clock.now))
    one.close()
    clock.run_to(200.0)
    assert rung == [] and all(timer.cancelled for timer in clock.timers)
