"""Templates and what is restored from them: the same walls as any environment's, nothing shared, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Answer, Served, require_client, require_interpreter
from test_walls_leftovers import descendants, eventually, groups_of, namespaces

from lading.errors import SandboxError
from lading.sandbox.forkers import ForkerGoneError
from lading.sandbox.host import Host, sweep
from lading.sandbox.live import Sandbox
from lading.sandbox.owners import owner_name
from lading.sandbox.spec import ColdStart, SandboxSpec
from lading.sandbox.templates import Template

VARIABLES = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
PRELUDE = """
import ctypes, errno, mmap, os, random, resource, select, signal, socket, ssl, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def attempt(call, *arguments):
    try:
        return ["done", repr(call(*arguments))[:200]]
    except OSError as error:
        return errno.errorcode[error.errno]
def system(result):
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]
def privileged():
    calls = [
        lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None), lambda: libc.umount2(b"/proc", 2), lambda: libc.chroot(b"/tmp"),
        lambda: libc.unshare(0x10000000), lambda: libc.unshare(0x00020000), lambda: libc.unshare(0x20000000),
        lambda: libc.ptrace(16, 1, 0, 0), lambda: libc.ptrace(0, 0, 0, 0), lambda: libc.setuid(0), lambda: libc.setgid(0),
        lambda: libc.sethostname(b"x", 1), lambda: libc.mknod(b"/tmp/disk", 0o60666, 0xfe00), lambda: libc.syscall(425, 8, 0),
        lambda: libc.syscall(250, 0, 0, 0, 0), lambda: libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0),
        lambda: libc.reboot(0x01234567),
        lambda: libc.prctl(24, 0, 0, 0, 0) or libc.capset(b"\\x22\\x05\\x08\\x20\\0\\0\\0\\0", b"\\xff" * 24),
        lambda: libc.syscall(434, 1, 0) and -1 or libc.setns(libc.syscall(434, 1, 0), 0x7c020000),
        *[lambda kind=kind: libc.setns(os.open(f"/proc/self/ns/{kind}", os.O_RDONLY), 0)
          for kind in ("mnt", "pid", "net", "user", "uts", "ipc", "cgroup")],
        lambda: libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0),
    ]
    found = []
    for call in calls:
        try:
            found.append(system(call()))
        except OSError as error:
            found.append(errno.errorcode[error.errno])
    return found
def look():
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    return {
        "pids": [name for name in os.listdir("/proc") if name.isdigit() and name not in ("1", str(os.getpid()))],
        "status": {name: status[name] for name in ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
                                                   "NoNewPrivs", "Seccomp", "Threads", "SigBlk", "SigIgn")},
        "limits": {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))
                   for name in ("NOFILE", "NPROC", "CORE", "MEMLOCK", "STACK")},
        "first": {name: attempt(open, f"/proc/1/{name}", "rb") for name in ("environ", "mem", "maps")},
        "kill": [attempt(os.kill, 1, 9), attempt(os.kill, -1, 0)[:1], os.getsid(0) == os.getpid() or os.getsid(0) != 0],
        "masked": {open(f"/proc/{name}", "rb").read(1) for name in ("kcore", "keys", "kallsyms", "timer_list")
                   if os.path.exists(f"/proc/{name}")} == {b""},
        "groups": open("/proc/self/cgroup").read().count("/.."), "host": socket.gethostname(), "folder": os.getcwd(),
        "devices": sorted(name for _, name in socket.if_nameindex()), "write": attempt(open, "/proc/sys/kernel/hostname", "w"),
        "tmp": (os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize, oct(os.stat("/tmp").st_mode)),
        "task": attempt(open, "/var/task/x", "w"), "users": open("/proc/self/uid_map").read().split()[:3],
        "raw": attempt(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1), "dump": os.stat("/proc/self").st_uid,
    }
"""


@dataclass
class Snapped:
    """A template and what was restored from it."""

    host: Host
    template: Template
    logs: str
    boxes: list[Sandbox] = field(default_factory=list)

    def restore(self) -> Served:
        box = self.host.restore(self.template)
        self.boxes.append(box)
        served = Served(box)
        pass_restore(served)
        return served


def pass_restore(served: Served) -> None:
    """The client asks to be resumed, and is."""
    method, path, _ = served._request(time.monotonic() + 20)
    assert (method, path) == ("GET", "/2018-06-01/runtime/restore/next")
    served._reply(200, b"")


Snap = Callable[..., Snapped]


def spec_of(folder: Path, source: str, **options: Any) -> SandboxSpec:
    code = folder / f"code{len(list(folder.iterdir()))}"
    code.mkdir()
    (code / "lambda_function.py").write_text(PRELUDE + source)
    options.setdefault("environment", VARIABLES)
    return SandboxSpec(
        code=code,
        interpreter=require_interpreter("3.13"),
        client=require_client("3.13"),
        runtime="python3.13",
        template=True,
        **options,
    )


@pytest.fixture
def snap(host: Host, tmp_path: Path) -> Iterator[Snap]:
    made: list[Snapped] = []

    def run(source: str, **options: Any) -> Snapped:
        box = host.create(spec_of(tmp_path, source, **options))
        try:
            served = Served(box)
            pass_restore(served)
            template = host.keep(box)
        except BaseException:
            box.close()
            raise
        snapped = Snapped(host, template, served.logs(0.2))
        made.append(snapped)
        return snapped

    yield run
    for snapped in made:
        for box in snapped.boxes:
            box.close()
        snapped.template.close()


def test_restored_walls_are_any_environments(snap: Snap, host: Host, tmp_path: Path, cold_start: ColdStart):
    source = "def lambda_handler(event, context): return [look(), privileged()]\n"
    restored = snap(source, cold_start=cold_start).restore().invoke({}).body
    spec = replace(spec_of(tmp_path, source, environment={}, cold_start=cold_start), template=False)
    with host.create(spec) as box:
        ordinary = Served(box).invoke({}).body
    for seen in (restored, ordinary):
        assert isinstance(seen, list), seen
        assert set(seen[1]) <= {"EPERM", "EACCES", "ENOSYS", "EINVAL"}, seen[1]
    # another process of its own forks it, and is gone
    assert {**restored[0], "pids": []} == {**ordinary[0], "pids": []}
    assert restored[0]["pids"] == []
    assert ordinary[0]["write"] in ("EACCES", "EROFS", "EPERM")


def test_a_template_may_do_no_more_than_any_function(snap: Snap):
    snapped = snap(
        "os.write(1, repr(privileged()).encode() + b'\\n')\ndef lambda_handler(event, context): return privileged()\n"
    )
    [line] = [line for line in snapped.logs.splitlines() if line.startswith("[")]
    assert set(json.loads(line.replace("'", '"'))) <= {"EPERM", "EACCES", "ENOSYS", "EINVAL"}, line
    assert set(snapped.restore().invoke({}).body) <= {"EPERM", "EACCES", "ENOSYS", "EINVAL"}


SHARED = """
COMMON = mmap.mmap(-1, 8192)
COMMON[:5] = b"first"
PRIVATE = bytearray(b"first")
FILE = open("/tmp/kept", "w+")
FILE.write("first"); FILE.flush()
os.mkdir("/tmp/folder", 0o750); os.symlink("/etc/passwd", "/tmp/folder/link"); os.chmod("/tmp/kept", 0o600)
with open("/tmp/folder/sparse", "wb") as sparse:
    sparse.truncate(100 << 20); sparse.seek(50 << 20); sparse.write(b"x")
READ, WRITE = os.pipe()
PAIR = socket.socketpair()
random.seed(7); ssl.RAND_bytes(8)
def lambda_handler(event, context):
    FILE.seek(0)
    before = [COMMON[:5].decode(), PRIVATE.decode(), FILE.read()]
    COMMON[:5] = PRIVATE[:] = event.encode()
    FILE.seek(0); FILE.write(event); FILE.flush()
    child = os.fork()
    if not child:
        COMMON[8:9] = b"c"; os._exit(0)
    os.waitpid(child, 0)
    os.write(WRITE, event.encode())
    sparse = os.stat("/tmp/folder/sparse")
    return {"before": before, "child": COMMON[8:9] == b"c", "pipe": os.read(READ, 9).decode(), "pair": PAIR[0].recv(1).decode(),
            "random": random.random(), "ssl": ssl.RAND_bytes(8).hex(), "mode": oct(os.stat("/tmp/kept").st_mode),
            "owner": os.stat("/tmp/kept").st_uid, "link": os.readlink("/tmp/folder/link"), "sparse": sparse.st_blocks < 1000,
            "folder": oct(os.stat("/tmp/folder").st_mode), "open": open("/tmp/kept").read(), "pid": os.getpid()}
"""


def test_restored_environments_share_nothing(snap: Snap):
    snapped = snap(SHARED, memory=512)
    one, other = snapped.restore(), snapped.restore()
    first, second, third = one.invoke("one..").body, other.invoke("other").body, snapped.restore().invoke("third").body
    for seen, wrote in ((first, "one.."), (second, "other"), (third, "third")):
        assert seen["before"] == ["first", "first", "first"]
        assert (seen["open"], seen["pipe"]) == (wrote, wrote)
        assert seen["child"] and seen["pair"] == "" and seen["owner"] == 993 and seen["sparse"]
        assert (seen["mode"], seen["folder"], seen["link"]) == ("0o100600", "0o40750", "/etc/passwd")
    assert len({seen["random"] for seen in (first, second, third)}) == 3
    assert len({seen["ssl"] for seen in (first, second, third)}) == 3
    assert one.invoke("again").body["before"] == ["one.."] * 3, "its own state stays"
    assert namespaces_differ([one.box, other.box])
    assert "a socket" in snapped.logs and "dead in restored environments" in snapped.logs


def namespaces_differ(boxes: list[Sandbox]) -> bool:
    inside = {pid for box in boxes for pid in descendants(box.pid)}
    kinds = ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")
    return len(inside) == len(boxes) and all(len(namespaces(kind, inside)) == len(boxes) for kind in kinds)


def test_signals_and_limits_reach_no_other(snap: Snap):
    snapped = snap("""
def lambda_handler(event, context):
    if event == "signal":
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        os.kill(0, signal.SIGUSR1)
        return [attempt(os.kill, pid, 9) for pid in range(2, 400) if pid != os.getpid()].count("ESRCH")
    children = []
    try:
        while len(children) < event:
            pid = os.fork()
            if not pid:
                signal.pause()
            children.append(pid)
    except OSError:
        pass
    return len(children)
""", memory=1024)  # fmt: skip
    one, other, third = snapped.restore(), snapped.restore(), snapped.restore()
    assert one.invoke("signal").body == 397
    assert 100 < other.invoke(2000).body < 760
    assert one.invoke(300).body == third.invoke(300).body == 300
    assert snapped.restore().invoke(1).body == 1


HOSTILE = """
import array
threading.Thread(target=time.sleep, args=(1000,), daemon=True, name="ticker").start()
def breed():
    while True:
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(0.01)
if os.fork() == 0:
    os.setsid(); resource.setrlimit(resource.RLIMIT_NPROC, (40, 40)); breed_errors = 0
    while True:
        try:
            breed()
        except OSError:
            time.sleep(0.001)
def lambda_handler(event, context):
    return [sorted(int(name) for name in os.listdir("/proc") if name.isdigit()), threading.active_count(), os.getpid()]
"""


def test_threads_and_processes_stay_behind_with_a_warning(snap: Snap):
    snapped = snap(HOSTILE, memory=512)
    inside = descendants(snapped.template.box.pid)
    assert len(inside) == 2, "the template and its keeper, whatever bred"
    assert "thread 'ticker' runs at the snapshot" in snapped.logs
    assert "child process" in snapped.logs
    pids, threads, own = snapped.restore().invoke({}).body
    assert (pids, threads) == ([1, own], 1)


TRICKS = {
    "the channel is closed": "def before(): os.close(3)",
    "the channel is another": "def before(): os.dup2(socket.socketpair()[0].detach(), 3)",
    "nobody waits": """
_fork = os.fork
def fork():
    pid = _fork()
    if not pid:
        os.write(3, b"h")
        time.sleep(1000)
    return pid
def before(): os.fork = fork
""",
    "it waits elsewhere": """
_read = os.read
def read(number, size):
    return time.sleep(1000) if number == 3 else _read(number, size)
def before(): os.read = read
""",
    "it can't be looked into": "def before(): os.register_at_fork(after_in_child=lambda: libc.prctl(4, 0, 0, 0, 0))",
    "a thread goes on": """
def go_on(): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
def before(): os.register_at_fork(after_in_child=go_on)
""",
    "calls that look done": """
import struct
def step(code, value, true=0, false=0): return struct.pack("=HBBI", code, true, false, value)
def before():
    # capset answers 0 and does nothing
    code = step(0x20, 0) + step(0x15, 126, 0, 1) + step(0x06, 0x00050000) + step(0x06, 0x7fff0000)
    program = ctypes.create_string_buffer(code, len(code))
    whole = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(program)), 16)
    assert libc.prctl(22, 2, ctypes.byref(whole), 0, 0) == 0
""",
    "too much shared memory": "COMMON = mmap.mmap(-1, 200 << 20)\ndef before(): pass",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_template_that_plays_tricks_is_none(snap: Snap, host: Host, trick: str):
    before = descendants(host.launcher_pid)
    with pytest.raises(SandboxError, match="no snapshot"):
        snap(
            f"from snapshot_restore_py import register_before_snapshot\n{TRICKS[trick]}\nregister_before_snapshot(before)\n"
            "def lambda_handler(event, context): return 1\n"
        )
    # but the zygote, where it is the first
    assert eventually(lambda: len(descendants(host.launcher_pid) - before) <= 1)


def test_a_killed_template_is_gone_and_its_environments_live_on(snap: Snap):
    snapped = snap("def lambda_handler(event, context): return event\n")
    served = snapped.restore()
    assert served.invoke(1).body == 1
    snapped.template.close()
    assert not snapped.template.alive
    assert len(descendants(snapped.template.box.pid)) >= 1
    assert served.invoke(2).body == 2
    with pytest.raises(ForkerGoneError):
        snapped.host.restore(snapped.template)
    pid = snapped.template.box.pid
    served.box.close()
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_the_end_of_a_restored_process_is_told(snap: Snap):
    snapped = snap("def lambda_handler(event, context): os._exit(7)\n")
    box = snapped.host.restore(snapped.template)
    snapped.boxes.append(box)
    served = Served(box)
    pass_restore(served)
    served._request(time.monotonic() + 20)
    served._reply(200, b"{}", "Lambda-Runtime-Aws-Request-Id: x")
    ended = box.wait(20)
    assert ended is not None
    assert (ended.name, ended.exit_code, ended.signal) == ("runtime", 7, None)


def test_walls_stand_ready_for_the_next_copies(ready_host: Host, tmp_path: Path):
    box = ready_host.create(spec_of(tmp_path, "def lambda_handler(event, context): return os.listdir('/tmp')\n"))
    served = Served(box)
    pass_restore(served)
    template = ready_host.keep(box)
    ready_host.stand_by(template)
    assert eventually(lambda: not template.wants(2))
    with ready_host.restore(template) as restored:
        again = Served(restored)
        pass_restore(again)
        assert again.invoke({}) == Answer("response", [])
    template.close()
    assert eventually(lambda: not Path(f"/proc/{box.pid}").exists())


OWNER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from conftest import Served
from test_walls_snapshot import pass_restore, spec_of
from lading.sandbox.host import Host
host = Host(spares=2)
box = host.create(spec_of(Path(sys.argv[2]), "def lambda_handler(event, context): return 1\\n"))
pass_restore(Served(box))
template = host.keep(box)
boxes = [host.restore(template) for _ in range(3)]
for one in boxes:
    served = Served(one)
    pass_restore(served)
    served.invoke({})
boxes[0].freeze()
boxes[2].freeze()
print("ready", flush=True)
time.sleep(1000)
"""


def test_a_killed_owner_leaves_nothing(rooted: None, tmp_path: Path):
    command = [sys.executable, "-c", OWNER, str(Path(__file__).parent), str(tmp_path)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        inside, name = descendants(owner.pid), owner_name(owner.pid)
        assert len(inside) >= 10
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        owner.stdout.close()
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside), 20), (
        "templates and frozen ones too"
    )
    sweep()  # or another host, which may have been faster
    assert name not in sweep()
    assert groups_of(owner.pid) == []
    everyone = {int(path.name) for path in Path("/proc").glob("[0-9]*")}
    assert os.getpid() in everyone
