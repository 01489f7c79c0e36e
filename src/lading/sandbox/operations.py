"""The steps into a sandbox, as values: printed, compared, joined and tested without entering one.

`inside/root.py` carries them out, by the same names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from lading.sandbox.inside import kernel

NAMESPACES = {
    "mount": kernel.CLONE_NEWNS,
    "uts": kernel.CLONE_NEWUTS,
    "ipc": kernel.CLONE_NEWIPC,
    "net": kernel.CLONE_NEWNET,
    "user": kernel.CLONE_NEWUSER,
}


@dataclass(frozen=True)
class Operation:
    """One step. Its class name in lower case is the name `inside` knows it by; its fields are the arguments."""

    def encode(self) -> list[object]:
        values = [getattr(self, one.name) for one in fields(self)]
        return [type(self).__name__.lower(), *map(_plain, values)]

    def describe(self) -> str:
        return " ".join(map(str, self.encode()))


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class Unshare(Operation):
    """Leaves the host's namespaces of these kinds (names of NAMESPACES)."""

    kinds: tuple[str, ...]

    def encode(self) -> list[object]:
        flags = 0
        for kind in self.kinds:
            flags |= NAMESPACES[kind]
        return ["unshare", flags]

    def describe(self) -> str:
        return f"unshare {' '.join(self.kinds)}"


@dataclass(frozen=True)
class Stage(Operation):
    """Starts an empty root beside the host's."""


@dataclass(frozen=True)
class Enter(Operation):
    """Leaves the host's tree: only the new root remains."""


@dataclass(frozen=True)
class Seal(Operation):
    """A mount itself, not what is mounted in it, becomes read-only: the root, once it is entered."""

    path: str = "/"


@dataclass(frozen=True)
class Directory(Operation):
    path: str
    mode: int = 0o755


@dataclass(frozen=True)
class Symlink(Operation):
    target: str
    path: str


@dataclass(frozen=True)
class File(Operation):
    path: str
    text: str

    def describe(self) -> str:
        return f"file {self.path} ({len(self.text)} characters)"


@dataclass(frozen=True)
class Bind(Operation):
    """The host's file or folder `source` at `path`, which exists: read-only, without set-uid."""

    source: Path
    path: str


@dataclass(frozen=True)
class Device(Operation):
    """The host's device at the same path."""

    path: str


@dataclass(frozen=True)
class Overlay(Operation):
    """Folders merged read-only, a later one winning, with small files (name → text) above them all."""

    path: str
    sources: tuple[Path, ...]
    files: Mapping[str, str] = field(default_factory=dict, hash=False)

    def describe(self) -> str:
        return f"overlay {self.path} of {' '.join(map(str, self.sources))} + {', '.join(self.files) or 'nothing'}"


@dataclass(frozen=True)
class Root(Operation):
    """The new root itself: folders merged, a later one winning, with small files (path → text) and empty folders above."""

    sources: tuple[Path, ...]
    files: Mapping[str, str] = field(default_factory=dict, hash=False)
    folders: tuple[str, ...] = ()
    tree: str = ""
    """In place of sources: a mount tree that the owner sends along, by its name."""

    def describe(self) -> str:
        if self.tree:
            return f"root of the tree {self.tree} + {', '.join((*self.folders, *self.files)) or 'nothing'}"
        return f"root of {' '.join(map(str, self.sources))} + {', '.join((*self.folders, *self.files)) or 'nothing'}"


@dataclass(frozen=True)
class Attach(Operation):
    """A mount tree that the owner sends along, by its name."""

    tree: str
    path: str


@dataclass(frozen=True)
class Tmpfs(Operation):
    path: str
    options: str


@dataclass(frozen=True)
class Proc(Operation):
    """/proc of the environment's own pid namespace."""


@dataclass(frozen=True)
class Mask(Operation):
    """/dev/null over a file, where it exists."""

    path: str


@dataclass(frozen=True)
class Readonly(Operation):
    """A folder that stays visible but can't be written."""

    path: str


@dataclass(frozen=True)
class Hide(Operation):
    """An empty folder over one, where it exists."""

    path: str


@dataclass(frozen=True)
class Hostname(Operation):
    name: str


@dataclass(frozen=True)
class Loopback(Operation):
    """Brings up lo, with one more address."""

    address: str


@dataclass(frozen=True)
class Link(Operation):
    """An eth0 on a router: the descriptor sent along as `tree` is the router's network namespace."""

    tree: str
    name: str
    address: str
    gateway: str


@dataclass(frozen=True)
class Uplink(Operation):
    """Brings up an eth0 that hangs at the router already."""

    address: str
    gateway: str


def join(*parts: Iterable[Operation]) -> tuple[Operation, ...]:
    """One list of several: namespaces are left once, at the start, all in one call, and one /proc is enough."""
    kinds: dict[str, None] = {}
    rest: list[Operation] = []
    for operation in (operation for part in parts for operation in part):
        if isinstance(operation, Unshare):
            kinds.update(dict.fromkeys(operation.kinds))
        elif not isinstance(operation, Proc) or operation not in rest:
            rest.append(operation)
    return (Unshare(tuple(kinds)), *rest) if kinds else tuple(rest)


def describe(operations: Iterable[Operation]) -> str:
    """One line each."""
    return "\n".join(operation.describe() for operation in operations)
