"""How long does a build take that has nothing to do?"""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness import projects
from bench.harness.compare import Side, Table, Verdict, interleave, ratio, wall_row
from bench.harness.peers import interpreter, peer
from bench.harness.workshop import Workshop

LIMIT_SECONDS = 0.25


def measure(workshop: Workshop) -> Iterator[Table]:
    root = workshop.project("ours", projects.data_project())
    sam = workshop.project("sam", projects.data_project_for_sam())
    path = {**workshop.environment, "PATH": workshop.path_with(interpreter(projects.VERSION))}
    state = "built before, no file changed"
    build = [workshop.lading, "build", "--runtime", projects.RUNTIME]
    sides = [
        Side("lading build", [build], root, state, workshop.environment),
        Side("python, nothing", [[workshop.python, "-c", "pass"]], root),
        Side("sam build --cached", [[peer("sam"), "build", "--cached"]], sam, state, path, rounds=3),
        Side("sam build", [[peer("sam"), "build"]], sam, state, path, rounds=3),
    ]
    costs = interleave(sides, workshop.rounds * 2)
    ours, floor, cached, plain = (wall_row(side, costs) for side in sides)
    yield Table(
        "pandas + requests + boto3 + pydantic, python3.13, nothing changed, whole processes",
        [ours, floor, cached, plain],
        [
            Verdict("seconds of lading build", ours.median, LIMIT_SECONDS),
            ratio(ours, cached),
            ratio(ours, plain),
            ratio(ours, floor),
        ],
    )
