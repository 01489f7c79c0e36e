"""The benchmark harness runs, compares what it says it compares, and tells when a promise isn't kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def bench(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def python(program: str) -> str:
    """Run with the checkout's root on the path, as `python -m bench` does."""
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_benchmark_prints_and_writes_both_sides(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    done = bench("start", "--rounds", "1", "--markdown", page)
    for text in (done.stdout, page.read_text("utf-8")):
        assert "lading --help : python, nothing: " in text
        assert "$ lading --help" in text or "`lading --help`" in text
        assert "4 runs" in text


def test_an_unknown_benchmark_is_an_error_that_names_the_others() -> None:
    done = bench("strat", code=2)
    assert "no such benchmark: strat" in done.stderr
    assert "start" in done.stderr


def test_sides_take_turns_after_one_untimed_turn_each() -> None:
    program = """
import tempfile
from pathlib import Path
from bench.harness.compare import Side, interleave
folder = Path(tempfile.mkdtemp())
sides = [Side(n, [["sh", "-c", f"echo {n} >> {folder}/log"]], folder, rounds=r) for n, r in (("a", None), ("b", 1))]
costs = interleave(sides, 2)
print((folder / "log").read_text().split(), [len(costs[n]) for n in "ab"])
"""
    assert python(program).strip() == "['a', 'b', 'a', 'b', 'a'] [2, 1]"


PARENT = """
import subprocess, sys, time
child = "x = bytearray(80_000_000); print(flush=True); input()"
start = lambda: subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
children = [start(), start()]
[process.stdout.readline() for process in children]
time.sleep(0.5)  # both hold their memory: the watcher looks every few milliseconds
[process.communicate(b"\\n") for process in children]
"""


def test_memory_counts_children_too() -> None:
    program = f"""
import sys
from pathlib import Path
from bench.harness.process import watch
peak = watch([sys.executable, "-c", {PARENT!r}], Path("."))
print(80e6 < peak.largest < 140e6 and peak.together > 160e6, peak)
"""
    assert python(program).startswith("True"), python(program)


def test_a_limit_that_is_not_kept_fails_a_strict_run() -> None:
    program = """
from bench.harness.compare import Row, Verdict, ratio
from bench.harness.output import verdict_line
ours, theirs = Row("ours", [2.0, 3.0, 2.0]), Row("theirs", [4.0])
print(verdict_line(ratio(ours, theirs, 1 / 10)))
print(verdict_line(ratio(ours, theirs, 0.6)))
print(ratio(ours, theirs, 1 / 10).kept, ratio(ours, theirs, 0.6).kept, Verdict("", 9.0).kept)
"""
    assert python(program).splitlines() == [
        "ours : theirs: 1/2.0 (promised: at most 1/10.0) NOT KEPT",
        "ours : theirs: 1/2.0 (promised: at most 1/1.7) kept",
        "False True True",
    ]
