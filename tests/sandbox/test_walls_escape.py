"""Escape attempts from a hostile function, on both cold-start paths: each contained, and the host unchanged."""

from __future__ import annotations

import os
import platform
import select
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import RuntimeEndedError, Start

from lading.sandbox.spec import Isolation


@pytest.fixture(params=[Isolation.ROOT, Isolation.USER], ids=str)
def isolation(request: pytest.FixtureRequest) -> Isolation:
    """Both that have walls. Isolation process has none to escape from: it says so wherever it is chosen."""
    return Isolation(request.param)


@pytest.fixture
def limited(isolation: Isolation) -> None:
    if isolation is Isolation.USER:
        pytest.skip("a user namespace limits no memory and no number of processes: that needs control groups")


PRELUDE = """
import ctypes, errno, os, resource, signal, socket, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def attempt(call, *arguments):
    try:
        return ["done", repr(call(*arguments))[:200]]
    except OSError as error:
        return errno.errorcode[error.errno]
def system(result):
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]
def lambda_handler(event, context):
"""


def function(body: str) -> str:
    return PRELUDE + "\n".join("    " + line for line in body.strip().splitlines())


def run(start: Start, body: str, event: Any = None, **options: Any) -> Any:
    answer = start(function(body), **options).invoke(event or {})
    assert answer.kind == "response", answer
    return answer.body


def test_host_files_are_not_there(start: Start, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    here = str(Path(__file__).resolve())
    paths = [str(secret), here, "/etc/shadow", "/root", "/home", "/boot", "/sys", "/.host", "/.root", "/run/systemd"]
    paths += ["/var/task/../../../../" + here, f"/proc/1/root{here}", f"/proc/self/root{here}", f"/proc/1/cwd{here}"]
    seen = run(start, "return [os.path.exists(path) for path in event]", paths)
    assert dict(zip(paths, seen, strict=True)) == dict.fromkeys(paths, False)


def test_nothing_can_be_written_but_tmp(start: Start):
    body = """
def write(path):
    with open(path, "w") as file:
        file.write("x")
folders = [folder for folder, _, _ in os.walk("/") if not folder.startswith("/proc")]
open_ones = []
for folder in folders:
    if attempt(write, folder + "/attempt") == ["done", "None"]:
        open_ones.append(folder)
return open_ones
"""
    assert run(start, body) == ["/tmp"]


def test_kernel_switches_are_out_of_reach(start: Start):
    paths = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/self/oom_score_adj",
    ]
    body = """
answers = []
for path in event:
    try:
        descriptor = os.open(path, os.O_WRONLY)
        os.write(descriptor, b"-1000")
        answers.append("done")
    except OSError as error:
        answers.append(errno.errorcode[error.errno])
return answers
"""
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    answers = run(start, body, paths)
    assert "done" not in answers
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_processes_of_others_are_invisible_and_safe(start: Start, isolation: Isolation):
    body = """
pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
others = [attempt(os.kill, pid, 0) for pid in event if pid not in pids]
first = {name: attempt(lambda: open(f"/proc/1/{name}", "rb").read()) for name in ("environ", "mem", "maps")}
opened = {attempt(os.open, f"/proc/1/fd/{number}", os.O_RDWR) for number in range(8)}
return [pids, others, first, opened == {"EACCES"}, [attempt(os.kill, 1, number) for number in (9, 15, 19)]]
"""
    served = start(function(body))
    pids, others, first, closed, kills = served.invoke([os.getpid(), os.getppid(), 999_999]).body
    assert pids == [1, 2]
    assert set(others) == {"ESRCH"}
    assert first == {"environ": "EACCES", "mem": "EACCES", "maps": "EACCES"}
    assert closed, "the first process's open files"
    # the first process has the same user in a user namespace: signals reach it, and the kernel lets it ignore them
    assert kills == (["EPERM"] * 3 if isolation is Isolation.ROOT else [["done", "None"]] * 3)
    assert served.invoke([]).body[0] == [1, 2], "the first process lives"


@pytest.mark.parametrize(
    "attempt",
    [
        "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
        "libc.umount2(b'/proc', 2)",
        "libc.chroot(b'/tmp')",
        "libc.unshare(0x10000000)",
        "libc.unshare(0x00020000)",
        "libc.ptrace(16, 1, 0, 0)",
        "libc.ptrace(0, 0, 0, 0)",
        "libc.setuid(0)",
        "libc.setgid(0)",
        "libc.sethostname(b'x', 1)",
        "libc.mknod(b'/tmp/disk', 0o60666, 0xfe00)",
        "libc.syscall(425, 8, 0)",
        "libc.syscall(321, 0, 0, 0)",
        "libc.syscall(250, 0, 0, 0, 0)",
        "libc.syscall(298, 0, 0, 0, 0, 0)",
        "libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)",
        "libc.reboot(0x01234567)",
        "libc.swapoff(b'/dev/vda')",
        "libc.settimeofday(b'\\0' * 16, None)",
        "libc.prctl(24, 0, 0, 0, 0) or libc.capset(b'\\x22\\x05\\x08\\x20\\0\\0\\0\\0', b'\\xff' * 24)",
        "libc.setns(os.open('/proc/1/ns/mnt', os.O_RDONLY), 0)",
    ],
)
def test_privileged_calls_are_refused(start: Start, attempt: str):
    if "syscall" in attempt and platform.machine() != "x86_64":
        pytest.skip("these call numbers are x86_64's")
    body = f"""
try:
    return system({attempt})
except OSError as error:
    return errno.errorcode[error.errno]
"""
    assert run(start, body) in {"EPERM", "EACCES", "ENOSYS", "EINVAL"}


def test_set_user_id_programs_give_nothing(start: Start):
    body = """
import shutil
found = [p for p in ("/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd") if os.path.exists(p) and os.stat(p).st_mode & 0o4000]
return [found, [subprocess.run([p, "--version"], capture_output=True).returncode is not None for p in found],
        subprocess.run(["/bin/sh", "-c", "id -u"], capture_output=True, text=True).stdout]
"""
    assert run(start, body)[2] == "993\n"


def test_sockets_reach_nothing_outside(start: Start):
    import socket

    listener = socket.create_server(("0.0.0.0", 0))
    hidden = socket.socket(socket.AF_UNIX)
    hidden.bind(name := f"\0lading-test-{os.getpid()}")
    hidden.listen()
    with listener, hidden:
        port = listener.getsockname()[1]
        own = socket.gethostbyname(socket.gethostname())
        body = """
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(3)
        one.connect(address)
port = event["port"]
return {
    "loopback": attempt(connect, socket.AF_INET, ("127.0.0.1", port)),
    "own": attempt(connect, socket.AF_INET, (event["own"], port)),
    "world": attempt(connect, socket.AF_INET, ("1.1.1.1", 443)),
    "abstract": attempt(connect, socket.AF_UNIX, event["hidden"]),
    "raw": attempt(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1),
    "packet": attempt(socket.socket, 17, socket.SOCK_RAW, 0),
    "vsock": attempt(socket.socket, 40, socket.SOCK_STREAM, 0),
    "crypto": attempt(socket.socket, 38, socket.SOCK_SEQPACKET, 0),
    "low": attempt(socket.create_server, ("127.0.0.1", 80)),
    "devices": sorted(name for _, name in socket.if_nameindex()),
}
"""
        seen = run(start, body, {"port": port, "own": own, "hidden": name})
    assert seen.pop("devices") == ["lo"]
    assert seen.pop("low") == "EACCES"
    assert seen == {
        "loopback": "ECONNREFUSED",
        "own": seen["own"],
        "world": "ENETUNREACH",
        "abstract": "ECONNREFUSED",
        "raw": "EPERM",
        "packet": "EAFNOSUPPORT",
        "vsock": "EAFNOSUPPORT",
        "crypto": "EAFNOSUPPORT",
    }
    assert seen["own"] in {"ENETUNREACH", "ECONNREFUSED"}


def test_another_environments_tmp_and_api_are_its_own(start: Start):
    """One keeps a secret in its /tmp and has an API; the other looks for both wherever a path or an address may lead."""
    mark = f"secret-{os.getpid()}"
    kept = start(function("open('/tmp/' + event, 'w').write('secret'); return os.listdir('/tmp')"))
    assert kept.invoke(mark).body == [mark]
    other = start(
        function("""
found = []
SHARED = ("proc", "sys", "usr", "lib", "lib32", "lib64", "libx32", "bin", "sbin", "lang", "runtime", "etc")  # read-only
for top in ("/", "/proc/1/root", "/proc/self/root", "/proc/1/cwd", "/tmp/.."):
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name not in SHARED]
        found += [folder] if event in files + folders else []
for pid in range(1, 400):
    found += [pid] if os.path.lexists(f"/proc/{pid}/root/tmp/{event}") else []
shared = attempt(open, "/dev/shm/" + event)
with socket.socket() as api:
    api.connect(("169.254.100.1", 9001))
    mine = api.getpeername()
others = []
for address in ("169.254.100.0", "169.254.100.2", "169.254.0.1", "127.0.0.2", "0.0.0.0"):
    with socket.socket() as one:
        one.settimeout(0.2)
        others.append(attempt(one.connect, (address, 9001)))
return [os.listdir("/tmp"), found, shared, mine, others]
""")
    )
    while select.select([kept.box.runtime_api_socket], [], [], 0)[0]:
        kept.box.runtime_api_socket.accept()[0].close()  # its own client, which asks for the next event
    files, found, shared, mine, others = other.invoke(mark).body
    assert (files, found, shared) == ([], [], "ENOENT")
    assert mine == ["169.254.100.1", 9001]
    assert not set(map(str, others)) & {"['done', 'None']"}, others
    assert select.select([kept.box.runtime_api_socket], [], [], 0)[0] == [], "nobody has knocked there"


def test_fork_bomb_ends_at_the_limit(start: Start, limited: None):
    body = """
count = 0
try:
    while True:
        if os.fork() == 0:
            signal.pause()
        count += 1
except OSError as error:
    return [count, errno.errorcode[error.errno]]
"""
    served = start(function(body), memory=1024)
    count, why = served.invoke({}).body
    assert 100 < count <= 1024
    assert why == "EAGAIN"


def test_memory_bomb_kills_only_itself(start: Start, limited: None):
    served = start(function("data = []\nwhile True: data.append(bytearray(1 << 20))"), memory=128)
    began = time.monotonic()
    with pytest.raises(RuntimeEndedError) as caught:
        served.invoke({}, seconds=60)
    assert time.monotonic() - began < 60
    assert caught.value.event is not None
    assert caught.value.event.signal == 9
    assert served.box.oom_killed
    assert (100 << 20) < served.box.memory_peak <= (128 << 20)


def test_disk_bomb_fills_only_tmp(start: Start):
    body = """
written = 0
try:
    with open("/tmp/bomb", "wb", buffering=0) as file:
        while True:
            written += file.write(bytes(1 << 20))
except OSError as error:
    return [written, errno.errorcode[error.errno]]
"""
    served = start(function(body), memory=128)
    written, why = served.invoke({}).body
    assert why == "ENOSPC"
    assert (500 << 20) <= written <= (512 << 20)
    assert not served.box.oom_killed, "four times its memory, on what is a disk on Lambda"


def test_descriptor_bomb_ends_at_the_limit(start: Start):
    body = """
opened = []
try:
    while True: opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    return [len(opened), errno.errorcode[error.errno]]
"""
    count, why = run(start, body)
    assert why == "EMFILE"
    assert 900 < count < 1024


def test_limits_cant_be_raised(start: Start):
    answer = start(function("resource.setrlimit(resource.RLIMIT_NPROC, (1 << 20, 1 << 20))")).invoke({})
    assert answer.kind == "error"
    assert "not allowed to raise maximum limit" in answer.body["errorMessage"]
