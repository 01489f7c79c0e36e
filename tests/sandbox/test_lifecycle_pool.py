"""The pool over real environments: many requests with faults among them, throttles, new values, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lading.errors import SandboxError
from lading.model.progress import Silent
from lading.model.target import find_target
from lading.sandbox.host import Host
from lading.service.events import EventStream, InvocationEnded
from lading.service.pool.decisions import Reason, Settings
from lading.service.pool.function import Answer, Budgets, FunctionVersion, InvokeRequest, Outcome
from lading.service.pool.local import LocalFunction, LocalOptions, prepare
from lading.service.pool.pool import Pool, ThrottledError
from lading.store import open_store

pytestmark = [pytest.mark.root, pytest.mark.network]
HANDLER = """
    import os, time
    def handler(event, context):
        kind = event.get("kind")
        if kind == "raise":
            raise ValueError("no")
        if kind == "exit":
            os._exit(1)
        if kind == "sleep":
            time.sleep(event["seconds"])
        return [event.get("n"), context.aws_request_id, os.environ.get("COLOUR")]
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.skip("real environments with all walls need root")
    with Host() as found:
        yield found


@pytest.fixture
def function(tmp_path: Path) -> FunctionVersion:
    task = tmp_path / "task"
    task.mkdir()
    (task / "app.py").write_text(textwrap.dedent(HANDLER), "utf-8")
    local = LocalFunction("pooled", task, "app.handler", find_target("python3.13", "x86_64"), memory=1769, timeout=1.0)
    return prepare(local, LocalOptions(budgets=Budgets(linger=0.01)), open_store(), Silent())


def request(number: int, **event: object) -> InvokeRequest:
    return InvokeRequest(f"id-{number}", json.dumps({"n": number, **event}).encode())


def event_of(number: int) -> dict[str, object]:
    """Every 10th raises, every 25th ends the process, every 100th runs into its timeout."""
    if number % 100 == 99:
        return {"kind": "sleep", "seconds": 30}
    return {"kind": "exit"} if number % 25 == 7 else {"kind": "raise"} if number % 10 == 3 else {}


def test_a_soak_with_faults_loses_nothing(host: Host, function: FunctionVersion) -> None:
    count = 600
    stream, ended = EventStream(), Counter[str]()
    stream.follow(lambda event: ended.update([event.request_id]) if isinstance(event, InvocationEnded) else None)

    async def soak() -> list[Outcome]:
        pool = Pool(host, stream)
        try:
            pool.reserve(function, 6)
            calls = (pool.invoke(function, request(n, **event_of(n)), queue=True) for n in range(count))
            return await asyncio.gather(*calls)
        finally:
            await pool.close()

    outcomes = asyncio.run(soak())
    expected = Counter(
        {"sleep": "timeout", "exit": "failure", "raise": "error"}.get(str(event_of(n).get("kind")), "success")
        for n in range(count)
    )
    assert Counter(outcome.status for outcome in outcomes) == expected
    for number, outcome in enumerate(outcomes):
        if outcome.status == "success":
            assert json.loads(outcome.answer.payload) == [number, f"id-{number}", None]
    assert ended == Counter(f"id-{number}" for number in range(count))
    assert len({outcome.environment for outcome in outcomes}) <= 6
    assert host._live == {}, "every environment is gone"


def test_a_full_function_is_throttled_as_aws_does(host: Host, function: FunctionVersion) -> None:
    async def crowd() -> list[Outcome | BaseException]:
        pool = Pool(host, EventStream())
        try:
            pool.reserve(function, 1)
            calls = [pool.invoke(function, request(n, kind="sleep", seconds=0.3)) for n in range(2)]
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await pool.close()

    first, second = asyncio.run(crowd())
    assert isinstance(first, Outcome)
    assert isinstance(second, ThrottledError)
    assert second.reason is Reason.RESERVED


def test_another_value_of_the_function_gets_another_environment(host: Host, function: FunctionVersion) -> None:
    coloured = replace(function, spec=replace(function.spec, environment={"COLOUR": "red"}))

    async def both() -> list[Outcome]:
        pool = Pool(host, EventStream())
        try:
            return [await pool.invoke(one, request(n)) for n, one in enumerate((function, coloured, function))]
        finally:
            await pool.close()

    outcomes = asyncio.run(both())
    assert [json.loads(outcome.answer.payload)[2] for outcome in outcomes] == [None, "red", None]
    assert outcomes[0].environment == outcomes[2].environment != outcomes[1].environment


def test_the_caller_is_answered_before_the_phase_ends(host: Host, function: FunctionVersion) -> None:
    async def early() -> tuple[list[Answer], Outcome]:
        pool = Pool(host, EventStream())
        answers: list[Answer] = []
        try:
            outcome = await pool.invoke(function, request(1), answers.append)
            return answers, outcome
        finally:
            await pool.close()

    answers, outcome = asyncio.run(early())
    assert answers == [outcome.answer]


def test_provisioned_environments_are_warm_at_the_first_invoke(host: Host, function: FunctionVersion) -> None:
    async def provisioned() -> Outcome:
        stream = EventStream()
        ready = asyncio.Event()
        stream.follow(lambda event: ready.set() if getattr(event, "state", "") == "ready" else None)
        pool = Pool(host, stream)
        try:
            pool.provision(function, 1)
            await asyncio.wait_for(ready.wait(), 20)
            await asyncio.sleep(0)
            return await pool.invoke(function, request(1))
        finally:
            await pool.close()

    assert asyncio.run(provisioned()).status == "success"


def test_walls_that_cannot_be_made_are_an_error_of_that_request(
    host: Host, function: FunctionVersion, tmp_path: Path
) -> None:
    broken = replace(function, spec=replace(function.spec, code=tmp_path / "missing"))

    async def call() -> Outcome:
        pool = Pool(host, EventStream(), Settings(account=2))
        try:
            with pytest.raises(SandboxError, match="missing is not a folder"):
                await pool.invoke(broken, request(1))
            return await pool.invoke(function, request(2))
        finally:
            await pool.close()

    assert asyncio.run(call()).status == "success"
