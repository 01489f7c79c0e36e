"""How long is the first cold start of an image function that is ready (unpacked, or mounted lazily), beside the same as a zip?"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.harness.compare import Row, Table, ratio
from bench.harness.lambda_client import RUNTIME, Server, free_port, server
from bench.harness.process import CommandError
from bench.harness.workshop import Workshop
from bench.image import made_base

LIMIT = 1.5
HANDLER = "def lambda_handler(event, context):\n    return [{number}, event]\n"
_ROLE = "arn:aws:iam::000000000000:role/bench"
_AUTHORIZATION = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=00",
    "X-Amz-Date": "20260101T000000Z",
    "Content-Type": "application/json",
}


def measure(workshop: Workshop) -> Iterator[Table]:
    base = made_base(workshop)
    for images, way, limit in (("unpack", "fork", LIMIT), ("lazy", "fork", None), ("unpack", "exec", None)):
        port = free_port()
        command = [workshop.lading, "serve", "--port", str(port), "--no-neighbours", "--images", images]
        state = workshop.folder / f"state-{images}-{way}"
        with server(
            "lading", [*command, "--cold-start", way, "--state", str(state)], workshop.environment, port
        ) as ours:
            yield _compare(workshop, ours, base, Way(images, way, limit))


@dataclass(frozen=True)
class Way:
    """How the service makes images ready and starts functions; what is promised of an image's start beside a zip's."""

    images: str
    start: str
    limit: float | None


def _compare(workshop: Workshop, ours: Server, base: Path, way: Way) -> Table:
    """Every function is new, and its own code; an image's root is made ready when its function becomes active, as a zip's is."""
    zips: list[float] = []
    images: list[float] = []
    for number in range(workshop.rounds * 2 + 1):
        source = HANDLER.format(number=number)
        ours.create(f"zip{number}", source)
        _create_image(workshop, ours, f"image{number}", _pushed(workshop, ours, base, number, source))
        time.sleep(1.0)  # what stands ready for the next start is made behind the answer
        pair = [(zips, f"zip{number}"), (images, f"image{number}")]
        for samples, name in pair if number % 2 else reversed(pair):
            [seconds] = ours.invoke([name])
            if number:  # the first start of all opens the pool
                samples.append(seconds)
    zip_row, image_row = Row(f"zip, {way.start}", zips), Row(f"image, {way.images}, {way.start}", images)
    notes = [
        "first invoke of each new function through HTTP; all images stand on one base made by `lading base build`",
        "fork: an image's client is started when its function becomes active, as a zip's is once for its runtime: not timed",
        "after a restart of the service the first start of each image pays for its client",
    ]
    title = f"first cold start, --cold-start {way.start}, --images {way.images}"
    return Table(title, [zip_row, image_row], [ratio(image_row, zip_row, way.limit)], notes)


def _pushed(workshop: Workshop, ours: Server, base: Path, number: int, source: str) -> str:
    project = workshop.project("function", {"lambda_function.py": source, "requirements.txt": ""})
    uri = f"127.0.0.1:{ours.port}/function:{number}"
    environment = {**os.environ, **workshop.environment}
    build = ["build", "--package", "image", "--base", str(base), "--runtime", RUNTIME]
    layout = project / "dist" / "function.oci"
    if not number:
        _call(ours, "ecr", {"repositoryName": "function"})
    for arguments in (build, ["push", str(layout), uri]):
        done = subprocess.run(
            [workshop.lading, *arguments], cwd=project, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise CommandError(f"lading {arguments[0]}: {done.stderr}")
    return uri


def _create_image(workshop: Workshop, ours: Server, name: str, uri: str) -> None:
    body = {"FunctionName": name, "Role": _ROLE, "PackageType": "Image", "Code": {"ImageUri": uri}}
    _call(ours, "lambda", body)
    path = f"/2015-03-31/functions/{name}/configuration"
    while b"Pending" in _request(ours, "GET", path, None, {}):
        time.sleep(0.01)


def _call(ours: Server, service: str, body: dict[str, object]) -> bytes:
    if service == "lambda":
        return _request(ours, "POST", "/2015-03-31/functions", json.dumps(body), {})
    headers = {
        "Authorization": _AUTHORIZATION["Authorization"].replace("/lambda/", "/ecr/"),
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.CreateRepository",
    }
    return _request(ours, "POST", "/", json.dumps(body), headers)


def _request(ours: Server, method: str, path: str, body: str | None, headers: dict[str, str]) -> bytes:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", ours.port, timeout=120)) as connection:
        connection.request(method, path, body, {**_AUTHORIZATION, **headers})
        response = connection.getresponse()
        answer = response.read()
        if response.status >= 300:
            raise CommandError(f"{method} {path}: {response.status} {answer[:300]!r}")
        return answer
