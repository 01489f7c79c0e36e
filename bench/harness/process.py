"""Runs a command and says what it cost: wall time, CPU time, memory. The whole process counts, start-up included."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.004


@dataclass(frozen=True)
class Cost:
    """Of one process and the children it waited for, in seconds."""

    wall: float
    cpu: float


class CommandError(Exception):
    """A command ended with another exit code than 0; its output is the message."""


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Run to the end. Raises CommandError."""
    process, began = _start(command, folder, environment)
    return _finish(process, began, command)


@dataclass(frozen=True)
class Memory:
    """Peaks of a process and all its descendants, in bytes, sampled every few milliseconds.

    `together` is of the sum of PSS: pages that several processes share count once. `largest` is the biggest resident set
    of one process. (ru_maxrss would not do: a process starts with that of the one that started it, this one.)
    """

    together: int
    largest: int


def watch(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Memory:
    """Run to the end, sampling. That slows the command a little, so it isn't for times. Raises CommandError."""
    process, began = _start(command, folder, environment)
    together = largest = 0
    done = threading.Event()

    def look() -> None:
        nonlocal together, largest
        while not done.wait(SAMPLE_SECONDS):
            pids = family(process.pid)
            together = max(together, sum(kilobytes(pid, "smaps_rollup", "Pss:") for pid in pids))
            largest = max(largest, *(kilobytes(pid, "status", "VmHWM:") for pid in pids))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        _finish(process, began, command)
    finally:
        done.set()
        watcher.join()
    return Memory(together * 1024, largest * 1024)


def _start(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None
) -> tuple[subprocess.Popen[bytes], float]:
    began = time.perf_counter()
    process = subprocess.Popen(
        list(command),
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return process, began


def _finish(process: subprocess.Popen[bytes], began: float, command: Sequence[str]) -> Cost:
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode != 0:
        text = output.decode("utf-8", "replace")[-2000:]
        raise CommandError(f"exit code {process.returncode}: {' '.join(command)}\n{text}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def family(pid: int) -> list[int]:
    """The process and its descendants, as far as they live."""
    found = [pid]
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


def kilobytes(pid: int, file: str, field: str) -> int:
    """A field of one process's memory in /proc; 0 when the process is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    return 0


def output_of(command: Sequence[str]) -> str:
    """The first line that a command prints, for version lines; a clear word when it can't run."""
    try:
        result = subprocess.run(list(command), capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        return f"not found ({error.strerror})"
    return next((line.strip() for line in (result.stdout + result.stderr).splitlines() if line.strip()), "")
