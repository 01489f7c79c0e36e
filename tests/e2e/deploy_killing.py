"""Deployments killed at a chosen call, and gone on with: what tests and the benchmark of kills have in common."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deploy_proxy import Answer, Seen, Trouble, troubled
from deploy_support import ENVIRONMENT, Endpoint, Site, deploy, everything, lines, plan_of, shape

LAYER = '[tool.lading.layers.shared]\ncontent = "layer"'
FIRST = shape(
    "kills",
    {
        "first": 'alias = "live"\nurl = true\nlayers = ["shared"]\nasync = { retries = 1 }\n'
        'events.often = { type = "schedule", schedule = "rate(5 minutes)" }\nlogging = { retention = 7 }',
        "second": "reserved-concurrency = 2",
    },
    LAYER,
)
CHANGED = shape(
    "kills",
    {
        "first": 'alias = "live"\nlayers = ["shared"]\nmemory = 256\nasync = { retries = 1 }\n'
        'events.seldom = { type = "schedule", schedule = "rate(5 days)" }\npermissions.a = { principal = "s3.amazonaws.com" }',
        "third": "publish = true",
    },
    LAYER,
)
CODE = "def handler(event, context):\n    return 'changed'\n"


class Victims:
    """A process that makes deployments in children."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("deploy_victim.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)], env={**os.environ, **ENVIRONMENT}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def close(self) -> None:
        self._input.close()
        self._process.wait(timeout=60)
        self._output.close()

    def kill_at(self, number: int, target: Endpoint, site: Site, *, gone: bool, answered: bool) -> bool:
        """Deploy in a child that is killed at its call of that number, before the endpoint sees it or after. Whether it was."""
        child: list[int] = []
        known = threading.Event()

        def strike(seen: Seen) -> None:
            if seen.number == number:
                assert known.wait(60)
                os.kill(child[0], signal.SIGKILL)

        trouble = Trouble(after=strike) if answered else Trouble(before=strike)
        if not answered:
            trouble.drop = lambda seen: seen.number == number
        with troubled(target.url, trouble) as url:
            self._input.write(json.dumps([url, str(site.root), gone]) + "\n")
            self._input.flush()
            child.append(int(self._output.readline()))
            known.set()
            code = int(self._output.readline())
            until_quiet(trouble)
        assert code in (0, -signal.SIGKILL), f"the deployment ended with {code}"
        return code != 0


def until_quiet(trouble: Trouble) -> None:
    """What a killed process had sent is done before the next one looks."""
    deadline = time.monotonic() + 60
    while trouble.under_way:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def victims() -> Iterator[Victims]:
    found = Victims()
    try:
        yield found
    finally:
        found.close()


@dataclass(frozen=True)
class Phase:
    """From the state before to this one: `gone` is nothing. `calls` and `goal` are those of a run that nobody killed."""

    name: str
    text: str
    code: str = ""
    gone: bool = False
    calls: int = 0
    goal: Any = field(default=None, hash=False)


PHASES = (Phase("made", FIRST), Phase("changed", CHANGED, CODE), Phase("removed", CHANGED, CODE, gone=True))


@dataclass
class Kills:
    """What came of it. All but `runs` and `killed` are to be 0."""

    runs: int = 0
    killed: int = 0
    different: int = 0
    """States after the next run that aren't those of a run that nobody killed."""
    unfinished: int = 0
    """Plans that still had something to do."""


def kill_around(target: Endpoint, folder: Path, runs: int, chosen: random.Random, process: Victims) -> Kills:
    """A project is made, changed and removed again and again; each deployment is killed at some call, and gone on with."""
    with without_tagging(target) as reached:
        return _kill_around(reached, folder, runs, chosen, process)


@contextlib.contextmanager
def without_tagging(target: Endpoint) -> Iterator[Endpoint]:
    """moto's tagging API knows no log groups, so it is taken away: lading then asks one by one."""
    if target.name != "moto":
        yield target
        return
    unknown = Answer(400, "UnknownOperationException", "moto's knows no log groups")
    with troubled(target.url, Trouble(answer=lambda seen: unknown if seen.service == "tagging" else None)) as url:
        yield replace(target, url=url)


def _kill_around(target: Endpoint, folder: Path, runs: int, chosen: random.Random, process: Victims) -> Kills:
    site, account, found = Site(folder, FIRST), target.account(), Kills()
    phases = [_measure(phase, site, target, account) for phase in PHASES]
    for number in range(runs):
        phase = phases[number % len(phases)]
        wish = _wish(site, phase)
        call = chosen.randint(1, phase.calls)
        found.runs += 1
        found.killed += process.kill_at(call, target, site, gone=phase.gone, answered=chosen.random() < 0.5)
        deploy(account, wish)
        found.different += everything(target) != phase.goal
        found.unfinished += bool(lines(plan_of(account, wish)))
    deploy(account, replace(site.wish(), gone=True))
    return found


def _wish(site: Site, phase: Phase) -> Any:
    site.text, site.code = phase.text, {"first": phase.code} if phase.code else {}
    for path in site.root.glob("*.zip"):
        path.unlink()
    return site.wish(gone=phase.gone)


def _measure(phase: Phase, site: Site, target: Endpoint, account: Any) -> Phase:
    wish = _wish(site, phase)
    before = sum(account.calls.values())
    deploy(account, wish)
    return replace(phase, calls=sum(account.calls.values()) - before + 1, goal=everything(target))
