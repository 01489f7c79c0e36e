"""How long does putting the zip together take, beside copying as many bytes?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.harness import projects
from bench.harness.compare import Row, Side, Table, command_line, ratio, run_side
from bench.harness.workshop import Workshop, remove

LIMIT_TO_COPY = 2.0
STEP = "assemble"
"""The name of the step in `lading build --json`."""


def measure(workshop: Workshop) -> Iterator[Table]:
    root = workshop.project("ours", projects.data_project())
    built(workshop, root)
    [artifact] = (root / "dist").glob("*.zip")
    kept = workshop.folder / "kept.zip"
    shutil.copyfile(artifact, kept)
    copy = workshop.folder / "copy.zip"
    side = Side("cp", [["cp", str(kept), str(copy)]], root, prepare=lambda: remove(copy))
    hashing = Side(
        "cp + sha256sum", [["cp", str(kept), str(copy)], ["sha256sum", str(copy)]], root, prepare=side.prepare
    )
    steps, copies, hashed = [], [], []
    for _ in range(workshop.rounds + 1):
        steps.append(built(workshop, root))
        copies.append(run_side(side).wall)
        hashed.append(run_side(hashing).wall)
    ours = Row(
        f"step {STEP!r} of lading build", steps[1:], state="as lading build --json tells; caches warm, no artifact"
    )
    theirs = Row("cp of the same zip", copies[1:], state="whole process", command=f"cp {kept.name} {copy.name}")
    both = Row("cp and sha256sum of it", hashed[1:], state="whole processes", command=command_line(hashing.commands))
    yield Table(
        f"a zip of {kept.stat().st_size / 1e6:.1f} MB (pandas + requests + boto3 + pydantic with bytecode)",
        [ours, theirs, both],
        [ratio(ours, theirs, LIMIT_TO_COPY), ratio(ours, both)],
        ["the step also takes the zip's SHA-256, which AWS calls CodeSha256"],
    )


def built(workshop: Workshop, root: Path) -> float:
    """Seconds of the assembly step of a build without an artifact."""
    remove(root / "dist")
    command = [workshop.lading, "build", "--runtime", projects.RUNTIME, "--json"]
    result = subprocess.run(command, cwd=root, env=environment(workshop), capture_output=True, text=True, check=True)
    return float(json.loads(result.stdout)["seconds"][STEP])


def environment(workshop: Workshop) -> dict[str, str]:
    return {**os.environ, **workshop.environment}
