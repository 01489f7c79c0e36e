"""How long does the command line take to start, beside an interpreter that does nothing?"""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness.compare import Side, Table, Verdict, interleave, ratio, wall_row
from bench.harness.workshop import Workshop

LIMIT_SECONDS = 0.15


def measure(workshop: Workshop) -> Iterator[Table]:
    nothing = Side("python, nothing", [[workshop.python, "-c", "pass"]], workshop.folder)
    lading = Side("lading --help", [[workshop.lading, "--help"]], workshop.folder)
    costs = interleave([lading, nothing], workshop.rounds * 4)
    ours, floor = wall_row(lading, costs), wall_row(nothing, costs)
    yield Table(
        "start of the command line, whole process",
        [ours, floor],
        [Verdict("seconds of lading --help", ours.median, LIMIT_SECONDS), ratio(ours, floor)],
    )
