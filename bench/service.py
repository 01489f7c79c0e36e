"""The local service against its peers through HTTP: start-up, warm and cold invokes with boto3, a light load.

    python bench/service.py [--peer ministack=COMMAND] [--invokes N] [--json FILE]

A peer is a command that serves AWS's API; "{port}" in it is replaced. Prints medians and ratios of one run.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import multiprocessing
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from bench.harness.compare import Table
    from bench.harness.workshop import Workshop

ROLE = "arn:aws:iam::000000000000:role/bench"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
OURS = "lading"
OUR_COMMAND = [
    *(sys.executable, "-m", "lading.cli.main", "serve"),
    *("--port", "{port}", "--state", ":memory:", "--no-neighbours"),
]


def measure(workshop: Workshop) -> Iterator[Table]:
    """Ours alone, for `python -m bench`; peers are named to the program itself."""
    from bench.harness.compare import Row, Table

    found = side(OUR_COMMAND, 100 * workshop.rounds)
    rows = [Row(what, [value], what.rpartition(" ")[2]) for what, value in found.items()]
    yield Table("a function that returns its event, warm", rows)


def package() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo("app.py", (2026, 1, 1, 0, 0, 0))
        member.external_attr = 0o644 << 16
        archive.writestr(member, "def handler(event, context):\n    return event\n")
    return buffer.getvalue()


def client(url: str, service: str = "lambda") -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 0}, read_timeout=120),
    )  # fmt: skip


@contextlib.contextmanager
def serving(command: list[str]) -> Iterator[tuple[str, float]]:
    """A served endpoint's URL, and the seconds until it took connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [word.replace("{port}", str(port)) for word in command]
    started = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.perf_counter() - started > 60:
                raise SystemExit(f"{' '.join(words)} does not serve")
            time.sleep(0.005)
        yield f"http://127.0.0.1:{port}", time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(30)


def create(api: Any, name: str) -> None:
    """With the memory that buys a whole CPU: with less, environments' walls hold them back, as on AWS, and not the service."""
    api.create_function(
        FunctionName=name, Runtime="python3.13", Role=ROLE, Handler="app.handler", Code={"ZipFile": package()},
        MemorySize=1769,
    )  # fmt: skip
    api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})


def invoke(api: Any, name: str, event: bytes) -> None:
    answer = api.invoke(FunctionName=name, Payload=event)
    found = answer["Payload"].read()
    if answer.get("FunctionError") or json.loads(found) != json.loads(event):
        raise SystemExit(f"{name} answered {found[:300]!r}")


def warm(api: Any, invokes: int) -> list[float]:
    """Milliseconds per invoke with boto3."""
    times = []
    for number in range(invokes + 10):
        started = time.perf_counter()
        invoke(api, "warm", b'{"a":1}')
        if number >= 10:
            times.append((time.perf_counter() - started) * 1000)
    return times


def cold(api: Any, starts: int) -> list[float]:
    """Milliseconds of the first invoke of functions that were never invoked."""
    times = []
    for number in range(starts):
        create(api, f"cold-{number}")
        started = time.perf_counter()
        invoke(api, f"cold-{number}", b"{}")
        times.append((time.perf_counter() - started) * 1000)
    return times


def hammer(url: str, seconds: float, times: Any) -> None:
    """One connection that invokes as fast as it is answered; puts its milliseconds into `times`."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    mine = []
    path = "/2015-03-31/functions/warm/invocations"
    credential = "Credential=test/20260101/us-east-1/lambda/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        connection.request("POST", path, b"{}", headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            mine.append((time.perf_counter() - started) * 1000)
    times.put(mine)


def wrk(url: str, seconds: float, connections: int) -> tuple[float, float]:
    credential = "Credential=test/20260101/us-east-1/lambda/aws4_request"
    header = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f'wrk.method = "POST"; wrk.body = "{{}}"; wrk.headers["Authorization"] = "{header}"\n')
        script.write("done = function(summary, latency) io.write(summary.requests - summary.errors.status, ' ', "
                     "latency:percentile(99) / 1000, '\\n') end\n")  # fmt: skip
        script.flush()
        words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", script.name]
        path = f"{url}/2015-03-31/functions/warm/invocations"
        said = subprocess.run([*words, path], check=True, capture_output=True, text=True).stdout
    count, slowest = said.splitlines()[-1].split()
    return int(count) / seconds, float(slowest)


def load(url: str, seconds: float, connections: int = 8) -> tuple[float, float]:
    """(invokes per second, p99 in milliseconds) with so many connections: of wrk, or where it is missing a process each."""
    if shutil.which("wrk"):
        return wrk(url, seconds, connections)
    context = multiprocessing.get_context("fork")
    times = context.Queue()
    workers = [context.Process(target=hammer, args=(url, seconds, times)) for _ in range(connections)]
    for worker in workers:
        worker.start()
    found = sorted(value for _ in workers for value in times.get())
    for worker in workers:
        worker.join()
    return len(found) / seconds, found[int(len(found) * 0.99)] if found else float("nan")


def side(command: list[str], invokes: int) -> dict[str, float]:
    with serving(command) as (url, ready):
        with contextlib.suppress(Exception):  # a peer without IAM takes any role
            client(url, "iam").create_role(RoleName="bench", AssumeRolePolicyDocument=json.dumps(TRUST))
        api = client(url)
        create(api, "warm")
        found = {"ready s": ready, "warm p50 ms": statistics.median(warm(api, invokes))}
        found["cold p50 ms"] = statistics.median(cold(api, 15))
        found["8 connections /s"], found["8 connections p99 ms"] = load(url, 5)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--invokes", type=int, default=500)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {OURS: side(OUR_COMMAND, options.invokes)}
    for peer in options.peer:
        name, _, command = peer.partition("=")
        results[name] = side(shlex.split(command), max(20, options.invokes // 10))
    for name, found in results.items():
        for what, value in found.items():
            other = results[OURS].get(what)
            ratio = f"  ({value / other:.1f} of ours)" if name != OURS and other else ""
            print(f"{name:<12}{what:<32}{value:>10.2f}{ratio}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
