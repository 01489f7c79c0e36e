"""How long a provisioned environment that can't be made is left alone."""

from __future__ import annotations

from lading.service.pool.pool import SLOWEST_RETRY, TICK, retry_pause


def test_every_failure_doubles_the_pause_up_to_a_minute() -> None:
    assert [retry_pause(failures) / TICK for failures in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert retry_pause(10) == retry_pause(1_000_000) == SLOWEST_RETRY
