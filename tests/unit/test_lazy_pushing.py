"""Chunks for the kernel's page cache: in order, once their file is open, and never of a file that is gone."""

from __future__ import annotations

import queue
from collections.abc import Mapping

from lading.lazy.chunk import ChunkRecord
from lading.lazy.pushing import Pusher

SOON = 30.0


def record(offset: int, content: bytes) -> ChunkRecord:
    return ChunkRecord(offset, len(content), len(content), content[:1] * 32, bytes(32), False)


class Kernel:
    """Knows some files, and shows what it was given."""

    def __init__(self, *nodes: int) -> None:
        self.nodes = set(nodes)
        self.asked: queue.Queue[tuple[int, int, bytes]] = queue.Queue()

    def store(self, node: int, offset: int, content: bytes) -> bool:
        self.asked.put((node, offset, content))
        return node in self.nodes

    def next(self) -> tuple[int, int, bytes]:
        return self.asked.get(timeout=SOON)


def pusher(kernel: Kernel, contents: Mapping[bytes, bytes]) -> Pusher:
    return Pusher(lambda one: contents.get(one.name), kernel.store)


A, B = b"a" * 4096, b"b" * 5000
CONTENTS = {A[:1] * 32: A, B[:1] * 32: B}


def test_chunks_go_in_order_as_whole_pages() -> None:
    kernel = Kernel(3)
    made = pusher(kernel, CONTENTS)
    made.push(3, record(8192, B))
    made.push(3, record(0, A))
    assert kernel.next() == (3, 8192, B + bytes(3192))
    assert kernel.next() == (3, 0, A)


def test_a_file_that_is_not_open_yet_is_waited_for_and_holds_up_no_other() -> None:
    kernel = Kernel(3, 5)
    made = pusher(kernel, CONTENTS)
    made.hold(3)
    made.push(3, record(0, A))
    made.push(5, record(0, B))
    assert kernel.next()[0] == 5
    made.opened(3)
    assert kernel.next() == (3, 0, A)


def test_a_file_that_the_kernel_forgot_is_dropped_and_others_go_on() -> None:
    kernel = Kernel(5)
    made = pusher(kernel, CONTENTS)
    made.hold(3)
    made.hold(5)
    for offset in (0, 4096):
        made.push(3, record(offset, A))
    made.push(5, record(0, A))
    made.opened(3)
    assert kernel.next() == (3, 0, A)
    made.opened(5)
    assert kernel.next()[0] == 5, "the second chunk of a file that is gone was pushed"


def test_what_left_the_cache_meanwhile_is_passed_over() -> None:
    kernel = Kernel(3)
    made = pusher(kernel, {A[:1] * 32: A})
    made.push(3, record(0, B))
    made.push(3, record(8192, A))
    assert kernel.next() == (3, 8192, A)
