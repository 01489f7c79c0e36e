"""Does the first build, which compiles all bytecode, use every core?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bench.harness import projects
from bench.harness.compare import Row, Side, Table, Verdict, interleave, ratio, wall_row
from bench.harness.peers import system_command
from bench.harness.workshop import Workshop, remove


def measure(workshop: Workshop) -> Iterator[Table]:
    cores = sorted(os.sched_getaffinity(0))
    every = side(workshop, f"on {len(cores)} cores", [])
    one = side(workshop, "on one core", [system_command("taskset"), "-c", str(cores[0])])
    costs = interleave([every, one], max(2, workshop.rounds // 2))
    ours, alone = wall_row(every, costs), wall_row(one, costs)
    busy = Row("cores busy, on the average of the whole build", [c.cpu / c.wall for c in costs[every.name]], "cores")
    yield Table(
        "pandas + requests + boto3 + pydantic, lading's cache empty: wheels are downloaded meanwhile",
        [ours, alone, busy],
        [ratio(ours, alone, 0.75 if len(cores) > 1 else None), Verdict("cores busy", busy.median)],
    )


def side(workshop: Workshop, name: str, prefix: list[str]) -> Side:
    root = workshop.project(name.replace(" ", "-"), projects.data_project())
    cache: Path = workshop.folder / f"cache-{root.name}"
    return Side(
        f"first build {name}",
        [[*prefix, workshop.lading, "build", "--runtime", projects.RUNTIME]],
        root,
        "lading's cache emptied, no lock",
        {**workshop.environment, "LADING_CACHE_DIR": str(cache)},
        lambda: remove(cache, root / "dist", *root.glob("pylock*.toml")),
    )
