"""The kernel calls that Python lacks, through ctypes: namespaces, mounts, capabilities, seccomp.

Each raises OSError with the call's name and its target.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PARENT = 0x00008000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

_OPEN_TREE = 428
_MOVE_MOUNT = 429
_MOUNT_SETATTR = 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = 0o2000000
_MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4

PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_MADV_POPULATE_WRITE = 23

_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

_libc = ctypes.CDLL(None, use_errno=True)
_holding = ctypes.PyDLL(None, use_errno=True)
"""Calls that keep Python's lock: whoever comes back has it."""
_holding.fork  # noqa: B018 -- looked up here and not in every fork, as those below
if sys.platform == "linux":  # elsewhere this is imported, and nothing of it called
    for _name in ("unshare", "setns", "mount", "umount2", "syscall", "sethostname", "prctl", "capset"):
        getattr(_libc, _name)
    _libc.ptrace.restype = ctypes.c_long
    _libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def _call(name: str, result: int, target: str = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}", target or None)
    return result


def unshare(flags: int) -> None:
    _call("unshare", _libc.unshare(ctypes.c_int(flags)), hex(flags))


def setns(descriptor: int, flags: int) -> None:
    _call("setns", _libc.setns(descriptor, ctypes.c_int(flags)), hex(flags))


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode() if data else None
    )
    _call("mount", result, f"{kind} on {target}")


def umount(target: str, flags: int = 0) -> None:
    _call("umount", _libc.umount2(os.fsencode(target), flags), target)


def pivot_root(new: str, old: str) -> None:
    number = _PIVOT_ROOT[platform.machine()]
    _call("pivot_root", _libc.syscall(number, os.fsencode(new), os.fsencode(old)), new)


def open_tree(path: str) -> int:
    """A detached copy of the mount at path, and of what is mounted below it, as a descriptor that can be sent away."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    return _call("open_tree", _libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags), path)


def move_mount(tree: int, target: str) -> None:
    result = _libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    _call("move_mount", result, target)


def set_mount_attributes(
    path: str, attributes: int, *, tree: int = _AT_FDCWD, recursive: bool = True, private: bool = False
) -> None:
    """Adds MOUNT_ATTR_* flags to the mount at path (or of the detached tree, with an empty path).

    private: what is mounted in it later is seen nowhere else.
    """
    value = struct.pack("=QQQQ", attributes, 0, MS_PRIVATE if private else 0, 0)
    flags = (_AT_RECURSIVE if recursive else 0) | (0 if path else _AT_EMPTY_PATH)
    result = _libc.syscall(_MOUNT_SETATTR, tree, os.fsencode(path), flags, value, ctypes.c_size_t(len(value)))
    _call("mount_setattr", result, path)


def set_host_name(name: str) -> None:
    _call("sethostname", _libc.sethostname(name.encode(), len(name.encode())), name)


def prctl(option: int, value: int = 0, third: int = 0) -> None:
    result = _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(third), ctypes.c_ulong(0), ctypes.c_ulong(0))
    _call("prctl", result, str(option))


def drop_bounding_set() -> None:
    """No later execve can give any capability back."""
    none = ctypes.c_ulong(0)
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), none, none, none) < 0:
            return  # past the last capability this kernel knows


def drop_capabilities() -> None:
    """Effective, permitted and inheritable sets become empty, for good."""
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    _call("capset", _libc.capset(header, bytes(24)))


def install_filter(program: bytes) -> None:
    """A seccomp program: 8 bytes an instruction. Needs no_new_privs."""
    code = ctypes.create_string_buffer(program, len(program))
    filter_program = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    holder = ctypes.create_string_buffer(filter_program, len(filter_program))
    _call("seccomp", _libc.prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(holder), 0, 0))


def fork() -> int:
    """As os.fork, without what Python does in a child for threads, locks and random numbers: a third of a fork's time.

    For a process without threads. What its modules want to hear of a fork they must be told: `process.client`.
    """
    return _call("fork", _holding.fork())


def ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    _call("ptrace", _libc.ptrace(request, pid, address, data), f"{request:#x} of {pid}")


def populate(start: int, end: int) -> None:
    """Has a range of this process's memory ready to be written to; where that isn't possible, nothing happens."""
    _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_POPULATE_WRITE)


def raise_loopback(address: str) -> None:
    """Brings up lo in this network namespace, with a second address on it."""

    def request(name: str, content: bytes) -> bytes:
        return struct.pack("16s24s", name.encode(), content)

    def internet(text: str) -> bytes:
        return struct.pack("=H2s4s", socket.AF_INET, b"", socket.inet_aton(text))

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as interface:
        fcntl.ioctl(interface, _SIOCSIFFLAGS, request("lo", struct.pack("=h", _IFF_UP)))
        fcntl.ioctl(interface, _SIOCSIFADDR, request("lo:1", internet(address)))
        fcntl.ioctl(interface, _SIOCSIFNETMASK, request("lo:1", internet("255.255.255.255")))
