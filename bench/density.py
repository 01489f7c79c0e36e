"""What does a cold start cost in the pool itself, and how many frozen environments can live at once, with how much memory?"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.harness.compare import Row, Table, Verdict
from bench.harness.peers import PeerMissingError
from bench.harness.process import family, kilobytes
from bench.harness.workshop import Workshop
from lading.model.progress import Silent
from lading.model.target import find_target
from lading.sandbox.host import Host
from lading.sandbox.owners import owner_name
from lading.sandbox.spec import Network
from lading.service.events import EventStream
from lading.service.pool.decisions import Settings
from lading.service.pool.environment import Environment
from lading.service.pool.function import Answer, FunctionVersion, InvokeRequest
from lading.service.pool.local import LocalFunction, LocalOptions, prepare
from lading.service.pool.pool import Pool
from lading.store import open_store

HELLO = "def lambda_handler(event, context):\n    return {'ok': True}\n"
SIZES = (10, 100, 1_000)
AT_ONCE = 8
"""Starts that go on at the same time: a start waits for the kernel as often as it computes."""
WARM = 4_000
COLD_SECONDS, WARM_SECONDS, WARM_P99, WARM_RATE = 0.010, 0.0008, 0.003, 2_000
MEMORY_MB, STARTS, FLAT = 6.0, 100, 1.5


def measure(workshop: Workshop) -> Iterator[Table]:
    if os.geteuid() != 0:
        raise PeerMissingError("environments with all walls need root: run this as root")
    function = hello(workshop)
    for spares in (0, 2):
        with Host(spares=spares) as host:
            host.warm(function.spec)
            yield in_loop(invokes(function, host, workshop.rounds * 10))
    for network in (Network.NONE, Network.OUTGOING):
        one = replace(function, spec=replace(function.spec, network=network))
        with Host() as host:
            if network is Network.OUTGOING and not host.capabilities.outgoing:
                continue
            host.warm(one.spec)
            yield in_loop(crowds(one, host))


def in_loop(work: Coroutine[Any, Any, Table]) -> Table:
    """uvloop's, as in `lading serve` and `lading invoke`."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def hello(workshop: Workshop) -> FunctionVersion:
    root = workshop.project("hello", {"lambda_function.py": HELLO})
    architecture = "arm64" if platform.machine() == "aarch64" else "x86_64"
    target = find_target("python3.13", architecture)
    workshop.folder.chmod(0o755)
    local = LocalFunction("hello", root, "lambda_function.lambda_handler", target, memory=1769)
    return prepare(local, LocalOptions(), open_store(), Silent())


async def invokes(function: FunctionVersion, host: Host, count: int) -> Table:
    """Request accepted by the pool → answer known to the caller, on the loop that lading itself uses."""
    pool = Pool(host, EventStream(), Settings())

    async def timed(one: FunctionVersion, number: int) -> float:
        answered: list[float] = []

        def note(_: Answer) -> None:
            answered.append(time.perf_counter())

        begin = time.perf_counter()
        outcome = await pool.invoke(one, InvokeRequest(f"{one.version}-{number}", b"{}"), note, queue=True)
        assert outcome.status == "success", outcome
        return answered[0] - begin

    try:
        cold = []
        for number in range(count):  # another version is another value: no environment of it is there
            cold.append(await timed(replace(function, version=str(number + 1)), 0))
            await asyncio.sleep(0.05)
        warm = [await timed(function, number) for number in range(WARM)][100:]
        pool.reserve(function, 8)
        await asyncio.gather(*(timed(function, WARM + number) for number in range(200)))
        begin = time.perf_counter()
        await asyncio.gather(*(timed(function, WARM + 200 + number) for number in range(WARM)))
        rate = WARM / (time.perf_counter() - begin)
    finally:
        await pool.close()
    warm.sort()
    rows = [
        Row("cold start", cold, state="one at a time, 50 ms apart"),
        Row("warm", warm, state="one at a time, one environment"),
        Row("8 environments", [rate], unit="/s", state=f"{WARM} invokes queued at once"),
    ]
    verdicts = [
        Verdict("seconds, cold start", rows[0].median, COLD_SECONDS),
        Verdict("seconds, warm", rows[1].median, WARM_SECONDS),
        Verdict("seconds, warm, p99", warm[len(warm) * 99 // 100], WARM_P99),
        Verdict(f"{WARM_RATE}/s to the rate over 8 environments", WARM_RATE / rate, 1.0),
    ]
    return Table(f"hello world in the pool, all walls, {host._spares.count} walls standing ready", rows, verdicts)


async def crowds(function: FunctionVersion, host: Host) -> Table:
    """Environments that have run their init and stand frozen, started a few at a time."""
    rows, verdicts, per_environment = [], [], {}
    before = leftovers(host)
    for size in SIZES:
        begin = time.perf_counter()
        environments = await start(function, host, size)
        rate = size / (time.perf_counter() - begin)
        boxes = [environment._live_box() for environment in environments]
        unshared = [own_memory(box.pid) for box in boxes]
        per_environment[size] = size / rate
        rows.append(Row(f"{size} alive: own memory each", unshared, unit="MB", state="USS of all its processes"))
        rows.append(
            Row(f"{size} alive: started", [rate], unit="/s", state=f"{AT_ONCE} at a time, to init's end and frozen")
        )
        begin = time.perf_counter()
        await at_once(environment.close for environment in environments)
        rows.append(Row(f"{size} ended", [size / (time.perf_counter() - begin)], unit="/s"))
        verdicts.append(Verdict(f"MB of its own per environment, {size} alive", rows[-3].median, MEMORY_MB))
        verdicts.append(Verdict(f"{STARTS}/s to the start rate, {size}", STARTS / rate, 1.0))
    last, first = SIZES[-1], SIZES[0]
    growth = (per_environment[last] / last) / (per_environment[first] / first)
    verdicts.append(Verdict(f"seconds per start, {last} : {first}", growth, FLAT))
    left = leftovers(host)
    verdicts.append(Verdict("processes and groups left", sum(left) - sum(before), 0.0))
    return Table(f"frozen environments alive at once, all walls, network {function.spec.network}", rows, verdicts)


async def start(function: FunctionVersion, host: Host, size: int) -> list[Environment]:
    made: list[Environment] = []
    stream = EventStream()

    async def one() -> None:
        environment = Environment(function, host, stream)
        await environment.start()
        assert not environment._needs_init, "its init went well"
        await asyncio.to_thread(environment._live_box().freeze)
        environment._still.freeze(environment._live_box())
        made.append(environment)

    await at_once(one for _ in range(size))
    return made


async def at_once(works: Iterable[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Always AT_ONCE of them, until all are done."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def in_turn(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with turns:
            await work()

    await asyncio.gather(*(in_turn(work) for work in works))


def own_memory(pid: int) -> float:
    """MB that nobody shares: private pages, clean and dirty, of an environment's processes."""
    fields = ("Private_Clean:", "Private_Dirty:")
    return sum(kilobytes(one, "smaps_rollup", name) for one in family(pid) for name in fields) / 1024


def leftovers(host: Host) -> tuple[int, int]:
    """Processes under the launcher, and cgroups of environments."""
    own = owner_name(os.getpid())
    groups = sum(len(list(Path(path).glob(f"{own}*/*/"))) for path in set(host._hierarchies.folders.values()))
    return len(family(host.launcher_pid)), groups
