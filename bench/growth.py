"""How does the time grow with the number of functions that share their dependencies?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from bench.harness import projects
from bench.harness.compare import Row, Side, Table, Verdict, interleave
from bench.harness.workshop import Workshop, remove

SIZES = (1, 10, 50)
LIMIT_PER_BYTE = 1.5


def measure(workshop: Workshop) -> Iterator[Table]:
    sides = [side(workshop, count) for count in SIZES]
    costs = interleave(sides, workshop.rounds)
    rows, per_byte = [], {}
    for count, each in zip(SIZES, sides, strict=True):
        written = sum(path.stat().st_size for path in (each.folder / "dist").glob("*.zip"))
        row = Row(each.name, [cost.wall for cost in costs[each.name]], state=f"{written / 1e6:.1f} MB of zips written")
        rows.append(row)
        per_byte[count] = row.median / written
    yield Table(
        "requests + pydantic in every function; caches warm, every handler changed, no artifacts",
        rows,
        [
            Verdict("seconds per byte written, 50 functions : 10", per_byte[50] / per_byte[10], LIMIT_PER_BYTE),
            Verdict("seconds per byte written, 50 functions : 1", per_byte[50] / per_byte[1]),
        ],
    )


def side(workshop: Workshop, count: int) -> Side:
    root = workshop.project(f"functions{count}", projects.many_functions(count))
    revisions = itertools.count(1)

    def prepare() -> None:
        remove(root / "dist")
        revision = next(revisions)
        for handler in root.glob("f*/lambda_function.py"):
            handler.write_text(f"{handler.read_text().split('# revision')[0]}# revision {revision}\n")

    noun = "function" if count == 1 else "functions"
    return Side(f"{count} {noun}", [[workshop.lading, "build"]], root, "", workshop.environment, prepare)
