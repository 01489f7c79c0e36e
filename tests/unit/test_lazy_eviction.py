"""Which chunks leave the cache: what is used stays, a scan passes through, the limit holds."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lading.lazy.eviction import MOST_USES, PROBATION_SHARE, Entry, choose

SIZE = 512


def entries(count: int, *, main: bool = False, uses: int = 0, start: int = 0) -> list[Entry]:
    return [Entry(f"{main:d}{start + index:06}", SIZE, start + index, main, uses) for index in range(count)]


class Simulation:
    """A cache as the disk cache drives it: arrivals, uses, room made when it is over its limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held: dict[str, Entry] = {}
        self.ghosts: list[str] = []
        self.clock = 0
        self.misses = 0

    def read(self, name: str) -> None:
        self.clock += 1
        entry = self.held.get(name)
        if entry:
            self.held[name] = replace(entry, uses=min(entry.uses + 1, MOST_USES))
            return
        self.misses += 1
        self.held[name] = Entry(name, SIZE, self.clock, name in self.ghosts, 0)
        if sum(entry.size for entry in self.held.values()) > self.limit:
            decision = choose(self.held.values(), self.limit)
            for gone in decision.removed:
                del self.held[gone.name]
            for moved in decision.moved:
                self.clock += 1
                self.held[moved.name] = replace(moved, position=self.clock)
            self.ghosts = [*self.ghosts, *decision.ghosts][-len(self.held) :]


def test_nothing_leaves_while_there_is_room():
    decision = choose(entries(10), 10 * SIZE)
    assert (decision.removed, decision.moved, decision.ghosts) == ((), (), ())


def test_the_oldest_unused_leaves_first_and_leaves_a_ghost():
    held = entries(10)
    decision = choose(held, 8 * SIZE)
    assert decision.removed == tuple(held[:2])
    assert decision.ghosts == (held[0].name, held[1].name)


def test_what_was_used_on_probation_moves_on():
    held = [*entries(1, uses=1), *entries(9, start=1)]
    decision = choose(held, 8 * SIZE)
    assert [entry.name for entry in decision.moved] == [held[0].name]
    assert decision.moved[0].main
    assert held[0] not in decision.removed


def test_the_main_queue_gives_a_used_entry_another_round():
    held = [*entries(5, main=True, uses=2), *entries(5, main=True, start=5)]
    decision = choose(held, 8 * SIZE)
    assert [entry.name for entry in decision.removed] == [entry.name for entry in held[5:7]]
    assert all(entry.uses == 1 for entry in decision.moved)


def test_a_scan_of_ten_times_the_cache_leaves_the_working_set():
    cache = Simulation(100 * SIZE)
    hot = [f"hot{index}" for index in range(60)]
    for _ in range(4):
        for name in hot:
            cache.read(name)
    for index in range(1000):
        cache.read(f"scan{index}")
    before = cache.misses
    for name in hot:
        cache.read(name)
    assert cache.misses - before <= 6, "least-recently-used would miss all 60"


def test_what_comes_back_after_it_left_stays():
    cache = Simulation(50 * SIZE)
    cache.read("slow")
    for index in range(60):
        cache.read(f"a{index}")
    assert "slow" not in cache.held
    cache.read("slow")
    assert cache.held["slow"].main


@given(
    st.lists(st.tuples(st.integers(1, 5_000), st.booleans(), st.integers(0, MOST_USES)), max_size=60),
    st.integers(0, 60_000),
)
def test_the_limit_holds_and_no_entry_is_lost_or_moved_and_removed(kinds: list[tuple[int, bool, int]], limit: int):
    held = [Entry(f"{index:04}", size, index, main, uses) for index, (size, main, uses) in enumerate(kinds)]
    decision = choose(held, limit)
    left = {entry.name: entry for entry in held}
    for entry in decision.removed:
        left.pop(entry.name)
    assert sum(entry.size for entry in left.values()) <= limit
    moved = [entry.name for entry in decision.moved]
    assert len(set(moved)) == len(moved)
    assert set(moved) <= left.keys()
    on_probation = {entry.name for entry in held if not entry.main}
    assert set(decision.ghosts) <= {entry.name for entry in decision.removed} & on_probation


def test_probation_is_a_tenth():
    held = [*entries(50, main=True), *entries(50)]
    decision = choose(held, 60 * SIZE)
    assert sum(not entry.main for entry in held if entry not in decision.removed) >= 60 * PROBATION_SHARE - 1
