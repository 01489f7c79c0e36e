"""What is looked at, how often, and who is killed: with a group that is made up of numbers."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import pytest

from lading.sandbox.ceiling import Ceiling, kill_largest, pause

MB = 1 << 20


@dataclass(eq=False)
class Group:
    """An environment as the ceiling sees it: so many bytes in use, so many of them its own."""

    memory_limit: int = 128 * MB
    memory_now: int = 0
    own: int = 0
    pids: list[int] = field(default_factory=list)
    kills: int = 0
    looked: threading.Event = field(default_factory=threading.Event)

    def memory_own(self) -> int:
        self.looked.set()
        return self.own

    def members(self) -> list[int]:
        return self.pids

    def note_kill(self) -> None:
        """Its memory is free again."""
        self.kills += 1
        self.own = 0


@pytest.mark.parametrize(("left", "seconds"), [(0, 0.002), (88 * MB, 0.0215), (1769 * MB, 0.2)])
def test_looks_are_rarer_the_further_the_limit_is(left: int, seconds: float):
    assert pause(left) == pytest.approx(seconds, rel=0.01)


def test_what_tmp_holds_kills_nobody():
    group = Group(memory_now=600 * MB, own=90 * MB)
    ceiling = Ceiling()
    ceiling.watch(group)
    assert group.looked.wait(10)
    ceiling.close()
    assert group.kills == 0


def test_the_largest_process_is_killed_once_and_only_beyond_the_limit():
    sleeper = [
        sys.executable,
        "-S",
        "-c",
        "import sys, time\nx = b'1' * int(sys.argv[1])\nprint(flush=True)\ntime.sleep(600)",
    ]
    small, large = (subprocess.Popen([*sleeper, str(size * MB)], stdout=subprocess.PIPE) for size in (1, 30))
    group = Group(memory_now=200 * MB, own=100 * MB, pids=[small.pid, large.pid])
    ceiling = Ceiling()
    try:
        for process in (small, large):
            assert process.stdout is not None
            process.stdout.readline()
        ceiling.watch(group)
        assert group.looked.wait(10)
        assert group.kills == 0
        group.pids = [small.pid, large.pid]
        group.own = 129 * MB
        assert large.wait(10) == -9
        ceiling.close()
        assert group.kills == 1
        assert small.poll() is None
    finally:
        ceiling.close()
        for process in (small, large):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_who_has_left_is_not_looked_at():
    group, other = Group(memory_now=600 * MB, own=1), Group(memory_now=600 * MB, own=1)
    ceiling = Ceiling()
    ceiling.watch(group)
    ceiling.leave(group)
    group.looked.clear()
    ceiling.watch(other)
    assert other.looked.wait(10)
    assert not group.looked.is_set()
    ceiling.close()


def test_nobody_to_kill_is_no_error():
    assert kill_largest(list) == -1
    assert kill_largest(lambda: [2**22 + 1]) == -1


def test_a_number_that_was_given_again_is_not_killed():
    with subprocess.Popen(["sleep", "1000"]) as other:
        seen = iter([[other.pid], []])
        assert kill_largest(lambda: next(seen)) == -1
        assert other.poll() is None
        other.kill()


def test_a_closed_ceiling_watches_nothing():
    ceiling = Ceiling()
    ceiling.close()
    group = Group(memory_now=600 * MB, own=600 * MB)
    ceiling.watch(group)
    time.sleep(0.01)
    assert not group.looked.is_set()
