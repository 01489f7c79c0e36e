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
    """Of one process and the children it waited for. Times in seconds, memory in bytes."""

    wall: float
    cpu: float
    largest_process: int
    """ru_maxrss: the biggest of the processes, not their sum."""


class CommandError(Exception):
    """A command ended with another exit code than 0; its output is the message."""


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Run to the end. Raises CommandError."""
    process, began = _start(command, folder, environment)
    return _finish(process, began, command)


def run_watched(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> tuple[Cost, int]:
    """Run, sampling the memory of the process and all its descendants every few ms: the cost, and the peak of their sum.

    The sum is of PSS: pages that several processes share count once. Sampling slows the command a little, so its
    times are not for comparison.
    """
    process, began = _start(command, folder, environment)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_SECONDS):
            peak = max(peak, sum(proportional_bytes(pid) for pid in family(process.pid)))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        cost = _finish(process, began, command)
    finally:
        done.set()
        watcher.join()
    return cost, max(peak, cost.largest_process)


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
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def family(pid: int) -> list[int]:
    """The process and its descendants, as far as they live."""
    found = [pid]
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


def proportional_bytes(pid: int) -> int:
    """PSS of one process; 0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def output_of(command: Sequence[str]) -> str:
    """The first line that a command prints, for version lines; a clear word when it can't run."""
    try:
        result = subprocess.run(list(command), capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        return f"not found ({error.strerror})"
    return next((line.strip() for line in (result.stdout + result.stderr).splitlines() if line.strip()), "")
