"""How long does a restored start take beside an ordinary first one, where init imports pandas or makes a boto3 client?"""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace

from bench.density import in_loop
from bench.harness.compare import Row, Table, Verdict, ratio
from bench.harness.peers import PeerMissingError, uv
from bench.harness.process import CommandError
from bench.harness.workshop import Workshop
from lading.model.progress import Silent
from lading.model.target import find_target
from lading.sandbox.host import Host
from lading.service.events import EventStream
from lading.service.pool.function import SNAP_START, Answer, FunctionVersion, InvokeRequest
from lading.service.pool.local import LocalFunction, LocalOptions, prepare
from lading.service.pool.pool import Pool
from lading.store import open_store

FUNCTIONS = {
    "hello world": "def lambda_handler(event, context):\n    return {'ok': True}\n",
    "boto3 and a client": (
        "import boto3\nCLIENT = boto3.client('s3', region_name='us-east-1')\n"
        "def lambda_handler(event, context):\n    return CLIENT.meta.region_name\n"
    ),
    "pandas": (
        "import pandas\n"
        "def lambda_handler(event, context):\n    return int(pandas.Series([1, 2, 3]).sum())\n"
    ),
}  # fmt: skip
RESTORED_SECONDS = 0.015
PAUSE = 0.5
"""Seconds between starts: walls for the next one are made meanwhile, as they are for ordinary starts."""


def measure(workshop: Workshop) -> Iterator[Table]:
    if os.geteuid() != 0:
        raise PeerMissingError("environments with all walls need root: run this as root")
    for name, source in FUNCTIONS.items():
        yield in_loop(starts(name, function(workshop, name, source), workshop.rounds * 4))


def function(workshop: Workshop, name: str, source: str) -> FunctionVersion:
    folder = name.split(" ")[0]
    root = workshop.project(folder, {"lambda_function.py": source})
    if folder == "pandas":
        _install(workshop, "pandas", str(root))
    workshop.folder.chmod(0o755)
    architecture = "arm64" if platform.machine() == "aarch64" else "x86_64"
    target = find_target("python3.13", architecture)
    local = LocalFunction(folder, root, "lambda_function.lambda_handler", target, memory=1769, timeout=30)
    return prepare(local, LocalOptions(), open_store(), Silent())


def _install(workshop: Workshop, package: str, target: str) -> None:
    """As `lading build` packs it: with bytecode, so that an ordinary start doesn't compile."""
    command = [
        uv(),
        "pip",
        "install",
        "-q",
        "--python-version",
        "3.13",
        "--target",
        target,
        "--compile-bytecode",
        package,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **workshop.environment}, check=False
    )
    if done.returncode:
        raise CommandError(f"{package} can't be installed: {done.stderr.strip()[-300:]}")


async def starts(name: str, plain: FunctionVersion, count: int) -> Table:
    """Request accepted by the pool → answer known to the caller. The sides take turns; each sample is a new environment."""
    restored = replace(plain, initialization_type=SNAP_START, version="1")
    samples: dict[str, list[float]] = {"first start": [], "restored": []}
    host = await asyncio.to_thread(lambda: Host(spares=2))
    stream = EventStream()
    try:
        await asyncio.to_thread(host.warm, plain.spec)
        pool = Pool(host, stream)
        try:
            begin = time.perf_counter()
            await pool.take_snapshot(restored)
            snapshot = time.perf_counter() - begin
            for number in range(count):
                samples["first start"].append(await timed(pool, replace(plain, version=f"{number + 2}"), number))
                await asyncio.sleep(PAUSE)
                samples["restored"].append(await timed(pool, restored, number))
                await pool_emptied(pool, restored)
                await asyncio.sleep(PAUSE)
        finally:
            await pool.close()
    finally:
        await asyncio.to_thread(host.close)
    ours = Row("restored from the snapshot", samples["restored"], state="walls ready; hooks: none")
    theirs = Row("ordinary first start", samples["first start"], state="walls ready; init in full")
    verdicts = [Verdict("seconds, restored, median", ours.median, RESTORED_SECONDS), ratio(ours, theirs)]
    verdicts.append(Verdict("seconds for init and snapshot, once", snapshot))
    return Table(f"{name}: request accepted → answered, in the pool, all walls", [ours, theirs], verdicts)


async def timed(pool: Pool, one: FunctionVersion, number: int) -> float:
    answered: list[float] = []

    def note(_: Answer) -> None:
        answered.append(time.perf_counter())

    begin = time.perf_counter()
    outcome = await pool.invoke(one, InvokeRequest(f"{one.version}-{number}", b"{}"), note, queue=True)
    assert outcome.status == "success", outcome
    assert outcome.cold, "every sample is a start"
    return answered[0] - begin


async def pool_emptied(pool: Pool, one: FunctionVersion) -> None:
    """The environment that was restored ends, its template stays: the next sample is restored again."""
    pool._carry_out(pool._scheduler.retire(pool._keys[one]))
    while any(environment.function == one for environment in pool._environments.values()):
        await asyncio.sleep(0.01)
