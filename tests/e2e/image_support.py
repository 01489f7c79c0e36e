"""A base made on this machine, once for all tests that need one, and servers that are waited for."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import LADING, ROOT, Command

RUNTIME = "python3.13"
PATH = "/2015-03-31/functions/function/invocations"
PATIENCE = 90.0


def require_base(lading: Command) -> Path:
    """The layout of a base of `RUNTIME`, kept between test runs until the sources change that it is made of."""
    if os.uname().machine != "x86_64" or os.geteuid():
        pytest.skip("a base is made for the machine it is made on, and its images run with root; written for x86_64")
    folder = ROOT / ".lading" / "test-bases"
    folder.mkdir(parents=True, exist_ok=True)
    sources = [path for path in sorted((ROOT / "src/lading/build").glob("base*")) if path.is_file()]
    mark = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        base = folder / f"{RUNTIME}-{mark}.oci"
        if not base.is_dir():
            done = lading("base", "build", RUNTIME, "--output", base, cwd=folder, code=None)
            if "uv python install" in done.err:
                pytest.skip(f"no {RUNTIME} on this machine")
            assert done.code == 0, done.err
    return base


@dataclass(frozen=True)
class Reply:
    """What an HTTP request got."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> object:
        return json.loads(self.body)


def post(url: str, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> Reply:
    request = urllib.request.Request(url, body, dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return Reply(response.status, response.read(), dict(response.headers))
    except urllib.error.HTTPError as error:
        return Reply(error.code, error.read(), dict(error.headers))


@dataclass
class Running:
    """A server of ours: its URL, and what it wrote so far."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextlib.contextmanager
def running(lading: Command, log: Path, *arguments: str | Path, cwd: Path) -> Iterator[Running]:
    """`lading run` of something, answering."""
    with log.open("wb") as output:
        command = [LADING, "run", "--port", "0", *map(str, arguments)]
        process = subprocess.Popen(command, cwd=cwd, env=lading.environment(), stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(r"lading run: (\S+)", log.read_text("utf-8", "replace"))) is None:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text("utf-8", "replace")
            time.sleep(0.02)
        yield Running(found[1], process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextlib.contextmanager
def answering(command: Sequence[str], log: Path, **variables: str) -> Iterator[Running]:
    """lading-rie, started by a command in which `{address}` is where it is to listen."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {"LADING_RIE_ADDRESS": address, **variables}
    with log.open("wb") as output:
        words = [word.replace("{address}", address) for word in command]
        process = subprocess.Popen(words, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + PATIENCE
        while "lading-rie: " not in log.read_text("utf-8", "replace"):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text("utf-8", "replace")
            time.sleep(0.02)
        yield Running(f"http://{address}{PATH}", process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
