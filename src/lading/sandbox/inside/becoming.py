"""How a copy of a template becomes an environment's runtime: the calls that it makes, where what they point to lies in its
memory, and what has to be true afterwards.
"""

from __future__ import annotations

import array
import functools
import os
import resource
import socket
import struct
from typing import Any

from lading.sandbox.inside import kernel
from lading.sandbox.inside.snapshot import CHANNEL
from lading.sandbox.inside.tracing import Tracee, filter_structure

NAMESPACES = {
    "user": kernel.CLONE_NEWUSER,
    "cgroup": kernel.CLONE_NEWCGROUP,
    "ipc": kernel.CLONE_NEWIPC,
    "uts": kernel.CLONE_NEWUTS,
    "net": kernel.CLONE_NEWNET,
    "mnt": kernel.CLONE_NEWNS,
    "pid": kernel.CLONE_NEWPID,
}
"""What a copy joins, in this order: the first gives it the right to the others."""
STREAMS = ("stdin", "stdout", "stderr", "runtime")
"""What becomes its descriptors 0 to 3."""
_MESSAGE, _VECTOR, _TOKEN, _SELF, LIMIT, _CONTROL, _CAPABILITIES = 256, 320, 352, 360, 368, 384, 768
JOINING, BECOMING, _FILTER, _PROGRAM = 1024, 2048, 8192, 8208
"""Offsets in the template's scratch memory. What begins it belongs to `tracing`."""


def furnish(memory: int, at: int, program: bytes) -> None:
    """Writes what calls point to into a template's memory, at its scratch place, once: every copy has it."""
    vector = struct.pack("QQ", at + _TOKEN, 8)
    message = struct.pack("QIxxxxQQQQixxxx", 0, 0, at + _VECTOR, 1, at + _CONTROL, 256, 0)
    capabilities = struct.pack("=Ii", 0x20080522, 0) + bytes(24)
    for offset, content in (
        (_MESSAGE, message),
        (_VECTOR, vector),
        (_SELF, b"0"),
        (_CAPABILITIES, capabilities),
        (_FILTER, filter_structure(program, at + _PROGRAM)),
        (_PROGRAM, program),
    ):
        os.pwrite(memory, content, at + offset)


def hand(runtime: socket.socket, copy: Tracee, memory: int, descriptors: list[int]) -> list[int]:
    """Passes descriptors into a copy, by the other end of its channel; their numbers there."""
    token = os.urandom(8)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    runtime.sendmsg([token], [rights])
    copy.call("recvmsg", CHANNEL, copy.scratch + _MESSAGE, socket.MSG_DONTWAIT)
    received = os.pread(memory, _CAPABILITIES, copy.scratch)
    length, level, kind = struct.unpack_from("Qii", received, _CONTROL)
    if received[_TOKEN : _TOKEN + 8] != token or (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS):
        raise OSError(22, "the template's channel is not ours")
    if length != 16 + 4 * len(descriptors):
        raise OSError(24, "descriptors were lost")
    return list(struct.unpack_from(f"{len(descriptors)}i", received, _CONTROL + 16))


def calls(descriptors: list[int], template: Tracee, settings: dict[str, Any]) -> list[tuple[str | int, ...]]:
    """What a copy does in its new place: it joins the control groups, takes streams of its own and closes all else, begins
    a session, becomes the user that every function is, without privilege in the user namespace that it joined, and gets
    the filter that every function has.
    """
    at = template.scratch
    streams, doors = descriptors[: len(STREAMS)], descriptors[len(STREAMS) :]
    known: list[tuple[str | int, ...]] = [("rseq", *template.sequence)] if template.sequence else []
    uid = settings["uid"]
    users: list[tuple[str | int, ...]] = [("setgroups", 0, 0), ("setresgid", *[uid] * 3), ("setresuid", *[uid] * 3)]
    capabilities = at + _CAPABILITIES
    return [
        # by itself: to move another process, the kernel first stops every fork on this machine
        *[("write", door, at + _SELF, 1) for door in doors],
        *[("dup3", descriptor, number, 0) for number, descriptor in enumerate(streams)],
        ("close_range", len(streams), 0xFFFFFFFF, 0),
        ("setsid",),
        ("prlimit64", 0, resource.RLIMIT_NPROC, at + LIMIT, 0),
        *[("prctl", kernel.PR_CAPBSET_DROP, number) for number in range(_last_capability() + 1)],
        *(users if settings["switch"] else []),
        ("capset", capabilities, capabilities + 8),
        ("prctl", kernel.PR_SET_DUMPABLE, 1),
        ("prctl", kernel.PR_SET_NO_NEW_PRIVS, 1),
        ("prctl", kernel.PR_SET_SECCOMP, 2, at + _FILTER),
        *known,
    ]


def check(process: Tracee, owner: int) -> None:
    """That all of it was done, as the kernel says: nothing runs that could do more than any function."""
    status = process.status()
    users = {*status["Uid"].split(), *status["Gid"].split()}
    rights = {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    rest = status["Groups"], status["NoNewPrivs"], status["Seccomp_filters"], status["Threads"]
    if users != {str(owner)} or rights != {"0" * 16} or rest != ("", "1", "2", "1"):
        raise OSError(1, f"a copy kept more than it may have: {users} {rights} {rest}")


@functools.cache
def _last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return int(file.read())
