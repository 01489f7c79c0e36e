"""Real walls for real functions: a host, a folder with AWS's client, and the smallest Runtime API that can serve one."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lading.errors import SandboxError
from lading.sandbox.host import Host
from lading.sandbox.live import Sandbox
from lading.sandbox.spec import ColdStart, Isolation, ProcessEnded, SandboxSpec

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
CLIENT = ("awslambdaric", "boto3==1.40.4")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "test_walls" in str(item.path):
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session")
def rooted() -> None:
    if platform.system() != "Linux" or os.geteuid() != 0:
        pytest.skip("walls need root on Linux")


def find_interpreter(version: str) -> Path | None:
    """The prefix of an interpreter on this machine, from PATH or pyenv."""
    folders = [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep)]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders += sorted(pyenv.glob(f"versions/{version}.*/bin"))
    for folder in reversed(folders):
        program = (folder / f"python{version}").resolve()
        prefix = program.parent.parent
        if program.is_file() and (prefix / "lib" / f"python{version}" / "os.py").is_file():
            return prefix
    return None


def require_interpreter(version: str) -> Path:
    prefix = find_interpreter(version)
    if prefix is None:
        pytest.skip(f"no Python {version} on this machine")
    return prefix


def require_client(version: str) -> Path:
    """AWS's client and SDK for a version, installed once per machine under the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lading-tests"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"client-{version}-{'-'.join(CLIENT).replace('==', '-')}"
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            uv = shutil.which("uv") or str(Path(__file__).parents[2] / ".tools/bin/uv")
            half = folder.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            prefix = require_interpreter(version)
            command = [
                uv,
                "pip",
                "install",
                "-q",
                "--target",
                str(half),
                "--python",
                str(prefix / f"bin/python{version}"),
            ]
            done = subprocess.run([*command, *CLIENT], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"AWS's client can't be installed: {done.stderr.strip()[-300:]}")
            half.rename(folder)
    return folder


@pytest.fixture(scope="session")
def host(rooted: None) -> Iterator[Host]:
    with Host() as host:
        yield host


@pytest.fixture(scope="session")
def ready_host(rooted: None) -> Iterator[Host]:
    """A host that keeps walls standing ready."""
    with Host(spares=2) as host:
        yield host


@pytest.fixture(params=[ColdStart.FORK, ColdStart.EXEC], ids=str)
def cold_start(request: pytest.FixtureRequest) -> ColdStart:
    return ColdStart(request.param)


@dataclass(frozen=True)
class Answer:
    """What the client posted: kind is response, error or init/error; logs is all that was written."""

    kind: str
    body: Any
    logs: str = ""


class RuntimeEndedError(Exception):
    """The runtime process ended in place of an answer."""

    def __init__(self, event: ProcessEnded | None, logs: str) -> None:
        super().__init__(event, logs)
        self.event = event
        self.logs = logs


class Served:
    """A sandbox and one connection of its client after the other: next is answered with an event, the post is returned."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self._stream: Any = None
        self._logs = b""

    def invoke(self, event: object, seconds: float = 20) -> Answer:
        """Raises RuntimeEndedError when the runtime process ended in place of an answer."""
        deadline = time.monotonic() + seconds
        body = json.dumps(event).encode()
        while True:
            method, path, content = self._request(deadline)
            if path.endswith("/init/error"):
                self._reply(202, b'{"status":"OK"}')
                return Answer("init/error", json.loads(content))
            assert (method, path) == ("GET", "/2018-06-01/runtime/invocation/next"), (method, path)
            self._reply(200, body, f"Lambda-Runtime-Aws-Request-Id: {'0' * 32}")
            while True:
                method, path, content = self._request(deadline)
                kind = path.rsplit("/", 1)[1]
                self._reply(202, b'{"status":"OK"}')
                return Answer(kind, json.loads(content))

    def reset(self) -> None:
        """What the killed client had asked is not answered to the next one."""
        self.box.reset()
        self._stream = None
        self.box.start_runtime()

    def logs(self, seconds: float = 0.5) -> str:
        """What was written so far, waiting until nothing more came for that long."""
        while readable := select.select([self.box.stdout, self.box.stderr], [], [], seconds)[0]:
            got = b"".join(os.read(descriptor, 65536) for descriptor in readable)
            if not got:
                break
            self._logs += got
        return self._logs.decode("utf-8", "replace")

    def _request(self, deadline: float) -> tuple[str, str, bytes]:
        while True:
            if self._stream is None:
                self._accept(deadline)
            try:
                line = self._stream.readline()
            except ConnectionResetError:
                line = b""
            if line:
                break
            self._stream = None
        method, path, _ = line.decode().split()
        headers = {}
        while (text := self._stream.readline().strip()) != b"":
            name, _, value = text.partition(b":")
            headers[name.lower()] = value.strip()
        return method, path, self._stream.read(int(headers.get(b"content-length", 0)))

    def _accept(self, deadline: float) -> None:
        listening = self.box.runtime_api_socket
        watched = [listening, self.box]
        while True:
            poll = select.poll()
            for one in watched:
                poll.register(one, select.POLLIN)
            ready = [number for number, _ in poll.poll(max(0, deadline - time.monotonic()) * 1000)]
            if listening.fileno() in ready:
                connection, _ = listening.accept()
                connection.settimeout(20)
                self._stream = connection.makefile("rwb")
                connection.close()
                return
            raise RuntimeEndedError(self.box.wait(0), self.logs(0.1))

    def _reply(self, status: int, body: bytes, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} OK", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
        lines += ["Lambda-Runtime-Deadline-Ms: 9999999999999", "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:x"]
        self._stream.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self._stream.flush()


Start = Callable[..., Served]


@pytest.fixture
def isolation() -> Isolation:
    """All walls; a module that is about more than one isolation has a fixture of its own."""
    return Isolation.ROOT


@pytest.fixture(scope="session")
def user_host() -> Iterator[Host]:
    try:
        host = Host(Isolation.USER)
    except SandboxError as error:
        pytest.skip(error.message)
    with host:
        yield host


@pytest.fixture
def start(
    isolation: Isolation, cold_start: ColdStart, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Start]:
    """Starts a function from its source, behind the walls and on the cold-start path under test; closes it afterwards."""
    boxes: list[Sandbox] = []
    host: Host = request.getfixturevalue("host" if isolation is Isolation.ROOT else "user_host")
    tmp_path.chmod(0o755)

    def run(
        source: str = "def lambda_handler(event, context): return event", version: str = "3.13", **options: Any
    ) -> Served:
        code = options.pop("code", None)
        if code is None:
            code = tmp_path / f"code{len(boxes)}"
            code.mkdir()
            (code / "lambda_function.py").write_text(source)
        begin = options.pop("begin", True)
        options.setdefault("cold_start", cold_start)
        options.setdefault("isolation", isolation)
        options.setdefault("interpreter", require_interpreter(version))
        options.setdefault("client", require_client(version))
        spec = SandboxSpec(code=code, runtime=f"python{version}", **options)
        box = host.create(spec, start=begin)
        boxes.append(box)
        return Served(box)

    yield run
    for box in boxes:
        box.close()
