"""Interpreters of a target kept running to compile sources, one per core, fed through pipes.

A source that takes a worker down or keeps it too long counts as not compiled; its worker is replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from lading.audit import imports
from lading.build import compiler
from lading.errors import BuildError
from lading.resolve.interpreters import Interpreter

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from subprocess import Popen

Result = TypeVar("Result")
SECONDS_PER_SOURCE = 60
LARGE_SOURCE = 200_000
"""Bytes of a source whose syntax tree takes tens of MB: it gets an interpreter of its own, since one seldom gives memory back."""
AT_ONCE = 450_000
"""Bytes of all sources that are being compiled; a larger one is compiled alone."""
ENVIRONMENT = {"PYTHONHASHSEED": "0", "MALLOC_TRIM_THRESHOLD_": "131072"}
_LARGEST_ANSWER = 1 << 30


class CompilerError(BuildError):
    """The target's interpreter does not start or does not speak as it should."""


class _WorkerLostError(Exception):
    """The process ended or was ended."""


@dataclass(frozen=True)
class Source:
    """A source to compile: `filename` as on Lambda, `module` dotted."""

    filename: str
    module: str
    is_package: bool
    content: bytes


@dataclass(frozen=True)
class Compiled:
    """A .pyc's content, None where the source does not compile, and the scanner's facts: a JSON object, as it came."""

    bytecode: bytes | None
    facts: bytes


class Allowance:
    """How much may be compiled at once, which bounds the memory of all workers. Thread-safe; first come, first served."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Wait until `size` fits, or nothing else is taken; it is taken while the block runs."""
        with self._turn, self._changed:  # whoever waits here keeps the next ones from slipping past
            self._changed.wait_for(lambda: not self._taken or self._taken + size <= self._limit)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify()


class Worker:
    """One running interpreter; answers one source at a time."""

    def __init__(self, interpreter: Interpreter, allowance: Allowance) -> None:
        self._interpreter = interpreter
        self._allowance = allowance
        self._process: Popen[bytes] | None = None
        self._known = False
        """Whether the process has said what it is."""

    def begin(self) -> None:
        """Start the interpreter without waiting for it. One that can't be started says so when it is to compile."""
        if self._process is None:
            with contextlib.suppress(OSError):
                self._process = self._launch()

    def compile(self, source: Source) -> Compiled:
        size = len(source.content)
        with self._allowance.of(size):
            if size < LARGE_SOURCE:
                return self._compile(source)
            self.close()
            try:
                return self._compile(source)
            finally:
                self.close()

    def _compile(self, source: Source) -> Compiled:
        try:
            return self._ask(self._ready(), source)
        except (_WorkerLostError, BrokenPipeError):
            self.close()
            return Compiled(
                None, b'{"imports":[],"defines":null,"error":"line 0: the compiler crashed or took too long"}'
            )

    def _launch(self) -> Popen[bytes]:
        """Hashes, and so sets in bytecode, are the same every time; a syntax tree's memory goes back when it is freed."""
        from subprocess import PIPE, Popen

        command = [self._interpreter.path, "-S", "-s", "-B", str(Path(compiler.__file__)), str(Path(imports.__file__))]
        return Popen(command, stdin=PIPE, stdout=PIPE, cwd="/", env=ENVIRONMENT, bufsize=0)

    def _ready(self) -> Popen[bytes]:
        """The process, which is the interpreter that it should be. Raises CompilerError."""
        try:
            process = self._process = self._process or self._launch()
            if self._known:
                return process
            greeting = json.loads(self._read_line(process))
        except (OSError, ValueError, _WorkerLostError) as error:
            self.close()
            raise CompilerError(
                f"{self._interpreter.path} can't compile: {error or 'it ended at once'}",
                hint='reinstall that interpreter, or set bytecode = "off"',
            ) from None
        if greeting["magic"] != self._interpreter.magic:
            self.close()
            raise CompilerError(f"{self._interpreter.path} changed while it was in use", hint="run the command again")
        self._known = True
        return process

    def _ask(self, process: Popen[bytes], source: Source) -> Compiled:
        filename, module = source.filename.encode(), source.module.encode()
        header = compiler.REQUEST.pack(len(filename), len(module), len(source.content), source.is_package)
        assert process.stdin is not None
        _write(process.stdin.fileno(), header + filename + module + source.content)
        compiled, size, facts_size = compiler.RESPONSE.unpack(self._read(process, compiler.RESPONSE.size))
        if size + facts_size > _LARGEST_ANSWER:
            raise _WorkerLostError
        bytecode = self._read(process, size)
        return Compiled(bytecode if compiled else None, self._read(process, facts_size))

    def _read(self, process: Popen[bytes], length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            parts += self._wait(process, length - len(parts))
        return bytes(parts)

    def _read_line(self, process: Popen[bytes]) -> bytes:
        """All that comes before an answer is asked for, at once: each wait gives other threads their turn."""
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self._wait(process, 1 << 12)
        return bytes(line)

    def _wait(self, process: Popen[bytes], most: int) -> bytes:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], SECONDS_PER_SOURCE)
        data = process.stdout.read(most) if ready else None
        if not data:
            raise _WorkerLostError
        return data

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        self._known = False
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class CompilerPool:
    """As many workers as cores, started when first needed. Use as a context: leaving it ends them. Thread-safe."""

    def __init__(self, interpreter: Interpreter, workers: int | None = None) -> None:
        self.interpreter = interpreter
        count = workers or len(os.sched_getaffinity(0))
        allowance = Allowance(AT_ONCE)
        self._workers = [Worker(interpreter, allowance) for _ in range(count)]
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads: ThreadPoolExecutor | None = None
        self._count = count
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start the first worker's interpreter, which takes longer than much else that can be done meanwhile."""
        self._workers[0].begin()

    def submit(self, job: Callable[[Worker, int], Result], number: int) -> Future[Result]:
        """Run `job(worker, number)` on a thread of the pool, with a worker of its own meanwhile."""
        from concurrent.futures import ThreadPoolExecutor

        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="compile")
        return self._threads.submit(self._run, job, number)

    def _run(self, job: Callable[[Worker, int], Result], number: int) -> Result:
        worker = self._idle.get()
        try:
            return job(worker, number)
        finally:
            self._idle.put(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()


class Compilers:
    """A pool for each interpreter that is asked for. Use as a context: leaving it ends them."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._pools: dict[Interpreter, CompilerPool] = {}
        self._lock = threading.Lock()

    def of(self, interpreter: Interpreter) -> CompilerPool:
        with self._lock:
            if interpreter not in self._pools:
                self._pools[interpreter] = self._stack.enter_context(CompilerPool(interpreter))
            return self._pools[interpreter]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
