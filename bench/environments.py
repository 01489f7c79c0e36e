"""How long do cold and warm invokes take over HTTP, and how many sleep at once, beside ministack (processes without walls)?"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from contextlib import ExitStack

from bench.harness.compare import Row, Table, Verdict, ratio
from bench.harness.lambda_client import Server, free_port, server
from bench.harness.peers import PeerMissingError, peer
from bench.harness.workshop import Workshop

HELLO = "def lambda_handler(event, context):\n    return {'ok': True}\n"
SLEEP = "import time\ndef lambda_handler(event, context):\n    time.sleep(1)\n    return {'ok': True}\n"
SLEEPERS = 20
WARM = 1_000
CONNECTIONS = 8
MEMORY = 1769
"""MB that buy one vCPU: with less, the share of a CPU is what would be measured."""
COLD_SECONDS, COLD_RATIO = 0.010, 1 / 15
SLEEP_SECONDS = 1.3
SAME = "same client, plain HTTP over one kept connection: request sent → response read"


def measure(workshop: Workshop) -> Iterator[Table]:
    if os.geteuid() != 0:
        raise PeerMissingError("environments with all walls need root: run this as root")
    with ExitStack() as stack:
        ours_port, theirs_port = free_port(), free_port()
        command = [workshop.lading, "serve", "--port", str(ours_port), "--state", ":memory:"]
        ours = stack.enter_context(server("lading", command, workshop.environment, ours_port))
        environment = {"GATEWAY_PORT": str(theirs_port)}
        theirs = stack.enter_context(server("ministack", [peer("ministack")], environment, theirs_port))
        for one in (ours, theirs):
            one.create_role()
            one.create("first", HELLO, MemorySize=MEMORY)
            one.invoke(["first"])  # the runtime's parts are installed and its zygote started once per service
        yield cold(workshop, ours, theirs)
        yield warm(workshop, ours, theirs)
        yield sleepers(workshop, ours, theirs)


def cold(workshop: Workshop, ours: Server, theirs: Server) -> Table:
    """Every sample is a function that was never invoked; the sides take turns."""
    count = workshop.rounds * 4
    samples: dict[str, list[float]] = {ours.name: [], theirs.name: []}
    for number in range(count):
        for one in (ours, theirs):
            one.create(f"cold{number}", HELLO, MemorySize=MEMORY)
            samples[one.name] += one.invoke([f"cold{number}"])
    isolated = Row("lading, all walls", samples[ours.name], state=f"{SAME}; unpacking the function's zip included")
    plain = Row("ministack, no walls", samples[theirs.name], state=SAME)
    verdicts = [Verdict("seconds, median", isolated.median, COLD_SECONDS), ratio(isolated, plain, COLD_RATIO)]
    return Table("hello world, first invoke of a function just created", [isolated, plain], verdicts)


def warm(workshop: Workshop, ours: Server, theirs: Server) -> Table:
    rows, verdicts = [], []
    for one, count in ((ours, WARM), (theirs, WARM // 10)):
        one.invoke(["first"] * 20)
        samples = one.invoke(["first"] * count)
        rows.append(Row(f"{one.name}, one at a time", samples, state=SAME))
        verdicts.append(Verdict(f"{one.name}: seconds at p99", statistics.quantiles(samples, n=100)[98]))
        crowd = [["first"] * (count // CONNECTIONS)] * CONNECTIONS
        one.crowd([["first"] * 5] * CONNECTIONS)
        rates = [len(crowd) * len(crowd[0]) / one.crowd(crowd) for _ in range(workshop.rounds)]
        rows.append(Row(f"{one.name}, {CONNECTIONS} connections", rates, unit="/s", state="client on the same 2 cores"))
    verdicts.append(ratio(rows[0], rows[2]))
    return Table("hello world, warm", rows, verdicts)


def sleepers(workshop: Workshop, ours: Server, theirs: Server) -> Table:
    rows = []
    for one in (ours, theirs):
        samples = []
        for number in range(min(workshop.rounds, 3)):
            name = f"sleep{number}"
            one.create(name, SLEEP, Timeout=30, MemorySize=MEMORY)
            samples.append(one.crowd([[name]] * SLEEPERS))
        rows.append(Row(one.name, samples, state=f"{SLEEPERS} connections at once, function just created"))
    verdicts = [Verdict("seconds, median", rows[0].median, SLEEP_SECONDS), ratio(rows[0], rows[1])]
    return Table(f"{SLEEPERS} sleeps of one second at once, cold", rows, verdicts)
