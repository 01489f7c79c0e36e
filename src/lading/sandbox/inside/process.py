"""The last steps of a process inside: it gives up every privilege, then becomes the runtime, an extension or a shell."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from lading.sandbox.inside import kernel

_NOT_FOUND = 127
_NOT_RUNNABLE = 126


def enter(walls: dict[str, Any], groups: list[int], output: list[int]) -> None:
    """Joins the cgroups, takes its standard streams, loses what else it had. Runs in a fresh fork of the first process.

    walls: uid, limits {name: value}, filter (hexadecimal seccomp program), switch (False where the user is already right).
    """
    os.setsid()
    for group in groups:
        os.write(group, b"0")
    kernel.unshare(kernel.CLONE_NEWCGROUP)
    null = os.open("/dev/null", os.O_RDWR)
    for number, descriptor in enumerate([null, *output]):
        os.dup2(descriptor, number)
    os.closerange(3, _limit_of_descriptors())
    _reset_signals()
    for name, value in walls["limits"].items():
        _limit(getattr(resource, "RLIMIT_" + name), value)
    os.chdir(walls["folder"])
    if walls["switch"]:
        os.setgroups([])
        os.setresgid(walls["uid"], walls["uid"], walls["uid"])
        os.setresuid(walls["uid"], walls["uid"], walls["uid"])
    kernel.drop_capabilities()
    # setresuid made /proc/self root's own; with no privilege left there is nothing to protect from itself
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.install_filter(bytes.fromhex(walls["filter"]))


def execute(command: list[str], environment: dict[str, str]) -> None:
    """Becomes another program; ends as a shell would when it isn't there."""
    try:
        os.execve(command[0], command, environment)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE)


def client(handler: str, environment: dict[str, str], path: list[str]) -> Callable[[], None]:
    """What to call, with nothing of ours left on the stack, to be AWS's client in this already started interpreter."""
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.path[:] = path
    script = "/var/runtime/bootstrap.py"
    sys.argv[:] = [script]
    import awslambdaric.__main__ as program  # type: ignore[import-not-found]
    from awslambdaric import bootstrap

    # read from the environment when the module was imported, which was in the zygote
    bootstrap._AWS_LAMBDA_LOG_FORMAT = bootstrap.LogFormat.from_str(environment.get("AWS_LAMBDA_LOG_FORMAT"))
    bootstrap._AWS_LAMBDA_LOG_LEVEL = bootstrap._get_log_level_from_env_var(environment.get("AWS_LAMBDA_LOG_LEVEL"))
    for name in [name for name in sys.modules if name == "lading" or name.startswith("lading.")]:
        del sys.modules[name]
    main = sys.modules["__main__"]
    main.__dict__.clear()
    main.__dict__.update({"__name__": "__main__", "__file__": script, "__builtins__": __builtins__})
    return lambda: program.main([script, handler])


def _limit_of_descriptors() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    try:
        resource.setrlimit(kind, (value, value))
    except (ValueError, OSError):  # without privilege a hard limit can only be lowered
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if number in (signal.SIGKILL, signal.SIGSTOP):
            continue
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # the C library's own signals
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as every Python starts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
