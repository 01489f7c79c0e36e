"""cgroup v2 as the kernel does it, as far as a hierarchy without controllers goes (hybrid hosts): joining, freezing, killing,
removing, sweeping. Limits of memory, CPU and processes need controllers: tests/unit/test_sandbox_plan.py has files for those.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_walls_leftovers import eventually

from lading.sandbox import cgroups

pytestmark = pytest.mark.root
TICKS = """
import os, sys, time
os.write(int(sys.argv[1]), b"0")
sys.stdout.write("in\\n"); sys.stdout.flush()
while True:
    time.sleep(0.002)
    os.utime(sys.argv[2])
"""


@pytest.fixture
def unified(rooted: None) -> cgroups.Hierarchies:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split(" ")
        if kind == "cgroup2" and os.access(where, os.W_OK):
            return cgroups.Hierarchies("v2", {"freezer": Path(where)})
    pytest.skip("no cgroup v2 hierarchy is mounted here")


@pytest.fixture
def group(unified: cgroups.Hierarchies) -> Iterator[cgroups.Group]:
    made = unified.make(f"unified-{os.getpid()}")
    yield made
    made.kill()
    made.remove()
    unified.remove_owner()


def join(group: cgroups.Group, clock: Path) -> subprocess.Popen[str]:
    """A process in the group that touches a file all the time."""
    clock.touch()
    [door] = group.doors
    descriptor = os.open(door, os.O_WRONLY)
    command = [sys.executable, "-S", "-c", TICKS, str(descriptor), str(clock)]
    process = subprocess.Popen(command, pass_fds=[descriptor], stdout=subprocess.PIPE, text=True)
    os.close(descriptor)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    process.stdout.close()
    return process


def ticking(clock: Path) -> bool:
    seen = clock.stat().st_mtime_ns
    return eventually(lambda: clock.stat().st_mtime_ns != seen, 10)


def test_a_frozen_group_stands_still_goes_on_and_can_be_killed(group: cgroups.Group, tmp_path: Path):
    clock = tmp_path / "clock"
    process = join(group, clock)
    try:
        assert ticking(clock)
        group.freeze()
        stopped = clock.stat().st_mtime_ns
        assert not eventually(lambda: clock.stat().st_mtime_ns != stopped, 0.2)
        group.thaw()
        assert ticking(clock)
        group.freeze()
        group.kill()
        assert process.wait(10) == -9, "a frozen process of a v2 hierarchy can die"
    finally:
        process.kill()
        process.wait()


def test_what_an_owner_that_is_gone_left_is_swept(unified: cgroups.Hierarchies, tmp_path: Path):
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    name = cgroups.owner_name(gone.pid) or f"lading-{gone.pid}-1"
    gone.wait()
    folder = unified.folders["freezer"] / name / "left"
    folder.mkdir(parents=True)
    process = join(cgroups.Group("v2", {"freezer": folder}), tmp_path / "clock")
    try:
        cgroups.sweep(unified)  # or another test's host of this hierarchy
        assert process.wait(10) == -9
        assert eventually(lambda: not folder.parent.exists())
    finally:
        process.kill()
        process.wait()
