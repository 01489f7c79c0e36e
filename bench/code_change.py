"""How long until a change of the code is in the registry: build and push of an image whose packages stay?"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bench.harness.compare import Row, Side, Table, Verdict, interleave, ratio, wall_row
from bench.harness.peers import system_command, versions
from bench.harness.workshop import Workshop
from bench.image import HANDLER, REQUIREMENTS, build_command, made_base, with_buildah
from bench.registry import client, service

LIMIT_SECONDS = 0.5
LIMIT_KILOBYTES = 100.0


def measure(workshop: Workshop) -> Iterator[Table]:
    base = made_base(workshop)
    with service(workshop) as (url, _):
        for name in ("change", "peer"):
            client(url).create_repository(repositoryName=name)
        host = url.removeprefix("http://")
        root = workshop.project("change", {"requirements.txt": REQUIREMENTS, "lambda_function.py": HANDLER})
        one, two = in_one(workshop, root, base, f"{host}/change:v1"), in_two(workshop, root, base, f"{host}/change:v1")
        peer = buildah(workshop, base, f"{host}/peer:v1")
        nothing = Side("an interpreter that does nothing", [[workshop.python, "-c", "pass"]], root)
        costs = interleave([one, two, peer, nothing], workshop.rounds)
        rows = [wall_row(side, costs) for side in (one, two, peer)]
        processor = [
            Row(f"processor time: {side.name}", [cost.cpu for cost in costs[side.name]]) for side in (one, two, nothing)
        ]
        sent = kilobytes_sent(one)
    yield Table(
        "pandas + boto3 on the base of `lading base build`, pushed to `lading serve` on this machine; whole processes",
        [*rows, *processor],
        [
            Verdict("seconds of build and push", rows[0].median, LIMIT_SECONDS),
            Verdict("seconds of its processes", processor[0].median, LIMIT_SECONDS),
            Verdict("kB sent", sent, LIMIT_KILOBYTES),
            ratio(rows[0], rows[2]),
        ],
        [
            "seconds are promised for a core that has nothing else to do: an interpreter starts in about 0.01 s there",
            *versions({"buildah": [system_command("buildah"), "--version"]}),
        ],
    )


def in_one(workshop: Workshop, root: Path, base: Path, reference: str) -> Side:
    return Side(
        "lading build --push",
        [[*build_command(workshop, base), "--push", reference, "--json"]],
        root,
        "the handler changed; everything else built and pushed before",
        workshop.environment,
        _changing(root),
    )


def in_two(workshop: Workshop, root: Path, base: Path, reference: str) -> Side:
    push = [workshop.lading, "push", "dist/change.oci", reference]
    return Side(
        "lading build, lading push",
        [build_command(workshop, base), push],
        root,
        "the same",
        workshop.environment,
        _changing(root),
    )


def _changing(root: Path) -> Callable[[], None]:
    revisions = itertools.count(1)
    return lambda: _write(root, f"{HANDLER}\n# revision {next(revisions)} of {id(revisions)}\n")


def _write(root: Path, text: str) -> None:
    (root / "lambda_function.py").write_text(text)


def buildah(workshop: Workshop, base: Path, reference: str) -> Side:
    """Its layers kept, so that only the handler's is made anew; pushed from its storage."""
    side = with_buildah(workshop, base, keep=True)
    storage = side.commands[0][:7]
    push = [*storage, "push", "--quiet", "--tls-verify=false", "bench", f"docker://{reference}"]
    return replace(side, name="buildah bud --layers, buildah push", commands=[*side.commands, push])


def kilobytes_sent(side: Side) -> float:
    """Of one more change, as the command says it."""
    assert side.prepare is not None
    side.prepare()
    environment = {**os.environ, **side.environment}
    done = subprocess.run(side.commands[0], cwd=side.folder, env=environment, check=True, capture_output=True)
    return float(json.loads(done.stdout)["pushed"]["sent"]) / 1e3
