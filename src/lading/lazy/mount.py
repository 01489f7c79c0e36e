"""The kernel's side of a lazy image: the FUSE connection, EROFS over its files, loop devices where a kernel needs them.

Mounts lie in a folder named after its owner (process and start time), so that a later start can sweep what a killed one left.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import shutil
import signal
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lading.errors import SandboxError
from lading.lazy import fuse_protocol as protocol
from lading.lazy.fuse_protocol import Negotiated
from lading.sandbox.inside import kernel
from lading.sandbox.owners import is_left, owner_name, owner_of

RUN = Path("/run/lading/lazy")
READ_AHEAD = 256
"""KiB. Measured on starts that import pandas and scikit-learn: with 1024 a sixth more chunks are fetched and a quarter more
CPU is spent, most of it for what nobody reads; with 128 there are a fifth more reads. One who reads on is read ahead for by
the reader itself."""
BACKGROUND = 64
"""Reads ahead that the kernel may have under way at once."""
WORKER_FILE = "worker"
_PATIENCE = 10.0
_FLAGS = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CONFIG = struct.Struct("=II QQQQQIIII64s64s32sQQ 64x")
_LO_FLAGS_READ_ONLY = 1
_LO_FLAGS_AUTOCLEAR = 4
_CAP_SYS_ADMIN = 1 << 21
_BACKING = Path("/sys/class/bdi")
_OCTAL = re.compile(rb"\\([0-7]{3})")


class LazyMountError(SandboxError):
    """This machine can't mount a lazy image, or a step of it failed."""


@dataclass(frozen=True)
class Connection:
    """A FUSE file system that is mounted and waits for a server on `device`."""

    device: int
    folder: Path
    negotiated: Negotiated


class _Mount(NamedTuple):
    """device: "major:minor"."""

    path: Path
    device: str


def find_problem() -> str:
    """Why lazy images can't be mounted on this machine; empty where they can. Looks only."""
    if os.geteuid() != 0:
        return "mounting lazy images needs root"
    if not _may_mount():
        return "this process may not mount (it lacks CAP_SYS_ADMIN)"
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse (load the kernel module fuse)"
    if not _has_file_system("erofs"):
        return "the kernel has no EROFS file system"
    return ""


def connect(folder: Path) -> Connection:
    """Mounts an empty FUSE folder and agrees with the kernel on how to talk. Raises LazyMountError."""
    try:
        folder.mkdir(parents=True, mode=0o700)
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _failed("open /dev/fuse", error) from error
    try:
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,default_permissions"
        kernel.mount("lading", str(folder), "fuse.lading", _FLAGS, options)
        negotiated = _negotiate(device)
        # never by stat: nobody serves the folder yet
        for line in (line for line in _mounts() if line.path == folder):
            _read_ahead(_BACKING / line.device)
    except (OSError, protocol.ProtocolError) as error:
        os.close(device)
        unmount(folder)
        raise _failed("mount a FUSE file system", error) from error
    return Connection(device, folder, negotiated)


def abort(connection: Connection) -> None:
    """Ends the connection: what waits for an answer, now or later, gets an error."""
    unmount(connection.folder)
    with contextlib.suppress(OSError):
        os.close(connection.device)


def mount_erofs(metadata: Path, data: Path | None, target: Path) -> None:
    """An EROFS image with its device, read-only at `target`, which is made. Raises LazyMountError.

    Files are mounted as they are where the kernel can (6.12), by loop devices that clear themselves elsewhere.
    """
    target.mkdir(parents=True, exist_ok=True)
    known = set(_BACKING.glob("erofs-*"))
    try:
        try:
            _mount_files(metadata, data, target)
        except OSError as error:
            if error.errno != errno.ENOTBLK:
                raise
            _mount_loops(metadata, data, target)
        for path in {
            *_BACKING.glob("erofs-*")
        } - known:  # numbered in the order of mounts: this one, and who came meanwhile
            _read_ahead(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            target.rmdir()
        raise _failed(f"mount the image at {target}", error) from error


def _read_ahead(backing: Path) -> None:
    """A kernel without the file (or a read-only /sys) reads ahead as it likes."""
    with contextlib.suppress(OSError):
        (backing / "read_ahead_kb").write_text(str(READ_AHEAD), "ascii")


def unmount(target: Path) -> None:
    """Now, or with its last user; what isn't mounted is no error. The folder is removed where that can be."""
    with contextlib.suppress(OSError):
        kernel.umount(str(target), kernel.MNT_DETACH)
    with contextlib.suppress(OSError):
        target.rmdir()


def mounts_below(folder: Path) -> list[Path]:
    """Mount points in a folder, innermost first."""
    return [line.path for line in _mounts() if line.path.is_relative_to(folder)][::-1]


def bind(image: Path, folder: Path) -> None:
    """A mounted image at another folder as well, which must exist and be empty. Raises LazyMountError."""
    if not folder.is_dir() or any(folder.iterdir()):
        raise LazyMountError(f"{folder} is not an empty folder", hint=f"mkdir {folder}")
    try:
        kernel.mount(str(image), str(folder), "", kernel.MS_BIND)
    except OSError as error:
        raise _failed(f"mount the image at {folder}", error) from error


def unbind(folder: Path) -> None:
    """The folder itself stays; what isn't mounted is no error."""
    with contextlib.suppress(OSError):
        kernel.umount(str(folder), kernel.MNT_DETACH)


def is_mounted(folder: Path) -> bool:
    """Whether a lazy image of some owner is mounted at that folder."""
    found = _mounts()
    devices = {line.device for line in found if line.path.is_relative_to(RUN)}
    wanted = folder.absolute()
    return any(line.path == wanted and line.device in devices for line in found)


def clear(folder: Path) -> None:
    """Unmounts and removes all there is in an owner's folder, and what of it is bound elsewhere."""
    found = _mounts()
    devices = {line.device for line in found if line.path.is_relative_to(folder)}
    for line in reversed(found):
        if line.device in devices:
            unbind(line.path)
    for path in mounts_below(folder):
        unmount(path)
    if not mounts_below(folder):
        shutil.rmtree(folder, ignore_errors=True)


def owner_folder() -> Path:
    return RUN / owner_name(os.getpid())


def sweep() -> list[str]:
    """Removes what owners that are gone left: workers, mounts, folders. Returns the owners' names."""
    swept = []
    for folder in sorted(RUN.glob("lading.*")):
        if not is_left(folder.name):
            continue
        for file in folder.glob(f"*/{WORKER_FILE}"):
            _kill_worker(file)
        clear(folder)
        swept.append(folder.name)
    return swept


def note_worker(folder: Path, pid: int) -> None:
    """So that a sweep finds it, should it outlive its owner."""
    (folder / WORKER_FILE).write_text(owner_name(pid), "ascii")


def _mounts() -> list[_Mount]:
    """Those of this process's namespace, in the order they were made."""
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        _, _, device, _, point, *_ = line.split(b" ")
        raw = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), point)
        found.append(_Mount(Path(os.fsdecode(raw)), device.decode("ascii")))
    return found


def _kill_worker(file: Path) -> None:
    with contextlib.suppress(OSError, ValueError):
        name = file.read_text("ascii")
        pid = owner_of(name)
        if pid is None:
            return
        pidfd = os.pidfd_open(pid)
        try:
            if owner_name(pid) == name:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)


def _negotiate(device: int) -> Negotiated:
    """Answers the kernel's first request."""
    poll = select.poll()
    poll.register(device, select.POLLIN)
    deadline = time.monotonic() + _PATIENCE
    while not poll.poll(100):
        if time.monotonic() > deadline:
            raise protocol.ProtocolError(f"the kernel said nothing within {_PATIENCE:.0f} s")
    buffer = bytearray(protocol.REQUEST_BUFFER)
    length = os.readv(device, [buffer])
    answer, negotiated = protocol.negotiate(protocol.parse_request(memoryview(buffer)[:length]), background=BACKGROUND)
    os.write(device, answer)
    return negotiated


def _mount_files(metadata: Path, data: Path | None, target: Path) -> None:
    """Past the page cache of the files, where the kernel knows how (6.15): EROFS has one of its own."""
    device = [f"device={data}"] if data else []
    try:
        kernel.mount(str(metadata), str(target), "erofs", _FLAGS, ",".join([*device, "directio"]))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        kernel.mount(str(metadata), str(target), "erofs", _FLAGS, ",".join(device))


def _mount_loops(metadata: Path, data: Path | None, target: Path) -> None:
    """Loop devices stay while something is mounted from them, and no longer."""
    with contextlib.ExitStack() as stack:
        first = _attach(metadata, stack)
        options = f"device={_attach(data, stack)}" if data else ""
        kernel.mount(first, str(target), "erofs", _FLAGS, options)


def _attach(file: Path, stack: contextlib.ExitStack) -> str:
    backing = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, backing)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    stack.callback(os.close, control)
    for _ in range(64):
        device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
        loop = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, loop)
        info = (0, 0, 0, 0, 0, 0, 0, 0, _LO_FLAGS_READ_ONLY | _LO_FLAGS_AUTOCLEAR)
        try:
            fcntl.ioctl(loop, _LOOP_CONFIGURE, _LOOP_CONFIG.pack(backing, 4_096, *info, b"", b"", b"", 0, 0))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            continue  # somebody else was faster
        return device
    raise OSError(errno.EBUSY, "no loop device is free")


def _may_mount() -> bool:
    found = re.search(r"^CapEff:\t([0-9a-f]+)$", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) & _CAP_SYS_ADMIN)


def _has_file_system(name: str) -> bool:
    if re.search(rf"^\t{name}$|\t{name}$", Path("/proc/filesystems").read_text("ascii"), re.MULTILINE):
        return True
    modules = Path("/lib/modules") / os.uname().release
    files = [modules / "modules.dep", modules / "modules.builtin"]
    return any(f"/{name}.ko" in file.read_text("utf-8", "replace") for file in files if file.exists())


def _failed(step: str, error: Exception) -> LazyMountError:
    why = error.strerror if isinstance(error, OSError) else str(error)
    return LazyMountError(f"can't {step}: {why}", hint="see the kernel's log: dmesg | tail")
