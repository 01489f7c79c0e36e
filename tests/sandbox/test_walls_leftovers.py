"""What remains on the host: nothing after a close, and nothing after the owner was killed and the next one started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from conftest import Start, require_client, require_interpreter

from lading.sandbox.capabilities import find_hierarchies
from lading.sandbox.host import Host, sweep
from lading.sandbox.inside import kernel
from lading.sandbox.owners import owner_name
from lading.sandbox.spec import ColdStart, SandboxSpec

_SHARED = 1 << 20
"""MS_SHARED."""


def groups_of(pid: int) -> list[Path]:
    folders = set(find_hierarchies().folders.values())
    return [path for folder in folders for path in folder.glob(f"lading.{pid}.*")]


def descendants(pid: int) -> set[int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_bytes().rpartition(b")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def namespaces(kind: str, pids: set[int]) -> set[str]:
    found = set()
    for pid in pids:
        try:
            found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
        except OSError:
            continue
    return found


def eventually(done: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def code_in(folder: Path) -> Path:
    code = folder / "code"
    code.mkdir()
    (code / "lambda_function.py").write_text(
        "import os, time\nos.fork() or time.sleep(1000)\ndef lambda_handler(event, context): pass\n"
    )
    return code


def test_close_leaves_nothing(start: Start, tmp_path: Path):
    start("def lambda_handler(event, context): return 1").invoke({})  # whatever is started once is there now
    mounts = Path("/proc/self/mountinfo").read_text()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    processes = descendants(os.getpid())
    groups = [entry for path in groups_of(os.getpid()) for entry in path.iterdir() if entry.is_dir()]
    served = start(
        "import subprocess\ndef lambda_handler(event, context):\n    subprocess.Popen(['/bin/sleep', '1000'])"
    )
    served.invoke({})
    box = served.box
    inside = descendants(os.getpid()) - processes
    assert len(inside) >= 2
    box.freeze()
    box.close()
    box.close()
    assert not inside & descendants(os.getpid())
    assert not any(Path(f"/proc/{pid}").exists() for pid in inside)
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert [entry for path in groups_of(os.getpid()) for entry in path.iterdir() if entry.is_dir()] == groups
    del served
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors


def test_mounts_stay_where_they_are_made(start: Start, tmp_path: Path):
    """Also where the folder of a function lies on a mount that others see changes of."""
    shared = tmp_path / "shared"
    shared.mkdir()
    kernel.mount("lading-test", str(shared), "tmpfs")
    try:
        kernel.mount("", str(shared), "", _SHARED)
        code = shared / "code"
        (code / "later").mkdir(parents=True)
        (code / "lambda_function.py").write_text(
            "import os\ndef lambda_handler(event, context): return os.listdir('later')"
        )
        served = start(code=code)
        kernel.mount("lading-test", str(code / "later"), "tmpfs")
        try:
            (code / "later" / "file").touch()
            assert served.invoke({}).body == []
        finally:
            kernel.umount(str(code / "later"))
        served.box.close()
    finally:
        kernel.umount(str(shared))


def test_walls_of_an_environment_are_its_own(start: Start):
    boxes = [start().box for _ in range(2)]
    ours = {os.getpid()}
    for kind in ("mnt", "pid", "net", "ipc", "uts"):
        assert len(namespaces(kind, ours | {box.pid for box in boxes})) == 3, kind

    def runtimes() -> set[int]:
        return {pid for box in boxes for pid in descendants(box.pid)}

    for kind in ("user", "cgroup"):
        assert eventually(lambda kind=kind: len(namespaces(kind, ours | runtimes())) == 3), kind


def test_host_close_ends_zygotes_and_groups(rooted: None, tmp_path: Path):
    host = Host()
    spec = SandboxSpec(code=code_in(tmp_path), interpreter=require_interpreter("3.13"), client=require_client("3.13"))
    box = host.create(spec)
    launcher = host.launcher_pid
    inside = descendants(launcher)
    groups = [entry for path in groups_of(os.getpid()) for entry in path.glob(box.id)]
    assert box.pid in inside
    assert len(groups) == len(set(find_hierarchies().folders.values()))
    assert eventually(lambda: box.cpu_usage > 0)
    host.close()
    assert box.cpu_usage > 0, "measures stay readable"
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in {launcher} | inside))
    assert not any(path.exists() for path in groups)


OWNER = """
import sys, time
from pathlib import Path
from lading.sandbox.host import Host
from lading.sandbox.spec import ColdStart, SandboxSpec
code, interpreter, client = map(Path, sys.argv[1:4])
host = Host()
boxes = [
    host.create(SandboxSpec(code=code, interpreter=interpreter, client=client, cold_start=cold_start))
    for cold_start in (ColdStart.FORK, ColdStart.EXEC) for _ in range(2)
]
boxes[0].freeze()
boxes[2].freeze()
print("ready", flush=True)
time.sleep(1000)
"""


def test_killed_owner_leaves_nothing_after_the_next_start(rooted: None, tmp_path: Path):
    arguments = [str(code_in(tmp_path)), str(require_interpreter("3.13")), str(require_client("3.13"))]
    owner = subprocess.Popen([sys.executable, "-c", OWNER, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        inside = descendants(owner.pid)
        name = owner_name(owner.pid)
        nets = namespaces("net", inside) - namespaces("net", {os.getpid()})
        assert len(inside) >= 10
        assert len(nets) == 4
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        owner.stdout.close()
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside)), "frozen ones die as well"
    sweep()  # or another test's host, which may have been faster
    assert eventually(lambda: groups_of(owner.pid) == [])
    assert name not in sweep()
    assert not any(where in Path("/proc/self/mountinfo").read_text() for where in (str(tmp_path), name))
    everyone = {int(path.name) for path in Path("/proc").glob("[0-9]*")}
    assert not nets & namespaces("net", everyone)


def test_killed_zygote_takes_its_environments_and_is_started_again(rooted: None, tmp_path: Path):
    spec = SandboxSpec(code=code_in(tmp_path), interpreter=require_interpreter("3.13"), client=require_client("3.13"))
    with Host() as host:
        box = host.create(spec)
        zygote = int(Path(f"/proc/{box.pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
        os.kill(zygote, signal.SIGKILL)
        assert eventually(lambda: not Path(f"/proc/{box.pid}").exists())
        box.close()
        with host.create(spec) as again:
            assert again.cold_start is ColdStart.FORK
            assert again.pid != box.pid


def test_freeze_stops_and_thaw_continues(start: Start):
    served = start(
        "import threading, time\nticks = 0\n"
        "def run():\n    global ticks\n    while True:\n        ticks += 1\n        time.sleep(0.005)\n"
        "threading.Thread(target=run, daemon=True).start()\n"
        "def lambda_handler(event, context): return ticks\n"
    )
    first = served.invoke({}).body
    served.box.freeze()
    used = served.box.cpu_usage
    time.sleep(0.3)
    assert served.box.cpu_usage == used
    served.box.thaw()
    assert served.invoke({}).body < first + 40, "0.3 s of ticks did not happen"


def test_cpu_follows_memory_once_limited(start: Start):
    served = start(
        "import time\n"
        "def lambda_handler(event, context):\n"
        "    began, used = time.monotonic(), time.process_time()\n"
        "    while time.monotonic() - began < 1: pass\n"
        "    return time.process_time() - used\n",
        memory=256,
    )
    served.box.limit_cpu()
    assert served.invoke({}).body < 0.35  # 256 / 1769 = 0.145 of a CPU
