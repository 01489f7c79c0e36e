"""The pace of streamed responses and the buffer before a slow caller."""

from __future__ import annotations

import asyncio

from lading.service.pool.streams import Pace, StreamBuffer


def test_the_first_bytes_are_free_then_the_rate_holds() -> None:
    pace = Pace(0.0, rate=10, burst=60)
    pace.take(60, 0.0)
    assert pace.wait(0.0) == 0
    pace.take(5, 0.0)
    assert (pace.wait(0.0), pace.wait(0.25), pace.wait(0.5), pace.wait(9.0)) == (0.5, 0.25, 0, 0)
    pace.take(10, 0.5)
    assert pace.wait(0.5) == 1.0


def test_a_pause_of_the_function_earns_no_more_than_the_burst() -> None:
    pace = Pace(0.0, rate=10, burst=60)
    pace.take(60, 0.0)
    pace.take(60, 1000.0)
    assert pace.wait(1000.0) == 0
    pace.take(10, 1000.0)
    assert pace.wait(1000.0) == 1.0


def test_a_full_buffer_holds_until_the_caller_has_taken_enough() -> None:
    async def story() -> list[str]:
        buffer, said = StreamBuffer(limit=10), list[str]()
        buffer.put(b"12345")
        assert not buffer.hold(lambda: said.append("never"))
        buffer.put(b"67890")
        assert buffer.hold(lambda: said.append("go on"))
        assert said == []
        assert await buffer.get() == b"12345"
        buffer.put(None)
        assert (await buffer.get(), await buffer.get()) == (b"67890", None)
        return said

    assert asyncio.run(story()) == ["go on"]


def test_a_caller_that_leaves_holds_nobody() -> None:
    async def story() -> None:
        buffer, said = StreamBuffer(limit=1), list[str]()
        buffer.put(b"12")
        assert buffer.hold(lambda: said.append("go on"))
        buffer.abandon()
        buffer.put(b"34")
        assert said == ["go on"]
        assert not buffer.hold(lambda: said.append("again"))

    asyncio.run(story())
