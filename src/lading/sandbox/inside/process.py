"""The last steps of a process inside: it gives up every privilege, then becomes the runtime, an extension or a shell."""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from lading.sandbox.inside import kernel, snapshot

_NOT_FOUND = 127
_NOT_RUNNABLE = 126
_HANDLED = [
    number
    for number in range(1, 65)
    if number not in (9, 19) and signal.getsignal(number) not in (signal.SIG_DFL, None)
] + [signal.SIGCHLD]
"""What a forker began with that isn't the default, and what the first process handles. Found once: names for 64 signals
cost as much as a namespace."""
KEPT = 3
"""The descriptor of the first process's partner after `enter`."""
_MOST_DESCRIPTORS = 1024
"""The limit that was just set: none is above it."""


def enter(walls: dict[str, Any], groups: list[int], output: list[int], partner: socket.socket) -> None:
    """Joins the cgroups, takes its standard streams, loses what else it had. Runs in a fresh fork of the first process.

    walls: uid, limits {name: value}, filter (hexadecimal seccomp program), switch (False where the user is right already),
    and roomy (the limit of processes is a soft one: control groups hold a template). The first process, at the other end of
    partner, names the users of the new user namespace: `adopt`.
    """
    os.setsid()
    for name, value in walls["limits"].items():
        if name != "NPROC":
            _limit(getattr(resource, "RLIMIT_" + name), value)
    kernel.unshare(kernel.CLONE_NEWUSER)
    # not earlier: the limit at this moment is what all user namespaces below, restored environments', have together
    most = walls["limits"]["NPROC"]
    if walls.get("roomy"):
        resource.setrlimit(resource.RLIMIT_NPROC, (most, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
    else:
        _limit(resource.RLIMIT_NPROC, most)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    partner.send(b"u")
    if partner.recv(1) != b"n":
        os._exit(125)
    for group in groups:  # not earlier: the group may be frozen, and the first process must not wait for a frozen one
        os.write(group, b"0")
    kernel.unshare(kernel.CLONE_NEWCGROUP)
    null = os.open("/dev/null", os.O_RDWR)
    for number, descriptor in enumerate([null, *output]):
        os.dup2(descriptor, number)
    os.dup2(partner.detach(), KEPT)
    os.closerange(KEPT + 1, _MOST_DESCRIPTORS)
    _reset_signals()
    kernel.drop_bounding_set()  # it is full again in a new user namespace; emptying it takes a privilege
    if walls["switch"]:
        os.setgroups([])
        os.setresgid(walls["uid"], walls["uid"], walls["uid"])
        os.setresuid(walls["uid"], walls["uid"], walls["uid"])
    kernel.drop_capabilities()
    # the change of user made /proc/self root's own; with no privilege left there is nothing to protect from itself
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.install_filter(bytes.fromhex(walls["filter"]))


def adopt(pid: int, walls: dict[str, Any], partner: socket.socket) -> None:
    """The first process's part of `enter`: who is who in the user namespace of its child."""
    if partner.recv(1) != b"u":
        return  # it died on the way; that is reported as any end is
    for name in ("uid_map", "gid_map"):
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
        os.write(descriptor, walls["users"].encode())
        os.close(descriptor)
    partner.send(b"n")


def rehearse(pages: list[list[int]]) -> None:
    """What every start does for the first time, done ahead: a thread (its stack and heap are used again), and the copies of
    pages that starts of this zygote write to.
    """
    done = _thread.allocate_lock()
    done.acquire()
    _thread.start_new_thread(done.release, ())  # no name, no number: nothing that a function could see
    done.acquire()
    for start, end in pages:
        kernel.populate(start, end)


def await_start(channel: int) -> dict[str, Any]:
    """What to run, once the first process says so. The walls stand already; it may take long."""
    content = b""
    while True:
        more = os.read(channel, 65_536)
        if not more:
            break
        content += more
    if not content:
        os._exit(0)
    start: dict[str, Any] = json.loads(content)
    return start


def execute(command: list[str], environment: dict[str, str], *, keep: bool) -> None:
    """Becomes another program; when it can't, says why to the first process and ends as a shell would.

    keep: the program has the channel to the first process, too.
    """
    if not keep:
        fcntl.fcntl(KEPT, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    try:
        os.execve(_program(command[0], environment), command, environment)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        _refuse(_reason(error), _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE)


def change_folder(path: str) -> None:
    """Where the process starts."""
    if not path.startswith("/"):
        _refuse("chdir: not an absolute path", _NOT_FOUND)
    try:
        os.chdir(path)
    except OSError as error:
        os.write(2, f"{path}: {error.strerror}\n".encode())
        _refuse(f"chdir: {_reason(error)}", _NOT_FOUND)


def read_refusal(partner: socket.socket) -> str:
    """What a process that ended said of its start; nothing where its program ran."""
    with partner:
        partner.settimeout(0)
        try:
            return partner.recv(4096).decode("utf-8", "replace")
        except OSError:
            return ""


def _reason(error: OSError) -> str:
    """As Go words it, in which AWS's messages are written."""
    text = str(error.strerror)
    return text[:1].lower() + text[1:]


def _refuse(reason: str, status: int) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(KEPT, reason.encode())
    os._exit(status)


def _program(name: str, environment: dict[str, str]) -> str:
    """As a shell finds it: a bare name on the environment's PATH."""
    if "/" in name:
        return name
    for folder in environment.get("PATH", os.defpath).split(":"):
        path = f"{folder or '.'}/{name}"
        if os.access(path, os.X_OK) and not os.path.isdir(path):  # noqa: PTH112
            return path
    raise FileNotFoundError(2, "executable file not found in $PATH", name)


def client(handler: str, environment: dict[str, str], path: list[str]) -> Callable[[], None]:
    """What to call, with nothing of ours left on the stack, to be AWS's client in this already started interpreter."""
    _begin_anew()
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.path[:] = path or [os.getcwd(), *sys.path[1:]]  # noqa: PTH109 -- as -m does
    import awslambdaric.__main__ as program  # type: ignore[import-not-found]
    from awslambdaric import bootstrap

    script = "/var/runtime/bootstrap.py" if path else program.__file__
    sys.argv[:] = [script] if "/var/runtime" in path else [script, handler]
    # read from the environment when the module was imported, which was in the zygote
    bootstrap._AWS_LAMBDA_LOG_FORMAT = bootstrap.LogFormat.from_str(environment.get("AWS_LAMBDA_LOG_FORMAT"))
    bootstrap._AWS_LAMBDA_LOG_LEVEL = bootstrap._get_log_level_from_env_var(environment.get("AWS_LAMBDA_LOG_LEVEL"))
    if environment.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        snapshot.install()
    for name in [name for name in sys.modules if name == "lading" or name.startswith("lading.")]:
        del sys.modules[name]
    main = sys.modules["__main__"]
    main.__dict__.clear()
    main.__dict__.update({"__name__": "__main__", "__file__": script, "__builtins__": __builtins__})
    return lambda: program.main([script, handler])


def _begin_anew() -> None:
    """What os.fork has done in a child, of which nothing else matters without threads; after an os.fork it is done again."""
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if "threading" in sys.modules:
        sys.modules["threading"].main_thread()._set_native_id()


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    try:
        resource.setrlimit(kind, (value, value))
    except (ValueError, OSError):  # without privilege a hard limit can only be lowered
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as every Python starts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
