"""The pytest plugin: each test has its own service, soon there and gone without a trace."""

from __future__ import annotations

import json
import statistics
import time

from serve_support import create

from lading.testing import LadingService, lading_service, running

__all__ = ["lading_service"]


def test_a_function_of_the_tests_own(lading_service: LadingService) -> None:
    api = lading_service.client("lambda")
    assert api.list_functions()["Functions"] == []
    create(api, "echo")
    assert json.load(api.invoke(FunctionName="echo", Payload=b"[1]")["Payload"]) == [1]


def test_another_test_has_another_service(lading_service: LadingService) -> None:
    assert lading_service.client("lambda").list_functions()["Functions"] == []


def test_the_clock_and_cold_starts(lading_service: LadingService) -> None:
    lading_service.step(5)
    lading_service.accelerate(10)
    lading_service.expire("arn:aws:lambda:us-east-1:000000000000:function:none")


def test_it_starts_in_milliseconds() -> None:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        with running(neighbours=False):
            times.append(time.perf_counter() - started)
    assert statistics.median(times) < 0.5, (
        f"{times}: tens of milliseconds are the promise; the bound is for busy machines"
    )
