"""What is learned of a start: pages next to each other are one range, and nothing is learned where nothing can be seen."""

from __future__ import annotations

import os

from lading.sandbox import lessons

PAGE = os.sysconf("SC_PAGE_SIZE")


def test_pages_next_to_each_other_are_one_range() -> None:
    pages = [number * PAGE for number in (3, 4, 5, 9, 20, 21)]
    ranges = lessons._joined(pages)
    assert ranges == ((3 * PAGE, 6 * PAGE), (9 * PAGE, 10 * PAGE), (20 * PAGE, 22 * PAGE))
    assert lessons.count(ranges) == len(pages)
    assert lessons.count(()) == 0


def test_a_process_without_a_child_teaches_nothing() -> None:
    assert lessons.written(2**22 + 1) == (), "nor one that is gone"
