"""The system call filter as a classic BPF program: a list of what no function needs and a kernel bug may hide in.

Everything else is allowed, as a function on AWS (a machine of its own) may do. Refused calls get EPERM.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lading.errors import SandboxError

_LOAD = 0x20
_JUMP_EQUAL = 0x15
_JUMP_GREATER_EQUAL = 0x35
_JUMP_SET = 0x45
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_ERROR = 0x00050000
_EPERM, _EAFNOSUPPORT, _ENOSYS = 1, 97, 38
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16
_NEW_NAMESPACES = 0x7E020080
"""Every CLONE_NEW* flag."""
_TERMINAL_INJECTION = (0x5412, 0x541C)
"""ioctl TIOCSTI and TIOCLINUX."""
_FAMILIES = (1, 2, 10, 16)
"""Unix, IPv4, IPv6, netlink."""


@dataclass(frozen=True)
class Machine:
    """An instruction set's audit number and its system call numbers."""

    audit: int
    clone: int
    ioctl: int
    socket: int
    foreign: int | None
    """Numbers from here on belong to another calling convention (x32)."""
    refused: dict[str, int]


_COMMON = {
    "clone3": 435, "pidfd_getfd": 438, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "open_tree_attr": 467,
}  # fmt: skip

MACHINES = {
    "x86_64": Machine(
        audit=0xC000003E,
        clone=56,
        ioctl=16,
        socket=41,
        foreign=0x40000000,
        refused={
            **_COMMON,
            "acct": 163, "add_key": 248, "request_key": 249, "keyctl": 250, "bpf": 321, "perf_event_open": 298,
            "userfaultfd": 323, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272,
            "setns": 308, "init_module": 175, "finit_module": 313, "delete_module": 176, "kexec_load": 246,
            "kexec_file_load": 320, "reboot": 169, "swapon": 167, "swapoff": 168, "ptrace": 101,
            "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "lookup_dcookie": 212,
            "name_to_handle_at": 303, "open_by_handle_at": 304, "quotactl": 179, "settimeofday": 164,
            "clock_settime": 227, "clock_adjtime": 305, "adjtimex": 159, "iopl": 172, "ioperm": 173, "syslog": 103,
            "vhangup": 153, "nfsservctl": 180, "fanotify_init": 300, "modify_ldt": 154, "uselib": 134, "ustat": 136,
            "sysfs": 139, "_sysctl": 156, "personality": 135,
        },
    ),
    "aarch64": Machine(
        audit=0xC00000B7,
        clone=220,
        ioctl=29,
        socket=198,
        foreign=None,
        refused={
            **_COMMON,
            "acct": 89, "add_key": 217, "request_key": 218, "keyctl": 219, "bpf": 280, "perf_event_open": 241,
            "userfaultfd": 282, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97,
            "setns": 268, "init_module": 105, "finit_module": 273, "delete_module": 106, "kexec_load": 104,
            "kexec_file_load": 294, "reboot": 142, "swapon": 224, "swapoff": 225, "ptrace": 117,
            "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "lookup_dcookie": 18,
            "name_to_handle_at": 264, "open_by_handle_at": 265, "quotactl": 60, "settimeofday": 170,
            "clock_settime": 112, "clock_adjtime": 266, "adjtimex": 171, "syslog": 116, "vhangup": 58,
            "nfsservctl": 42, "fanotify_init": 262, "personality": 92,
        },
    ),
}  # fmt: skip


def program(machine: str, *, template: bool = False) -> bytes:
    """The filter for `uname -m`'s name, 8 bytes an instruction. Raises SandboxError for an unknown machine.

    A template's allows setns, which nobody can use who holds neither a privilege nor a namespace of others.
    """
    try:
        facts = MACHINES[machine]
    except KeyError:
        raise SandboxError(
            f"no system call filter for {machine}", hint=f"environments run on {', '.join(MACHINES)}"
        ) from None
    refused = dict(facts.refused)
    clone3 = refused.pop("clone3")
    if template:
        del refused["setns"]
    code = [
        _step(_LOAD, _MACHINE),
        _step(_JUMP_EQUAL, facts.audit, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if facts.foreign is not None:
        code += [_step(_JUMP_GREATER_EQUAL, facts.foreign, 0, 1), _step(_RETURN, _KILL)]
    for number in sorted(refused.values()):
        code += [_step(_JUMP_EQUAL, number, 0, 1), _step(_RETURN, _ERROR | _EPERM)]
    # C libraries fall back to clone, whose flags can be looked at
    code += [_step(_JUMP_EQUAL, clone3, 0, 1), _step(_RETURN, _ERROR | _ENOSYS)]
    code += _argument(facts.clone, 0, [_step(_JUMP_SET, _NEW_NAMESPACES, 0, 1), _step(_RETURN, _ERROR | _EPERM)])
    injection = [
        [_step(_JUMP_EQUAL, request, 0, 1), _step(_RETURN, _ERROR | _EPERM)] for request in _TERMINAL_INJECTION
    ]
    code += _argument(facts.ioctl, 1, [step for pair in injection for step in pair])
    families = [_step(_JUMP_EQUAL, family, len(_FAMILIES) - index, 0) for index, family in enumerate(_FAMILIES)]
    code += _argument(facts.socket, 0, [*families, _step(_RETURN, _ERROR | _EAFNOSUPPORT)])
    code.append(_step(_RETURN, _ALLOW))
    return b"".join(code)


def _argument(number: int, index: int, checks: list[bytes]) -> list[bytes]:
    """Checks on the low half of one argument of one call; other calls jump past them."""
    return [
        _step(_JUMP_EQUAL, number, 0, len(checks) + 2),
        _step(_LOAD, _ARGUMENTS + 8 * index),
        *checks,
        _step(_RETURN, _ALLOW),
    ]


def _step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, true, false, value)
