"""The local service with 1,000 functions defined, beside peers, and with 100,000 events queued: start, lists, memory.

LADING_EVENTS says how many events where 100,000 take too long.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import service
from bench.harness.compare import Row, Table, Verdict, ratio
from bench.harness.process import CommandError, kilobytes
from bench.harness.workshop import Workshop

FUNCTIONS = 1_000
EVENTS = int(os.environ.get("LADING_EVENTS", "100000"))
FIRST = max(EVENTS // 10, 1)
"""Ended when memory is measured the first time: of 100,000 events then every buffer of bounded size is full."""
LISTED = 200
"""Of every side that is compared: peers take long to make them."""
PAGES = 25
"""Asked for in each round."""
LIMIT_READY, LIMIT_CPU, LIMIT_PAGE, LIMIT_GROWTH = 1.0, 1.2, 20.0, 1.1
PATIENCE = 1800.0
REGION, ACCOUNT = "us-east-1", "000000000000"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/bench"


def measure(workshop: Workshop) -> Iterator[Table]:
    yield functions(workshop)
    yield lists(workshop)
    yield events(workshop)


def functions(workshop: Workshop) -> Table:
    """Beside a state without any: what the functions cost shows in the ratio, on a busy machine too."""
    full, empty = workshop.folder / "functions", workshop.folder / "none"
    with serving(workshop, full) as (url, _, _):
        api = service.client(url)
        for number in range(FUNCTIONS):
            create(api, f"f{number:04d}")
    ready: dict[Path, list[float]] = {full: [], empty: []}
    used: dict[Path, list[float]] = {full: [], empty: []}
    pages, costs = [], []
    for _, state in itertools.product(range(workshop.rounds), (empty, full)):
        with serving(workshop, state) as (url, process, seconds):
            ready[state].append(seconds)
            used[state].append(cpu(process.pid))
            api = service.client(url)
            count = sum(len(page["Functions"]) for page in api.get_paginator("list_functions").paginate())
            assert count == (FUNCTIONS if state == full else 0), f"{count} functions are listed"
            if state == full:
                before = cpu(process.pid)
                for _ in range(PAGES):
                    started = time.perf_counter()
                    api.list_functions(MaxItems=50)
                    pages.append((time.perf_counter() - started) * 1000)
                costs.append((cpu(process.pid) - before) / PAGES * 1000)
    rows = [
        Row("from the command to its address printed", ready[full]),
        Row("the same without a function", ready[empty]),
        Row("CPU until then", used[full]),
        Row("the same without a function", used[empty]),
        Row("ListFunctions, a page of 50, with boto3", pages, "ms"),
        Row("CPU of the service for a page", costs, "ms"),
    ]
    verdicts = [
        Verdict("ready, s", rows[0].median, LIMIT_READY),
        Verdict("CPU until ready, with : without functions", rows[2].median / rows[3].median, LIMIT_CPU),
        Verdict("page, ms", rows[4].median, LIMIT_PAGE),
    ]
    return Table(f"{FUNCTIONS:,} functions defined, state on disk", rows, verdicts)


def lists(workshop: Workshop) -> Table:
    """Every side with as many functions, made through its API; pages in turns."""
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(one) for one in service.servers(workshop)]
        made: dict[str, list[float]] = {side.name: [] for side in sides}
        pages: dict[str, list[float]] = {side.name: [] for side in sides}
        sizes: dict[str, int] = {}
        for side in sides:
            started = time.perf_counter()
            for number in range(LISTED):
                service.create(side, f"f{number:04d}")
            made[side.name].append((time.perf_counter() - started) / LISTED * 1000)
        for _, side in itertools.product(range(workshop.rounds * PAGES), sides):
            started = time.perf_counter()
            found = side.api.list_functions(MaxItems=50)["Functions"]
            pages[side.name].append((time.perf_counter() - started) * 1000)
            sizes[side.name] = len(found)
    rows = [Row(f"{side.name}, {sizes[side.name]} of them", pages[side.name], "ms") for side in sides]
    created = [Row(f"{side.name}, a function created and active", made[side.name], "ms") for side in sides]
    verdicts = [Verdict("page, ms", rows[0].median, LIMIT_PAGE), *(ratio(rows[0], theirs) for theirs in rows[1:])]
    return Table(
        f"ListFunctions with MaxItems=50 among {LISTED:,}, with boto3", rows + created, verdicts, [service.load()]
    )


def events(workshop: Workshop) -> Table:
    """The events lie in the queue's file before the start, as a killed service leaves them."""
    state = workshop.folder / "events"
    with serving(workshop, state) as (url, _, _):
        create(service.client(url), "drained", MemorySize=1769)
    fill(state / "queue.sqlite")
    resident: dict[int, float] = {}
    with serving(workshop, state) as (url, process, _):
        started = time.perf_counter()
        marks = [FIRST, EVENTS // 2, EVENTS]
        while marks:
            ended = EVENTS - queued(url)
            if ended >= marks[0]:
                resident[marks.pop(0)] = kilobytes(process.pid, "status", "VmRSS:") / 1024
                continue
            if time.perf_counter() - started > PATIENCE:
                raise CommandError(f"after {PATIENCE:.0f} s only {ended:,} of {EVENTS:,} events are through")
            time.sleep(0.25)
        seconds = time.perf_counter() - started
        invoked, failed = (int(sum(metrics(url, name))) for name in ("Invocations{", "Errors{"))
        assert invoked == EVENTS and not failed, f"{invoked:,} invokes for {EVENTS:,} events, {failed:,} failed"
    rows = [Row(f"{ended:,} events ended", [size], "MB") for ended, size in resident.items()]
    rows.append(Row("drained", [EVENTS / seconds], "/s"))
    growth = resident[EVENTS] / resident[FIRST]
    verdict = Verdict(f"resident memory of the service, {EVENTS:,} : {FIRST:,} events", growth, LIMIT_GROWTH)
    title = f"{EVENTS:,} queued events of a function that returns its event"
    return Table(title, rows, [verdict], [service.load()])


def fill(file: Path) -> None:
    from lading.service.control.names import Scope
    from lading.service.queue.event import QueuedEvent
    from lading.service.queue.store import DurableQueue

    store, now = DurableQueue(file), time.time()
    scope = Scope(ACCOUNT, REGION)
    for first in range(0, EVENTS, 10_000):
        store.change(
            QueuedEvent(f"bench-{number:08d}", scope, "drained", None, b'{"number": %d}' % number, now, now)
            for number in range(first, first + 10_000)
        )
    store.close()


@contextlib.contextmanager
def serving(workshop: Workshop, state: Path) -> Iterator[tuple[str, subprocess.Popen[str], float]]:
    """URL, process, and seconds until the address was printed."""
    command = [workshop.lading, "serve", "--port", "0", "--state", str(state), "--no-neighbours"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        seconds = time.perf_counter() - started
        if "http://" not in line:
            raise CommandError(f"{' '.join(command)} does not serve: {line!r}")
        yield line.split()[2], process, seconds
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def create(api: Any, name: str, **parameters: Any) -> None:
    code = {"ZipFile": service.package()}
    api.create_function(
        FunctionName=name, Runtime="python3.13", Role=ROLE, Handler="app.handler", Code=code, **parameters
    )
    api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.02, "MaxAttempts": 1500})


def metrics(url: str, name: str) -> list[float]:
    with urllib.request.urlopen(f"{url}/_lading/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)]


def queued(url: str) -> int:
    return int(metrics(url, "AsyncEventsQueued ")[0])


def cpu(pid: int) -> float:
    """Seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
