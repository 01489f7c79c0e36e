"""The walls of a user namespace: what an unprivileged host gets, and what it honestly does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Served, require_client, require_interpreter

from lading.errors import SandboxError
from lading.sandbox.host import Host
from lading.sandbox.spec import ColdStart, Isolation, SandboxSpec

SOURCE = """
import os, socket
n = 0
def lambda_handler(event, context):
    global n
    n += 1
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
    return {"n": n, "user": os.getuid(), "root": sorted(os.listdir("/")), "capabilities": status["CapEff"],
            "pids": sorted(os.listdir("/proc"))[:1], "devices": [name for _, name in socket.if_nameindex()],
            "temporary": os.access("/tmp", os.W_OK), "task": os.access("/var/task", os.W_OK), "seen": os.path.exists(event)}
"""


@pytest.fixture
def spec(tmp_path: Path, cold_start: ColdStart) -> SandboxSpec:
    (tmp_path / "lambda_function.py").write_text(SOURCE)
    return SandboxSpec(
        code=tmp_path,
        interpreter=require_interpreter("3.13"),
        client=require_client("3.13"),
        isolation=Isolation.USER,
        cold_start=cold_start,
    )


def test_walls_stand_without_privileges(user_host: Host, spec: SandboxSpec, tmp_path: Path):
    with user_host.create(spec) as box:
        seen = Served(box).invoke(str(tmp_path)).body
    assert seen["user"] == 993
    assert int(seen["capabilities"], 16) == 0
    assert seen["pids"] == ["1"]
    assert seen["devices"] == ["lo"]
    assert (seen["temporary"], seen["task"], seen["seen"]) == (True, False, False)
    assert "home" not in seen["root"]


def test_what_is_missing_is_said(user_host: Host):
    assert user_host.capabilities.cgroup == "none"
    assert not user_host.capabilities.freezer
    assert "can't limit memory and CPU" in user_host.capabilities.missing["limits"]


def test_measures_come_from_the_processes(user_host: Host, spec: SandboxSpec):
    with user_host.create(spec) as box:
        Served(box).invoke("/")
        assert (5 << 20) < box.memory_peak < (200 << 20)
        assert box.oom_killed is False
        assert box.cpu_usage >= 0


def test_stopped_and_continued_by_signals(user_host: Host, spec: SandboxSpec):
    with user_host.create(spec) as box:
        served = Served(box)
        assert served.invoke("/").body["n"] == 1
        box.freeze()
        children = Path(f"/proc/{box.pid}/task/{box.pid}/children")
        deadline = time.monotonic() + 10
        while True:
            [child] = children.read_text().split()
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "T" or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        assert state == "T"
        box.thaw()
        assert served.invoke("/").body["n"] == 2


def test_isolation_of_host_and_spec_must_agree(user_host: Host, spec: SandboxSpec):
    with pytest.raises(SandboxError, match="isolation root asked of a host of user"):
        user_host.create(replace(spec, isolation=Isolation.ROOT))


CHROOT = """
import os, sys
from lading.errors import SandboxError
from lading.sandbox.host import Host
from lading.sandbox.inside import kernel
from lading.sandbox.spec import Isolation
kernel.unshare(kernel.CLONE_NEWNS)  # the mount ends with this process
kernel.mount("", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
kernel.mount("/", sys.argv[1], "", kernel.MS_BIND | kernel.MS_REC)
os.chroot(sys.argv[1])
os.chdir("/")
with Host(Isolation(sys.argv[2])) as host:
    try:
        host.launcher_pid
    except SandboxError as error:
        print(type(error).__name__, error.message, error.hint, sep="|")
"""


@pytest.mark.parametrize("isolation", ["root", "user"])
def test_a_chroot_is_told_of(rooted: None, tmp_path: Path, isolation: str):
    command = [sys.executable, "-c", CHROOT, str(tmp_path), isolation]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    kind, message, hint = done.stdout.strip().split("|")
    assert kind == "NoWallsError", done.stderr
    assert message.startswith("no walls can be made here: ") and "Operation not permitted" in message
    assert "chroot" in hint and "--isolation=process" in hint


ELSEWHERE = """
import ctypes, sys
sys.platform = "darwin"

class Library:
    def __init__(self, library):
        self.library = library

    def __getattr__(self, name):
        if name in ("unshare", "setns", "umount2", "prctl", "capset"):
            raise AttributeError(f"dlsym: symbol not found: {name}")
        return getattr(self.library, name)

load = ctypes.CDLL
ctypes.CDLL = lambda *given, **options: Library(load(*given, **options))
from lading.errors import SandboxError
import lading.cli.invoke, lading.cli.serve, lading.service.engine, lading.service.pool.session
from lading.sandbox.host import Host
try:
    Host()
except SandboxError as error:
    print(error.message, error.hint, sep="|")
"""


def test_what_is_not_linux_can_import_it_and_is_told():
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().split("|") == [
        "no isolation on darwin", "run it in a Linux machine or container, as root"
    ], done.stderr  # fmt: skip


def test_root_isolation_needs_root():
    if os.geteuid() == 0:
        pytest.skip("this test run is root")
    with pytest.raises(SandboxError, match="isolation root needs root"):
        Host(Isolation.ROOT)
