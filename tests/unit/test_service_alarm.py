"""One timer for many deadlines, and one write for a head and its body: by a loop whose clock the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from lading.service.alarm import Alarm
from lading.service.front.one_write import LONG, OneWrite


class Timer:
    def __init__(self, due: float, ring: Callable[[], None]) -> None:
        self.due, self.ring, self.cancelled = due, ring, False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """The part of an event loop that an Alarm and a OneWrite use."""

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


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> str:
        return f"the {name}"


def one_write() -> tuple[Clock, Wire, OneWrite]:
    clock, wire = Clock(), Wire()
    return clock, wire, OneWrite(cast("Any", wire), cast("asyncio.AbstractEventLoop", clock))


def test_a_head_goes_with_its_body_and_alone_when_nothing_follows() -> None:
    clock, wire, transport = one_write()
    transport.write(b"head ")
    transport.write(b"body")
    assert wire.writes == [b"head body"]
    transport.write(b"head of a stream")
    assert len(wire.writes) == 1
    clock.turn()
    assert wire.writes[1:] == [b"head of a stream"]
    assert transport.get_extra_info("peer") == "the peer"


def test_nothing_is_lost_or_out_of_order_whatever_the_sizes() -> None:
    clock, wire, transport = one_write()
    pieces = [b"a", b"b" * LONG, b"c", b"d", b"e" * LONG, b"f" * LONG, b"g"]
    for piece in pieces:
        transport.write(piece)
    transport.close()
    assert b"".join(wire.writes) == b"".join(pieces)
    clock.turn()
    assert b"".join(wire.writes) == b"".join(pieces) and transport.is_closing()
