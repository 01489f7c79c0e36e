"""A deployment killed at a random call, LADING_KILLS (100) times on each endpoint: does the next run end in the same state?

A project is made, changed and removed in turn, and each of these is killed. The seed is printed: LADING_SEED repeats a run.
LADING_ENDPOINTS names one of the two alone.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.harness.compare import Row, Table, Verdict
from bench.harness.workshop import Workshop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))
KILLS = int(os.environ.get("LADING_KILLS", "100"))
"""Of each endpoint."""
ENDPOINTS = tuple(os.environ.get("LADING_ENDPOINTS", "local,moto").split(","))
SEED = int(os.environ.get("LADING_SEED", str(random.randrange(2**32))))


def measure(workshop: Workshop) -> Iterator[Table]:
    from deploy_killing import victims
    from deploy_support import endpoint

    for name in ENDPOINTS:
        with endpoint(name) as target, tempfile.TemporaryDirectory() as folder, victims() as process:
            yield soak(Path(folder), target, process)


def soak(folder: Path, target: object, process: object) -> Table:
    from deploy_killing import Victims, kill_around
    from deploy_support import Endpoint, everything

    assert isinstance(target, Endpoint) and isinstance(process, Victims)
    empty, begin = everything(target), time.perf_counter()
    found = kill_around(target, folder, KILLS, random.Random(SEED), process)
    seconds = time.perf_counter() - begin
    return Table(
        f"{target.name}: {found.runs} deployments, {found.killed} of them killed; seed {SEED}",
        [Row("killed, looked at, gone on with", [seconds / max(found.runs, 1)])],
        [
            Verdict("another state after the next run", float(found.different), 0.0),
            Verdict("plans that still had something to do", float(found.unfinished), 0.0),
            Verdict("left behind by destroy", float(everything(target) != empty), 0.0),
        ],
    )
