"""An environment's share of memory, CPU and processes, by cgroup v1 or v2, whichever holds the controllers here.

Groups are named after their owner, so that a later start can sweep what a killed one left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from lading.errors import SandboxError
from lading.sandbox.owners import PREFIX, is_left, owner_name
from lading.sandbox.spec import MEMORY_OF_ONE_CPU

_PERIOD = 20_000
"""Microseconds in which a share of a CPU is given: as on Lambda."""
_MOST_PROCESSES = 1_024
"""Processes and threads ("Lambda quotas": 1,024)."""
_V1 = ("memory", "cpu", "cpuacct", "pids", "freezer")


@dataclass(frozen=True)
class Hierarchies:
    """Where the controllers are: folder per controller, in which this process may make groups."""

    version: str
    """"v1", "v2" or "none"."""
    folders: dict[str, Path]
    problem: str = ""

    def make(self, name: str) -> Group:
        """A group for one environment, not limited yet."""
        made: dict[str, Path] = {}
        owner = owner_name(os.getpid())
        for controller, folder in self.folders.items():
            path = folder / owner / name
            if path not in made.values():
                path.mkdir(parents=True)
            made[controller] = path
        return Group(self.version, made)

    @property
    def limits(self) -> bool:
        """False where nothing can be limited or frozen."""
        return bool(self.folders)

    def prepare(self) -> None:
        """Lets groups of groups have limits (v2 only)."""
        if self.version != "v2":
            return
        folder = self.folders["memory"]
        own = folder / owner_name(os.getpid())
        own.mkdir(exist_ok=True)
        for path in (folder, own):
            (path / "cgroup.subtree_control").write_text("+memory +cpu +pids")

    def remove_owner(self) -> None:
        """Removes this process's own groups, unless another host in this process still has environments in them."""
        for folder in set(self.folders.values()):
            with contextlib.suppress(OSError):
                (folder / owner_name(os.getpid())).rmdir()


class Group:
    """One environment's group in every hierarchy."""

    def __init__(self, version: str, folders: dict[str, Path]) -> None:
        self._version = version
        self._folders = folders
        self._peak: int | None = None
        """Descriptor of the file with the most memory used: it is read after every invoke."""

    @property
    def limits(self) -> bool:
        """False where nothing can be limited, frozen or measured."""
        return bool(self._folders)

    @property
    def doors(self) -> list[Path]:
        """Files to write "0" into to join. v1's `tasks` moves one thread without stopping the machine's forks."""
        name = "tasks" if self._version == "v1" else "cgroup.procs"
        return [path / name for path in dict.fromkeys(self._folders.values())]

    @property
    def thaw_file(self) -> Path | None:
        """Where "THAWED" lets frozen processes die; v2 needs none."""
        return self._folders["freezer"] / "freezer.state" if self._version == "v1" and self._folders else None

    def begin(self) -> None:
        """What is the same for every function: it need not be written while one starts."""
        if self._folders:
            self._write("pids", "pids.max", str(_MOST_PROCESSES))
        if self._version == "v1":
            self._write("cpu", "cpu.cfs_period_us", str(_PERIOD))

    def limit(self, memory: int, storage: int = 0) -> None:
        """Memory and what /tmp may hold of it, in MB. Once for each group."""
        size = str(memory + storage << 20)
        if self._version == "v1":
            self._write("memory", "memory.limit_in_bytes", size)
            with contextlib.suppress(OSError):  # absent where swap isn't counted
                self._write("memory", "memory.memsw.limit_in_bytes", size)
        if self._version == "v2":
            self._write("memory", "memory.max", size)
            self._write("memory", "memory.swap.max", "0")
            self._write("memory", "memory.oom.group", "0")

    def limit_cpu(self, memory: int) -> None:
        """The share of the CPUs that this much memory buys."""
        quota = max(1_000, _PERIOD * memory // MEMORY_OF_ONE_CPU)
        if self._version == "v1":
            self._write("cpu", "cpu.cfs_quota_us", str(quota))
        elif self._version == "v2":
            self._write("cpu", "cpu.max", f"{quota} {_PERIOD}")

    def freeze(self, *, wait: bool = True) -> None:
        """Returns when all processes stand still; without `wait` when they are told to, which never blocks."""
        self._freezer(frozen=True, wait=wait)

    def thaw(self, *, wait: bool = True) -> None:
        self._freezer(frozen=False, wait=wait)

    @property
    def memory_peak(self) -> int:
        if self._peak is None:
            name = "memory.max_usage_in_bytes" if self._version == "v1" else "memory.peak"
            self._peak = os.open(self._folders["memory"] / name, os.O_RDONLY | os.O_CLOEXEC)
        return int(os.pread(self._peak, 64, 0))

    @property
    def memory_now(self) -> int:
        return int(self._read("memory", "memory.usage_in_bytes" if self._version == "v1" else "memory.current"))

    @property
    def cached_files(self) -> int:
        """Bytes of files that were read or written and need not stay in memory. What lies in a tmpfs isn't among them."""
        facts = dict(line.split() for line in self._read("memory", "memory.stat").splitlines())
        return int(facts.get("inactive_file", 0)) + int(facts.get("active_file", 0))

    def members(self) -> list[int]:
        """Processes in it, as this machine numbers them."""
        return [int(pid) for pid in self._read("memory", "cgroup.procs").split()]

    @property
    def oom_kills(self) -> int:
        name = "memory.oom_control" if self._version == "v1" else "memory.events"
        facts = dict(line.split() for line in self._read("memory", name).splitlines())
        return int(facts.get("oom_kill", 0))

    @property
    def cpu_usage(self) -> int:
        """Nanoseconds."""
        if self._version == "v1":
            return int(self._read("cpuacct", "cpuacct.usage"))
        facts = dict(line.split() for line in self._read("cpu", "cpu.stat").splitlines())
        return int(facts["usage_usec"]) * 1_000

    def kill(self) -> None:
        """SIGKILL to everything in the group, thawed first."""
        _kill(set(self._folders.values()))

    def remove(self) -> None:
        """Removes the group; waits up to two seconds for its last process to be gone."""
        if self._peak is not None:
            os.close(self._peak)
            self._peak = None
        for path in dict.fromkeys(self._folders.values()):
            _remove(path)

    def _freezer(self, *, frozen: bool, wait: bool) -> None:
        if self._version == "v2":
            self._write("freezer", "cgroup.freeze", "1" if frozen else "0")
            if wait:
                _await(lambda: f"frozen {int(frozen)}" in self._read("freezer", "cgroup.events"), "freeze")
        elif self._version == "v1":
            state = "FROZEN" if frozen else "THAWED"
            self._write("freezer", "freezer.state", state)
            if wait:
                _await(lambda: self._read("freezer", "freezer.state").strip() == state, "freeze")

    def _write(self, controller: str, name: str, text: str) -> None:
        path = self._folders[controller] / name
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def _read(self, controller: str, name: str) -> str:
        descriptor = os.open(f"{self._folders[controller]}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 65_536).decode("ascii")
        finally:
            os.close(descriptor)


def find_hierarchies(membership: str, mounts: str) -> Hierarchies:
    """From the text of /proc/self/cgroup and /proc/self/mounts. v1 wins where it has the controllers (hybrid hosts)."""
    own: dict[str, str] = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller] = path
    unified: Path | None = None
    folders: dict[str, Path] = {}
    for line in mounts.splitlines():
        _, where, kind, options, *_ = line.split(" ")
        if kind == "cgroup2":
            unified = Path(where)
        elif kind == "cgroup":
            for controller in set(options.split(",")) & set(_V1) & own.keys():
                folders[controller] = Path(where) / own[controller].lstrip("/")
    if len(folders) == len(_V1):
        return Hierarchies("v1", folders)
    if unified and not folders:
        # groups with processes can't have limited children: the top of what is mounted here is the place
        return Hierarchies("v2", dict.fromkeys(("memory", "cpu", "pids", "freezer"), unified))
    lacking = ", ".join(sorted(set(_V1) - folders.keys()))
    return Hierarchies("none", {}, f"no cgroup v2, and v1 lacks {lacking}")


def sweep(hierarchies: Hierarchies) -> list[str]:
    """Ends and removes what owners that are gone left; returns their names."""
    gone: dict[str, set[Path]] = {}
    for folder in set(hierarchies.folders.values()):
        for path in folder.glob(f"{PREFIX}*"):
            if is_left(path.name):
                with contextlib.suppress(OSError):  # another process sweeps as well
                    gone.setdefault(path.name, set()).update(entry for entry in path.iterdir() if entry.is_dir())
                gone[path.name].add(path)
    for paths in gone.values():
        _kill(paths)
        for path in sorted(paths, key=lambda path: -len(path.parts)):
            _remove(path)
    return sorted(gone)


def _kill(paths: set[Path]) -> None:
    for path in paths:
        _tell(path / "freezer.state", "THAWED")
    for path in paths:
        if _tell(path / "cgroup.kill", "1"):
            continue
        with contextlib.suppress(OSError):  # removed meanwhile: ENOENT, or ENODEV once it was open
            for pid in (path / "cgroup.procs").read_text("ascii").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)


def _tell(file: Path, text: str) -> bool:
    """False where there is no such file, or its group went away meanwhile."""
    try:
        descriptor = os.open(file, os.O_WRONLY)
    except FileNotFoundError:
        return False
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return False
    finally:
        os.close(descriptor)
    return True


def _remove(path: Path) -> None:
    def removed() -> bool:
        try:
            path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    _await(removed, f"remove {path}")


def _await(done: object, what: str) -> None:
    """Until done() is true; the kernel needs a moment for these."""
    assert callable(done)
    deadline = time.monotonic() + 2
    while not done():
        if time.monotonic() > deadline:
            raise SandboxError(f"the kernel did not {what} within 2 s", hint="look for processes stuck in D state")
        time.sleep(0.0005)
