"""How many calls and how much time does a deployment take: first, unchanged, code changed, fifty functions; on two endpoints?"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.harness.compare import Row, Table, Verdict
from bench.harness.workshop import Workshop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))
FIFTY = 50


def measure(workshop: Workshop) -> Iterator[Table]:
    from deploy_support import endpoint

    for name in ("local", "moto"):
        with endpoint(name) as target:
            for count in (1, FIFTY):
                yield one_project(workshop.folder / f"{name}-{count}", count, target)


def one_project(folder: Path, count: int, target: object) -> Table:
    from dataclasses import replace

    from deploy_support import Endpoint, Site, deploy, plan_of, shape, writes

    assert isinstance(target, Endpoint)
    functions = {f"f{number}": 'alias = "live"' for number in range(count)}
    site = Site(folder, shape(f"bench{count}", functions))
    rows, verdicts, account = [], [], target.account()

    def timed(name: str, *, apply: bool = True) -> None:
        wish = site.wish()
        account.calls.clear()
        begin = time.perf_counter()
        _ = deploy(account, wish) if apply else plan_of(account, wish)
        rows.append(Row(name, [time.perf_counter() - begin]))
        total, written = sum(account.calls.values()), sum(account.calls[call] for call in writes(account))
        verdicts.append(Verdict(f"calls, {name}", float(total), None, f"{total}, of which {written} write"))

    timed("first")
    timed("nothing changed")
    wrote = sum(account.calls[call] for call in writes(account))
    verdicts.append(Verdict("writes where nothing changed", float(wrote), 0.0))
    site.code["f0"] = "def handler(event, context):\n    return 2\n"
    timed("one function's code changed")
    deploy(account, replace(site.wish(), gone=True))
    return Table(
        f"{target.name}: {count} function{'s' if count > 1 else ''} with role, log group, version and alias",
        rows,
        verdicts,
    )
