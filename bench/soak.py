"""Ten thousand invokes with faults among them: does each get its own answer, and is nothing left behind at the end?"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.harness.compare import Row, Table, Verdict
from bench.harness.peers import PeerMissingError
from bench.harness.process import family
from bench.harness.workshop import Workshop
from lading.model.progress import Silent
from lading.model.target import find_target
from lading.sandbox.host import Host
from lading.service.events import EventStream
from lading.service.pool.decisions import Settings
from lading.service.pool.function import FunctionVersion, InvokeRequest, Outcome
from lading.service.pool.local import LocalFunction, LocalOptions, prepare
from lading.service.pool.pool import Pool
from lading.store import open_store

COUNT = 10_000
TIMEOUT = 15.0
"""Seconds. A seventh of a CPU comes with 256 MB: filling them takes up to two, and six on a machine with other work."""
AT_ONCE = 16
SOURCE = """
import os, subprocess, time
def lambda_handler(event, context):
    kind = event["kind"]
    if kind == "raise":
        raise ValueError("no")
    if kind == "exit":
        os._exit(3)
    if kind == "signal":
        os.kill(os.getpid(), 11)
    if kind == "sleep":
        time.sleep(60)
    if kind == "memory":
        return len(b"x" * (400 << 20))
    if kind == "child":
        subprocess.Popen(["/bin/sleep", "300"])
    if kind == "disk":
        with open("/tmp/full", "wb") as file:
            file.write(b"x" * (1 << 20))
    return [event["number"], context.aws_request_id]
"""
FAULTS = {"raise": (10, "error"), "exit": (50, "failure"), "signal": (101, "failure"), "memory": (211, "failure"),
          "sleep": (499, "timeout"), "child": (37, "success"), "disk": (23, "success")}  # fmt: skip
"""Kind → (every so many invokes, the status that must come out)."""


def measure(workshop: Workshop) -> Iterator[Table]:
    if os.geteuid() != 0:
        raise PeerMissingError("environments with all walls need root: run this as root")
    root = workshop.project("soak", {"lambda_function.py": SOURCE})
    workshop.folder.chmod(0o755)
    target = find_target("python3.13", "arm64" if platform.machine() == "aarch64" else "x86_64")
    local = LocalFunction("soak", root, "lambda_function.lambda_handler", target, memory=256, timeout=TIMEOUT)
    function = prepare(local, LocalOptions(), open_store(), Silent())
    before = traces()
    begin = time.perf_counter()
    with Host(spares=2) as host:
        outcomes = asyncio.run(soak(function, host))
    seconds = time.perf_counter() - begin
    after = traces()
    wrong = [number for number, outcome in enumerate(outcomes) if not right(number, outcome)]
    found = Counter(outcome.status for outcome in outcomes)
    shown = ", ".join(f"{count} {status}" for status, count in sorted(found.items()))
    notes = [f"wrong: {kind_of(number)} came out as {outcomes[number]}" for number in wrong[:5]]
    yield Table(
        f"{COUNT} invokes, {AT_ONCE} at once; {shown}",
        [Row("all", [seconds]), Row("rate", [COUNT / seconds], unit="/s")],
        [
            Verdict("wrong or lost answers", len(wrong) + COUNT - len(outcomes), 0.0),
            *(Verdict(f"{name} left behind", after[name] - before[name], 0.0) for name in before),
        ],
        notes,
    )


async def soak(function: FunctionVersion, host: Host) -> list[Outcome]:
    pool = Pool(host, EventStream(), Settings())
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> Outcome:
        async with turns:
            event = json.dumps({"number": number, "kind": kind_of(number)[0]}).encode()
            return await pool.invoke(function, InvokeRequest(f"id-{number}", event), queue=True)

    try:
        return await asyncio.gather(*(one(number) for number in range(COUNT)))
    finally:
        await pool.close()


def kind_of(number: int) -> tuple[str, str]:
    """What an invoke is to do, and the status it must end with."""
    for kind, (every, status) in reversed(FAULTS.items()):
        if number % every == every - 1:
            return kind, status
    return "", "success"


def right(number: int, outcome: Outcome) -> bool:
    _, status = kind_of(number)
    if outcome.status != status or outcome.request_id != f"id-{number}":
        return False
    return status != "success" or json.loads(outcome.answer.payload) == [number, f"id-{number}"]


def ours(source: str, where: str) -> bool:
    """Whether a mount is of the kind that building a root makes, or lies where this run's files are. Others mount as well."""
    return source in ("stage", "root") or where.startswith(
        (str(open_store().root), tempfile.gettempdir() + "/lading-bench")
    )


def traces() -> dict[str, int]:
    """What this process has on this machine: children, mounts, groups, network namespaces."""
    mounts = sum(ours(*line.split(" ")[:2]) for line in Path("/proc/self/mounts").read_text("utf-8").splitlines())
    groups = sum(1 for folder in Path("/sys/fs/cgroup").rglob(f"lading.{os.getpid()}.*") if folder.is_dir())
    pids = family(os.getpid())
    namespaces = {Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in pids}
    descriptors = len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0
    return {
        "processes": len(pids) - 1,
        "mounts": mounts,
        "cgroups": groups,
        "network namespaces": len(namespaces) - 1,
        "descriptors": descriptors,
    }
