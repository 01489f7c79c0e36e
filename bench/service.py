"""The local service beside its peers, through HTTP as clients come: start, warm and cold invokes with boto3, 8 connections."""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import json
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.harness.compare import Row, Table, Verdict, ratio
from bench.harness.peers import peer
from bench.harness.process import CommandError
from bench.harness.workshop import Workshop

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
OURS, RUNNER, CANNED = "lading", "ministack", "moto_server"
WARM, COLD = 200, 4
"""Invokes in a round of ours; a peer that runs functions gets a tenth of the warm ones."""
CONNECTIONS, SECONDS = 8, 4.0
READY, WARM_MS, WARM_RATIO, COLD_MS, COLD_RATIO = 1.0, 4.0, 1 / 12, 18.0, 1 / 10
RATE, RATE_RATIO, P99_MS = 1_200, 1 / 10, 20.0
PATIENCE = 60.0
NOTHING = "no containers here: it runs nothing and answers a constant"
CREDENTIAL = "Credential=test/20260101/us-east-1/lambda/aws4_request"
AUTHORIZATION = f"AWS4-HMAC-SHA256 {CREDENTIAL}, SignedHeaders=host, Signature=0"
PATH = "/2015-03-31/functions/warm/invocations"


@dataclass(frozen=True)
class Endpoint:
    """A server that answers, with a function `warm` that was invoked. `runs`: whether it runs functions at all."""

    name: str
    url: str
    api: Any
    role: str
    ready: float
    """Seconds from its command to its first answer."""
    runs: bool = True


def measure(workshop: Workshop) -> Iterator[Table]:
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(one) for one in servers(workshop)]
        yield Table(
            "from the command to the first answer",
            [Row(side.name, [side.ready]) for side in sides],
            [Verdict("seconds", sides[0].ready, READY), Verdict("ministack, seconds", sides[1].ready)],
        )
        yield warm(sides, workshop.rounds)
        yield cold(sides, workshop.rounds)
        yield crowd(sides, workshop.rounds)


def servers(workshop: Workshop) -> list[contextlib.AbstractContextManager[Endpoint]]:
    """As they come: with their neighbours; ours with its state on disk."""
    serve = [workshop.lading, "serve", "--port", "{port}", "--state", str(workshop.folder / "state")]
    beside = Path(workshop.python).with_name(CANNED)
    moto = [str(beside) if beside.exists() else peer(CANNED), "--port", "{port}"]
    return [
        serving(OURS, serve, workshop.environment),
        serving(RUNNER, [peer(RUNNER)], {"GATEWAY_PORT": "{port}"}),
        serving(CANNED, moto, {}, runs=False),
    ]


def warm(sides: Sequence[Endpoint], rounds: int) -> Table:
    found: dict[str, list[float]] = {side.name: [] for side in sides}
    for _, side in itertools.product(range(rounds), sides):
        count = WARM // 10 if side.name == RUNNER else WARM
        for _ in range(count):
            started = time.perf_counter()
            invoke(side, "warm", b'{"a": 1}')
            found[side.name].append((time.perf_counter() - started) * 1000)
    rows = [Row(side.name, found[side.name], "ms", "" if side.runs else NOTHING) for side in sides]
    verdicts = [
        Verdict("ms, p50", rows[0].median, WARM_MS),
        Verdict("ms, p99", quantile(rows[0].samples, 99)),
        ratio(rows[0], rows[1], WARM_RATIO),
    ]
    return Table("a function that returns its event, warm, with boto3, one at a time", rows, verdicts, [load()])


def cold(sides: Sequence[Endpoint], rounds: int) -> Table:
    """The first invoke of functions that were just created, what is left of their creation included."""
    runners = [side for side in sides if side.runs]
    found: dict[str, list[float]] = {side.name: [] for side in runners}
    for number, side in itertools.product(range(rounds * COLD), runners):
        create(side, f"cold-{number}")
        started = time.perf_counter()
        invoke(side, f"cold-{number}", b"{}")
        found[side.name].append((time.perf_counter() - started) * 1000)
    rows = [Row(side.name, found[side.name], "ms") for side in runners]
    verdicts = [Verdict("ms, p50", rows[0].median, COLD_MS), ratio(rows[0], rows[1], COLD_RATIO)]
    return Table("the same, the first invoke of a function just created", rows, verdicts, [load()])


def crowd(sides: Sequence[Endpoint], rounds: int) -> Table:
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    slowest: dict[str, list[float]] = {side.name: [] for side in sides}
    for side in sides:
        hammered(side.url, 1.0)
    for _, side in itertools.product(range(rounds), sides):
        rate, p99 = hammered(side.url, SECONDS)
        rates[side.name].append(rate)
        slowest[side.name].append(p99)
    rows = [Row(side.name, rates[side.name], "/s", "" if side.runs else NOTHING) for side in sides]
    late = [Row(f"{side.name}, p99", slowest[side.name], "ms") for side in sides]
    ours, theirs = rows[0].median, rows[1].median
    verdicts = [
        Verdict(f"{RATE:,}/s to ours", RATE / ours, 1.0),
        Verdict("ms, p99", late[0].median, P99_MS),
        Verdict(f"{RUNNER} : {OURS}", theirs / ours, RATE_RATIO, shown=f"1/{ours / theirs:.1f}"),
    ]
    by = "wrk, one thread" if shutil.which("wrk") else "a Python process a connection (wrk isn't installed)"
    notes = [f"load by {by}, {SECONDS:.0f} s a round, on the same {os.cpu_count()} cores", load()]
    return Table(
        f"the same, {CONNECTIONS} connections that ask again as soon as they are answered", rows + late, verdicts, notes
    )


def quantile(samples: Sequence[float], percent: int) -> float:
    return statistics.quantiles(samples, n=100)[percent - 1]


def load() -> str:
    return f"load of the machine afterwards: {os.getloadavg()[0]:.1f}"


@contextlib.contextmanager
def serving(
    name: str, command: Sequence[str], environment: Mapping[str, str], *, runs: bool = True
) -> Iterator[Endpoint]:
    """An endpoint with a function that is warm. "{port}" in words and values is replaced."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [word.replace("{port}", port) for word in command]
    variables = {key: value.replace("{port}", port) for key, value in environment.items()}
    started = time.perf_counter()
    process = subprocess.Popen(
        words, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await_answer(process, int(port), name)
        ready = time.perf_counter() - started
        url = f"http://127.0.0.1:{port}"
        made = client(url, "iam").create_role(RoleName="bench", AssumeRolePolicyDocument=json.dumps(TRUST))
        if not runs:
            settings = json.dumps({"lambda": {"use_docker": False}}).encode()
            send(url, "/moto-api/config", settings)
        side = Endpoint(name, url, client(url), made["Role"]["Arn"], ready, runs)
        create(side, "warm")
        for _ in range(10):
            invoke(side, "warm", b"{}")
        yield side
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_answer(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    """Until it answers a request with whatever status: a port may be open long before."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/")
            connection.getresponse().read()
            return
        time.sleep(0.005)
    raise CommandError(f"{name} did not begin to answer on port {port}")


def send(url: str, path: str, body: bytes) -> None:
    parts = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.hostname or "", parts.port)) as connection:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise CommandError(f"{path}: {answer.status} {said[:200]!r}")


def package() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo("app.py", (2026, 1, 1, 0, 0, 0))
        member.external_attr = 0o100644 << 16
        archive.writestr(member, "def handler(event, context):\n    return event\n")
    return buffer.getvalue()


def client(url: str, service: str = "lambda") -> Any:
    import boto3
    from botocore.config import Config

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    config = Config(retries={"max_attempts": 0}, read_timeout=120)
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", config=config, **keys)


def create(side: Endpoint, name: str) -> None:
    """With the memory that buys a whole CPU: with less, environments' walls hold them back, as on AWS, and not the service."""
    code = {"ZipFile": package()}
    side.api.create_function(
        FunctionName=name, Runtime="python3.13", Role=side.role, Handler="app.handler", Code=code, MemorySize=1769
    )
    side.api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})


def invoke(side: Endpoint, name: str, event: bytes) -> None:
    answer = side.api.invoke(FunctionName=name, Payload=event)
    found = answer["Payload"].read()
    if answer.get("FunctionError") or (side.runs and json.loads(found) != json.loads(event)):
        raise CommandError(f"{side.name}'s {name} answered {found[:300]!r}")


def hammered(url: str, seconds: float) -> tuple[float, float]:
    """(answers with status 200 per second, p99 in milliseconds), with all connections at once."""
    return by_wrk(url, seconds) if shutil.which("wrk") else by_processes(url, seconds)


def by_wrk(url: str, seconds: float) -> tuple[float, float]:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f'wrk.method = "POST"; wrk.body = "{{}}"; wrk.headers["Authorization"] = "{AUTHORIZATION}"\n'
            "done = function(summary, latency) io.write(summary.requests - summary.errors.status, ' ', "
            "summary.duration / 1e6, ' ', latency:percentile(99) / 1000, '\\n') end\n"
        )
        script.flush()
        words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "-s", script.name, url + PATH]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    count, took, slowest = map(float, said.splitlines()[-1].split())
    return count / took, slowest


def by_processes(url: str, seconds: float) -> tuple[float, float]:
    context = multiprocessing.get_context("fork")
    times = context.Queue()
    workers = [context.Process(target=hammer, args=(url, seconds, times.put)) for _ in range(CONNECTIONS)]
    for worker in workers:
        worker.start()
    found = sorted(value for _ in workers for value in times.get())
    for worker in workers:
        worker.join()
    return len(found) / seconds, found[int(len(found) * 0.99)] if found else float("nan")


def hammer(url: str, seconds: float, put: Callable[[list[float]], None]) -> None:
    """One connection; puts the milliseconds of each answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    mine = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        connection.request("POST", PATH, b"{}", {"Authorization": AUTHORIZATION})
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            mine.append((time.perf_counter() - started) * 1000)
    put(mine)
