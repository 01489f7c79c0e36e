"""A deployment killed at a random call, LADING_KILLS (100) times on each endpoint: does the next run end in the same state?"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.harness.compare import Row, Table, Verdict
from bench.harness.workshop import Workshop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))
KILLS = int(os.environ.get("LADING_KILLS", "100"))
"""Of each endpoint."""


def measure(workshop: Workshop) -> Iterator[Table]:
    from deploy_support import endpoint

    for name in ("local", "moto"):
        with endpoint(name) as target, tempfile.TemporaryDirectory() as folder:
            yield soak(Path(folder), target)


def soak(folder: Path, target: object) -> Table:
    from deploy_support import Endpoint, Site, deploy, everything, lines, plan_of
    from test_deploy_trouble import TEXT, kill_at

    assert isinstance(target, Endpoint)
    site, account = Site(folder, TEXT), target.account()
    empty, wish = everything(target), site.wish()
    account.calls.clear()
    deploy(account, wish)
    calls, goal = sum(account.calls.values()) + 1, everything(target)
    chosen = random.Random()
    killed = different = orphans = unfinished = 0
    for _ in range(KILLS):
        deploy(account, replace(wish, gone=True))
        orphans += everything(target) != empty
        killed += kill_at(chosen.randint(1, calls), site, target, answered=chosen.random() < 0.5)
        deploy(account, wish)
        different += everything(target) != goal
        unfinished += bool(lines(plan_of(account, wish)))
    return Table(
        f"{target.name}: {KILLS} deployments, {killed} killed at one of {calls} calls",
        [Row("killed", [float(killed)], unit="")],
        [
            Verdict("another state after the next run", float(different), 0.0),
            Verdict("plans that still had something to do", float(unfinished), 0.0),
            Verdict("left behind by destroy", float(orphans), 0.0),
        ],
    )
