"""The same light HTTP client for every local Lambda: creates functions and invokes them, over kept connections.

Beside it: servers of lading and of a peer, each in a process of its own. AWS's SDK is left out: it costs more than a warm invoke.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from bench.harness.process import CommandError

RUNTIME = "python3.13"
_CREDENTIAL = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/lambda/aws4_request"
_HEADERS = {
    "Content-Type": "application/json",
    "Authorization": f"{_CREDENTIAL}, SignedHeaders=host, Signature=00",
    "X-Amz-Date": "20260101T000000Z",
}
_PATIENCE = 30.0
_TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)


@dataclass(frozen=True)
class Server:
    """A local Lambda that answers on a port of this machine."""

    name: str
    port: int

    def create_role(self) -> None:
        """The role that functions are created with: a Lambda that knows IAM looks for it."""
        form = {
            "Action": "CreateRole",
            "Version": "2010-05-08",
            "RoleName": "bench",
            "AssumeRolePolicyDocument": _TRUST,
        }
        headers = {
            **_HEADERS,
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": _HEADERS["Authorization"].replace("/lambda/", "/iam/"),
        }
        with contextlib.closing(self._connect()) as connection:
            connection.request("POST", "/", urlencode(form), headers)
            response = connection.getresponse()
            content = response.read()
        if response.status != 200:
            raise CommandError(f"{self.name}, CreateRole: {response.status} {content[:500]!r}")

    def create(self, name: str, source: str, **configuration: object) -> None:
        """A function from the source of its handler module."""
        body = {
            "FunctionName": name,
            "Runtime": RUNTIME,
            "Role": "arn:aws:iam::000000000000:role/bench",
            "Handler": "lambda_function.lambda_handler",
            "Code": {"ZipFile": base64.b64encode(archive(source)).decode()},
            **configuration,
        }
        with contextlib.closing(self._connect()) as connection:
            _call(connection, "/2015-03-31/functions", json.dumps(body), 201)
            while b"Pending" in _call(connection, f"/2015-03-31/functions/{name}/configuration", None, 200):
                time.sleep(0.01)

    def invoke(self, names: Sequence[str], event: str = "{}") -> list[float]:
        """Seconds from request to response, one after the other, over one connection."""
        seconds = []
        with contextlib.closing(self._connect()) as connection:
            for name in names:
                begin = time.perf_counter()
                body = _call(connection, f"/2015-03-31/functions/{name}/invocations", event, 200)
                seconds.append(time.perf_counter() - begin)
                if b"errorType" in body:
                    raise CommandError(f"{self.name} answered {body[:500]!r}")
        return seconds

    def crowd(self, lists: Sequence[Sequence[str]], event: str = "{}") -> float:
        """Seconds until all are answered, each list over a connection of its own, all lists at once."""
        with ThreadPoolExecutor(len(lists)) as threads:
            begin = time.perf_counter()
            list(threads.map(lambda names: self.invoke(names, event), lists))
            return time.perf_counter() - begin

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)


def archive(source: str) -> bytes:
    """A function's zip: one file that everybody may read, as Lambda needs it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        entry = zipfile.ZipInfo("lambda_function.py", (2026, 1, 1, 0, 0, 0))
        entry.external_attr = 0o100644 << 16
        opened.writestr(entry, source)
    return content.getvalue()


@contextlib.contextmanager
def server(name: str, command: Sequence[str], environment: Mapping[str, str], port: int) -> Iterator[Server]:
    """Started, answering, and ended with all that it started."""
    with Path(os.devnull).open("wb") as nowhere:
        process = subprocess.Popen(
            list(command), env={**os.environ, **environment}, stdout=nowhere, stderr=nowhere, start_new_session=True
        )
    try:
        _await(process, port, name)
        yield Server(name, port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # workers that a peer leaves behind


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
            if probe.getsockname() != probe.getpeername():  # a loopback port nobody listens on can connect to itself
                return
        time.sleep(0.02)
    raise CommandError(f"{name} did not begin to answer on port {port}")


def _call(connection: http.client.HTTPConnection, path: str, body: str | None, expected: int) -> bytes:
    connection.request("GET" if body is None else "POST", path, body, _HEADERS)
    response = connection.getresponse()
    content = response.read()
    if response.status != expected:
        raise CommandError(f"{path}: {response.status} {content[:500]!r}")
    return content
