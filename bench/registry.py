"""How long do push and pull of a 1 GB image take through the local registry, beside skopeo? And how much memory?

LADING_LAYER_MIB makes its four layers smaller than 256 MiB; the table says what it was.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.harness.compare import Row, Side, Table, Verdict, interleave, ratio, wall_row
from bench.harness.peers import system_command, versions
from bench.harness.process import kilobytes, watch
from bench.harness.workshop import Workshop, remove

LIMIT_TO_SKOPEO = 1.5
LIMIT_MB = 200.0
LAYERS = 4
LAYER_MIB = int(os.environ.get("LADING_LAYER_MIB", "256"))
PULL = (
    "import sys; from pathlib import Path; from lading.model.progress import Silent; from lading.oci.pull import pull; "
    "from lading.oci.reference import parse_reference; from lading.store import open_store; "
    "pull(parse_reference(sys.argv[1]), None, open_store(Path('pulled')).blobs, Silent())"
)
"""What `lading build` and `lading run` do with a reference; there is no command that only pulls."""


def measure(workshop: Workshop) -> Iterator[Table]:
    layout = make_image(workshop)
    with service(workshop) as (url, pid):
        host = url.removeprefix("http://")
        # Pushes come first, while no other repository has the layers: skopeo would mount them from there.
        rounds, sending = min(workshop.rounds, 3), pushes(workshop, layout, url, host)
        costs = interleave(sending, rounds)
        receiving = pulls(workshop, layout, url, host)
        costs |= interleave(receiving, rounds)
        sides = [*sending, *receiving]
        our_push, their_push, our_pull, their_pull = (wall_row(side, costs) for side in sides)
        title = (
            f"an image of {LAYERS} layers of {LAYER_MIB} MiB of random bytes; the same registry (lading serve) for both"
        )
        yield Table(
            title,
            [our_push, their_push, our_pull, their_pull],
            [ratio(our_push, their_push, LIMIT_TO_SKOPEO), ratio(our_pull, their_pull, LIMIT_TO_SKOPEO)],
            [
                "skopeo writes a layout folder; lading a content store. Both verify digests",
                *versions({"skopeo": [system_command("skopeo"), "--version"]}),
            ],
        )
        yield memory(sides, pid)


def make_image(workshop: Workshop) -> Path:
    """A layout whose layers don't compress: their size is what is sent."""
    from lading.oci.descriptor import Platform
    from lading.oci.image import empty
    from lading.oci.layer_writer import compress
    from lading.oci.layout import write_layout
    from lading.store import open_store

    blobs = open_store(workshop.folder / "made").blobs
    layers = [compress(tar(), blobs, 1 << 40, "random")[0] for _ in range(LAYERS)]
    write_layout(workshop.folder / "image", [empty(Platform("linux", "amd64")).append(layers)], name="latest")
    return workshop.folder / "image"


def tar() -> Iterator[bytes]:
    """One file of random bytes."""
    import tarfile

    head = tarfile.TarInfo("random")
    head.size = LAYER_MIB << 20
    yield head.tobuf()
    for _ in range(LAYER_MIB):
        yield os.urandom(1 << 20)
    yield bytes(10240)


@contextmanager
def service(workshop: Workshop) -> Iterator[tuple[str, int]]:
    """A served registry: its URL and process."""
    command = [workshop.lading, "serve", "--port", "0", "--state", str(workshop.folder / "state"), "--no-neighbours"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        match = re.search(r"http://[\d.:]+", process.stdout.readline())
        assert match is not None, "lading serve did not start"
        yield match[0], process.pid
    finally:
        process.terminate()
        process.wait()


def client(url: str) -> Any:
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    return boto3.client("ecr", endpoint_url=url, **keys)


def pushes(workshop: Workshop, layout: Path, url: str, host: str) -> list[Side]:
    """Each into a repository that has nothing."""

    def fresh() -> None:
        ecr = client(url)
        if any(one["repositoryName"] == "target" for one in ecr.describe_repositories()["repositories"]):
            ecr.delete_repository(repositoryName="target", force=True)
        ecr.create_repository(repositoryName="target")

    state = "an empty repository"
    skopeo = [system_command("skopeo"), "copy", "--quiet", "--dest-tls-verify=false", f"oci:{layout}:latest"]
    return [
        Side("lading push", [[workshop.lading, "push", str(layout), f"{host}/target:v1"]], workshop.folder, state,
             workshop.environment, fresh),
        Side("skopeo copy to it", [[*skopeo, f"docker://{host}/target:v1"]], workshop.folder, state, {}, fresh),
    ]  # fmt: skip


def pulls(workshop: Workshop, layout: Path, url: str, host: str) -> list[Side]:
    """Each into an empty folder."""
    client(url).create_repository(repositoryName="source")
    subprocess.run([workshop.lading, "push", str(layout), f"{host}/source:v1"], check=True, capture_output=True)
    pulled, copied = workshop.folder / "pulled", workshop.folder / "copied"
    skopeo = [system_command("skopeo"), "copy", "--quiet", "--src-tls-verify=false", f"docker://{host}/source:v1"]
    return [
        Side("lading's pull", [[workshop.python, "-c", PULL, f"{host}/source:v1"]], workshop.folder, "an empty folder",
             workshop.environment, lambda: remove(pulled)),
        Side("skopeo copy from it", [[*skopeo, f"oci:{copied}:v1"]], workshop.folder, "an empty folder", {},
             lambda: remove(copied)),
    ]  # fmt: skip


def memory(sides: list[Side], service_pid: int) -> Table:
    """Of lading's commands, each once more, and of the service over everything above."""
    rows, verdicts = [], []
    for side in (sides[0], sides[2]):
        if side.prepare:
            side.prepare()
        peak = watch(side.commands[0], side.folder, side.environment).together / 1e6
        rows.append(Row(side.name, [peak], "MB", "PSS at its peak"))
        verdicts.append(Verdict(f"MB, {side.name}", peak, LIMIT_MB))
    served = kilobytes(service_pid, "status", "VmHWM:") / 1e3
    rows.append(Row("the service", [served], "MB", "resident set at its peak, all pushes and pulls of this benchmark"))
    verdicts.append(Verdict("MB, the service", served, LIMIT_MB))
    return Table("memory", rows, verdicts)
