"""How much is compiled at once."""

from __future__ import annotations

import random
import threading

import pytest

from lading.build.workers import Allowance

LIMIT = 100


def test_never_more_than_the_limit_unless_alone() -> None:
    allowance, lock = Allowance(LIMIT), threading.Lock()
    taken: list[int] = []
    seen: list[list[int]] = []

    def work(seed: int) -> None:
        sizes = random.Random(seed)
        for _ in range(50):
            size = sizes.choice([1, 20, 60, 99, 150])
            with allowance.of(size):
                with lock:
                    taken.append(size)
                    seen.append(list(taken))
                with lock:
                    taken.remove(size)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 6 * 50 and not taken
    assert all(sum(sizes) <= LIMIT or len(sizes) == 1 for sizes in seen)


def test_what_failed_gives_its_part_back() -> None:
    allowance = Allowance(LIMIT)
    with pytest.raises(KeyError), allowance.of(150):
        raise KeyError
    with allowance.of(LIMIT):
        pass
