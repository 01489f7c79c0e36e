"""What is decided before an execution environment is entered, and what a host can do. Values only: no I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from lading.errors import SandboxError
from lading.sandbox.image import ImageRoot

MEMORY = range(128, 10_241)
EPHEMERAL_STORAGE = range(512, 10_241)
MAXIMUM_LAYERS = 5
MEMORY_OF_ONE_CPU = 1_769
"""MB that buy one vCPU (AWS Lambda Developer Guide, "Configure Lambda function memory")."""
RUNTIME_API = ("169.254.100.1", 9001)
"""Address and port of the Runtime API inside every environment, as recorded on AWS."""
SERVICE_API = (RUNTIME_API[0], 4566)
"""Where an environment finds other AWS services, on hosts that serve them to it. AWS has nothing there."""
CREDENTIALS_API = ("127.0.0.1", 9001)
"""Where restored environments ask for credentials, as on AWS: SDKs trust plain HTTP on the loopback only."""


class Network(StrEnum):
    """What an environment reaches beyond its own Runtime API."""

    NONE = "none"
    OUTGOING = "outgoing"


class Isolation(StrEnum):
    """Which walls: all of them (needs root), those of a user namespace, or none (only when asked for)."""

    ROOT = "root"
    USER = "user"
    PROCESS = "process"


class ColdStart(StrEnum):
    """Fork a started client, or boot a fresh interpreter."""

    FORK = "fork"
    EXEC = "exec"


@dataclass(frozen=True)
class Debugger:
    """A debugger that starts with the runtime's interpreter, before AWS's client and the function's code."""

    folder: Path
    """Where the package debugpy is: laid over /var/runtime."""
    port: int
    """Of the environment's loopback, where it waits: see `Sandbox.connect`."""
    paths: tuple[tuple[str, str], ...] = ()
    """A folder of the host and where it is inside: breakpoints are set in the one and hit in the other."""


@dataclass(frozen=True)
class SandboxSpec:
    """One execution environment. Folders must be absolute and stay unchanged while the environment lives."""

    code: Path | None = None
    """The function's unpacked folder: /var/task, read-only. None with an image, which has its own."""
    interpreter: Path | None = None
    """Prefix of a CPython (the folder that holds bin/python3.X): /var/lang, read-only. None for custom runtimes."""
    client: Path | None = None
    """Folder with awslambdaric and the bundled SDK: /var/runtime, read-only. None for custom runtimes."""
    layers: tuple[Path, ...] = ()
    """Unpacked layers, merged into /opt in order: a later one wins."""
    runtime: str = "python3.13"
    handler: str = "lambda_function.lambda_handler"
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Laid over the walls' own variables (PATH, LANG, …; see `environment.base_environment`)."""
    memory: int = 128
    """MB, 128 to 10,240."""
    ephemeral_storage: int = 512
    """MB of /tmp, 512 to 10,240."""
    network: Network = Network.NONE
    isolation: Isolation = Isolation.ROOT
    cold_start: ColdStart = ColdStart.FORK
    debugger: Debugger | None = None
    template: bool = False
    """Its runtime process will be kept and restored (SnapStart): see `templates`."""
    entry: tuple[str, ...] = ()
    """Command of the runtime process. Empty: AWS's client in the interpreter. Custom runtimes: ("/var/task/bootstrap",)."""

    image: ImageRoot | None = None
    """The root, in place of code, layers, interpreter, client, handler and entry."""

    def __post_init__(self) -> None:
        if self.memory not in MEMORY:
            raise _outside("memory", self.memory, MEMORY)
        if self.ephemeral_storage not in EPHEMERAL_STORAGE:
            raise _outside("ephemeral storage", self.ephemeral_storage, EPHEMERAL_STORAGE)
        if len(self.layers) > MAXIMUM_LAYERS:
            raise SandboxError(f"{len(self.layers)} layers given", hint=f"Lambda allows {MAXIMUM_LAYERS} layers")
        for folder in self.folders:
            if not folder.is_absolute():
                raise SandboxError(f"{folder} is not an absolute path", hint="give the resolved path of the folder")
        if (self.code is None) is (self.image is None):
            raise SandboxError("an environment has either code or an image", hint="give one of them")
        if self.image is not None and not self.image.process.command:
            raise SandboxError("the image says nothing to run", hint="give it an ENTRYPOINT or a CMD")
        if self.image is None and not self.entry and (self.interpreter is None or self.client is None):
            raise SandboxError(
                f"runtime {self.runtime} has no command to run",
                hint="give an interpreter and a client, or the command of a custom runtime",
            )
        for name, value in self.environment.items():
            if not name or "=" in name or "\0" in name + value:
                raise SandboxError(f"environment variable {name!r} can't be set", hint="remove = and NUL from its name")

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders of the host that become part of it."""
        image = self.image.folders if self.image else ()
        return (*filter(None, (self.code, self.interpreter, self.client)), *self.layers, *image)


def _outside(what: str, value: int, allowed: range) -> SandboxError:
    return SandboxError(f"{what} of {value} MB", hint=f"choose {allowed.start} to {allowed.stop - 1} MB")


@dataclass(frozen=True)
class ProcessEnded:
    """A process that the sandbox started itself ("runtime", or an extension's name) is gone."""

    name: str
    exit_code: int | None
    """None where a signal ended it."""
    signal: int | None
    refused: str = ""
    """Why it could not be started at all: what the kernel said of its program, or of its folder ("chdir: …")."""


@dataclass(frozen=True)
class Capabilities:
    """What this host can do, found once. `missing` says, per thing that can't be had, why."""

    isolation: Isolation
    """The strongest that works."""
    cgroup: str
    """"v1", "v2" or "none": which hierarchy limits memory, CPU and processes."""
    freezer: bool
    overlay: bool
    outgoing: bool
    missing: Mapping[str, str] = field(default_factory=dict, hash=False)
