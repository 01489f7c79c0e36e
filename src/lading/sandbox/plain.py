"""isolation = "process": plain processes of this user, without walls, for hosts that can't isolate. Only when asked for.

AWS's paths don't exist: what is at /var/task, /opt, … inside other walls is at the real folders, and the variables say so.
Uses what every Unix has: no namespace, no cgroup, no /proc needed.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lading.errors import SandboxError
from lading.sandbox import measure
from lading.sandbox.environment import (
    DEBUGGED,
    base_environment,
    bootstrap_program,
    debugged,
    debugged_source,
    search_path,
)
from lading.sandbox.layout import find_prefix
from lading.sandbox.live import RUNTIME, Sandbox
from lading.sandbox.spec import ColdStart, ProcessEnded, SandboxSpec

REASON = "isolation process boots a fresh interpreter"
_PATIENCE = 10.0
_NOT_FOUND, _NOT_RUNNABLE = 127, 126
_GUARD = """
import os, shutil, signal, sys
groups, folders = set(), set()
for line in sys.stdin:
    action, _, what = line.rstrip("\\n").partition(" ")
    chosen = folders if os.sep in what else groups
    (chosen.add if action == "+" else chosen.discard)(what)
for group in groups:
    for number in (signal.SIGKILL, signal.SIGCONT):
        try:
            os.killpg(int(group), number)
        except OSError:
            pass
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Guard:
    """A process that ends what an owner left, when it is killed: it hears of every process group and folder."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _GUARD], stdin=subprocess.PIPE, start_new_session=True, text=True
        )

    def add(self, what: int | Path) -> None:
        self._tell("+", what)

    def remove(self, what: int | Path) -> None:
        self._tell("-", what)

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait(_PATIENCE)

    def _tell(self, action: str, what: int | Path) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(f"{action} {what}\n")
            self._process.stdin.flush()


class Places:
    """Where on this machine the paths of an environment are."""

    def __init__(self, spec: SandboxSpec, temporary: Path) -> None:
        assert spec.code is not None, "an image has a root of its own"
        layers = tuple(layer.resolve() for layer in reversed(spec.layers))  # the last one wins: it is looked at first
        self._folders: dict[str, tuple[Path, ...]] = {
            "/var/task": (spec.code.resolve(),),
            "/opt": layers,
            "/var/runtime": (spec.client.resolve(),) if spec.client else (),
            "/var/lang": (find_prefix(spec.interpreter)[0],) if spec.interpreter else (),
            "/tmp": (temporary,),
        }

    def every(self, path: str) -> tuple[str, ...]:
        """All places of a path, the one that wins first; a path of the system's own is itself."""
        for name, folders in self._folders.items():
            if path == name or path.startswith(f"{name}/"):
                return tuple(str(folder) + path[len(name) :] for folder in folders)
        return (path,)

    def one(self, path: str) -> str:
        """The place where something is; a path that leads nowhere stays as it is, for the error message."""
        places = self.every(path)
        return next((place for place in places if os.path.lexists(place)), places[0] if places else path)

    def joined(self, paths: str) -> str:
        """A search path, as variables have it."""
        return ":".join(place for path in paths.split(":") for place in self.every(path))


class PlainSandbox(Sandbox):
    """What Sandbox is, of plain processes: the same calls, and none of its parts."""

    def __init__(self, spec: SandboxSpec, identity: str, guard: Guard, release: Callable[[], None]) -> None:
        self.spec = spec
        self.id = identity
        self.cold_start, self.cold_start_reason = ColdStart.EXEC, REASON
        self.services_socket = None
        self._guard = guard
        self._release = release
        self._closed = False
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._orphaned: set[int] = set()
        """Process groups whose first process ended, and others not."""
        self._ended: queue.SimpleQueue[ProcessEnded] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._memory_peak = self._cpu_usage = 0
        self.temporary = Path(tempfile.mkdtemp(prefix="lading-tmp-")).resolve()
        guard.add(self.temporary)
        self._places = Places(spec, self.temporary)
        self.runtime_api_socket = socket.create_server(("127.0.0.1", 0))
        self.runtime_api_socket.settimeout(0)
        self.stdout, self._stdout = _pipe()
        self.stderr, self._stderr = _pipe()
        self._wake, self._signalled = _pipe()
        self.pidfd, self._alive = _pipe()
        """Readable once everything is closed: there is no first process here that could die."""
        self.pid = os.getpid()

    def __repr__(self) -> str:
        return f"<PlainSandbox {self.id} {self.spec.runtime}, {'closed' if self._closed else 'open'}>"

    def fileno(self) -> int:
        return self._wake

    def read_events(self) -> list[ProcessEnded]:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)
        events = []
        with contextlib.suppress(queue.Empty):
            while True:
                events.append(self._ended.get_nowait())
        return events

    def wait(self, seconds: float) -> ProcessEnded | None:
        try:
            return self._ended.get(timeout=max(seconds, 0.001))
        except queue.Empty:
            return None

    def start_runtime(self) -> None:
        variables = {**self.variables(), **self._translated(self.spec.environment)}
        if self.spec.entry:
            command = [self._places.one(self.spec.entry[0]), *self.spec.entry[1:]]
        else:
            command = [*self._wrapper(), *self._interpreter()]
        self._start(RUNTIME, command, variables, None)

    def start_process(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], output: int | None = None
    ) -> None:
        own = {key: value for key, value in self.variables().items() if key in environment}
        variables = {**environment, **own, **self._translated(self.spec.environment)}
        self._start(name, [self._places.one(command[0]), *command[1:]], variables, output)

    def connect(self, port: int) -> socket.socket:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        except OSError as error:
            raise SandboxError(
                f"port {port} of environment {self.id}: {error}", hint="does something listen there yet?"
            ) from None

    def terminate(self, name: str = RUNTIME, number: int = signal.SIGTERM) -> None:
        with self._lock:
            process = self._running.get(name)
        if process is not None:
            process.send_signal(number)

    def freeze(self, *, wait: bool = True) -> None:
        self._signal_all(signal.SIGSTOP)

    def thaw(self, *, wait: bool = True) -> None:
        self._signal_all(signal.SIGCONT)

    def limit_cpu(self) -> None:
        """Nothing limits it."""

    def reset(self) -> None:
        self.kill()
        self._await_end()
        self.read_events()

    def kill(self) -> None:
        self._measure()
        self._signal_all(signal.SIGKILL)

    @property
    def memory_peak(self) -> int:
        """Bytes: the sum of the peaks of the processes now alive; 0 where there is no /proc."""
        self._measure()
        return self._memory_peak

    @property
    def oom_killed(self) -> bool:
        return False

    @property
    def cpu_usage(self) -> int:
        self._measure()
        return self._cpu_usage

    def close(self) -> None:
        if self._closed:
            return
        self.kill()
        self._await_end()
        self._closed = True
        self.runtime_api_socket.close()
        for descriptor in (
            self.stdout, self._stdout, self.stderr, self._stderr, self._wake, self._signalled, self.pidfd, self._alive
        ):  # fmt: skip
            os.close(descriptor)
        shutil.rmtree(self.temporary, ignore_errors=True)
        self._guard.remove(self.temporary)
        self._release()

    def variables(self) -> dict[str, str]:
        """What other walls have under the same names, with the real paths."""
        host, port = self.runtime_api_socket.getsockname()
        variables = base_environment(self.spec)
        for name in ("LD_LIBRARY_PATH", "PATH"):
            variables[name] = self._places.joined(variables[name])
        for name in ("LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "PWD", "PYTHONPATH"):
            if name in variables:
                variables[name] = self._places.one(variables[name])
        return {**variables, "AWS_LAMBDA_RUNTIME_API": f"{host}:{port}", "TMPDIR": str(self.temporary)}

    def _translated(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The function's own variables: of no use to the platform, so only the wrapper's path is another one."""
        return {
            name: self._places.one(value) if name == "AWS_LAMBDA_EXEC_WRAPPER" else value
            for name, value in environment.items()
        }

    def _wrapper(self) -> list[str]:
        wrapper = self.spec.environment.get("AWS_LAMBDA_EXEC_WRAPPER")
        return [self._places.one(wrapper)] if wrapper else []

    def _interpreter(self) -> list[str]:
        """The interpreter, with AWS's search order in real paths."""
        hidden = "site-packages"  # what was installed into the host's interpreter isn't on Lambda
        known = [
            path
            for path in search_path(self.spec.runtime)
            if not (path.startswith("/var/lang") and path.endswith(hidden))
        ]
        first = sum(len(self._places.every(path)) for path in known[:3])
        program = self.temporary / "bootstrap.py"
        path = [place for one in known for place in self._places.every(one)]
        program.write_text(bootstrap_program(path, str(program), first), "utf-8")
        front: tuple[str, ...] = ()
        if self.spec.debugger:
            front = self._debugger()
        return [self._places.one(f"/var/lang/bin/{self.spec.runtime}"), *front, str(program)]

    def _debugger(self) -> tuple[str, ...]:
        """The debugger's package is found beside its program."""
        assert self.spec.debugger is not None
        program = self.temporary / Path(DEBUGGED).name
        program.write_text(debugged_source(), "utf-8")
        package = self.temporary / "debugpy"
        if not package.is_symlink():
            package.symlink_to(self.spec.debugger.folder / "debugpy")
        paths = tuple((own, self._places.one(inside)) for own, inside in self.spec.debugger.paths)
        option, _, *rest = debugged(replace(self.spec, debugger=replace(self.spec.debugger, paths=paths)))
        return (option, str(program), *rest)

    def _start(self, name: str, command: Sequence[str], variables: Mapping[str, str], output: int | None) -> None:
        if self._closed:
            raise SandboxError(f"environment {self.id} is gone", hint="start another one")
        streams = (self._stdout, self._stderr) if output is None else (output, output)
        try:
            process = subprocess.Popen(
                command, cwd=self._places.one("/var/task"), env=dict(variables), stdin=subprocess.DEVNULL,
                stdout=streams[0], stderr=streams[1], start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            os.write(streams[1], f"{command[0]}: {error.strerror}\n".encode())
            code = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE
            self._report(ProcessEnded(name, code, None))
            return
        self._guard.add(process.pid)
        with self._lock:
            self._running[name] = process
        threading.Thread(target=self._watch, args=(name, process), name=f"lading-{name}", daemon=True).start()

    def _watch(self, name: str, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        with self._lock:
            if self._running.get(name) is process:
                del self._running[name]
            if _exists(process.pid):
                self._orphaned.add(process.pid)
            else:
                self._guard.remove(process.pid)
        self._report(ProcessEnded(name, code if code >= 0 else None, -code if code < 0 else None))

    def _report(self, event: ProcessEnded) -> None:
        self._ended.put(event)
        with contextlib.suppress(OSError):
            os.write(self._signalled, b"!")

    def _signal_all(self, number: int) -> None:
        """To every process group that was started here. One that a process made for itself is out of reach."""
        for group in self._groups():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)

    def _groups(self) -> list[int]:
        with self._lock:
            return [*(process.pid for process in self._running.values()), *self._orphaned]

    def _await_end(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while self._running:
            if time.monotonic() > deadline:
                raise SandboxError(f"environment {self.id} survived SIGKILL", hint="look for its processes")
            time.sleep(0.002)
        self._signal_all(signal.SIGKILL)  # what was not gone yet when its group's first process was
        with self._lock:
            for group in self._orphaned:
                self._guard.remove(group)
            self._orphaned.clear()

    def _measure(self) -> None:
        groups = self._groups()
        self._memory_peak = max(self._memory_peak, sum(measure.memory_peak(pid, itself=True) for pid in groups))
        self._cpu_usage = max(self._cpu_usage, sum(measure.cpu_usage(pid, itself=True) for pid in groups))


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # only processes that are gone but not waited for, on some systems
        return False
    return True


def _pipe() -> tuple[int, int]:
    """Read end, which doesn't block, and write end."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    return read, write
