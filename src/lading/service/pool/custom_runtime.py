"""OS-only runtimes: an executable `bootstrap` of the function or a layer talks to the Runtime API itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lading.model.target import Architecture, Target, find_target
from lading.sandbox.spec import ProcessEnded, SandboxSpec
from lading.service.pool.faults import Fault

OS_ONLY = ("provided.al2023", "provided.al2")
BOOTSTRAPS = ("/var/task/bootstrap", "/opt/bootstrap")
"""Where Lambda looks, in order (Lambda custom runtimes, "Building a custom runtime")."""
_NOT_RUNNABLE = (126, 127)


@dataclass(frozen=True)
class CustomRuntime:
    """What stands in the place of a target where there is no interpreter to choose."""

    name: str
    architecture: Architecture

    def __str__(self) -> str:
        return f"{self.name} on {self.architecture}"


def find_any_target(runtime: str, architecture: str) -> Target | CustomRuntime:
    """As `find_target`, OS-only runtimes too. Raises ConfigError for a name that is neither."""
    if runtime in OS_ONLY:
        return CustomRuntime(runtime, Architecture(architecture))
    return find_target(runtime, architecture)


def find_entry(code: Path, layers: tuple[Path, ...]) -> tuple[str, ...]:
    """The command of the runtime process. Where there is none it is the first place, and its start will fail as on AWS."""
    if not (code / "bootstrap").is_file() and any((layer / "bootstrap").is_file() for layer in layers):
        return (BOOTSTRAPS[1],)
    return (BOOTSTRAPS[0],)


def judge_entry(spec: SandboxSpec, ended: ProcessEnded) -> Fault | None:
    """Why a bootstrap could not be started, in AWS's words; None where it ran and ended by itself."""
    if spec.code is None or not spec.entry or spec.entry[0] not in BOOTSTRAPS or ended.exit_code not in _NOT_RUNNABLE:
        return None
    folders = (spec.code,) if spec.entry[0] == BOOTSTRAPS[0] else spec.layers[::-1]
    path = next((folder / "bootstrap" for folder in folders if (folder / "bootstrap").is_file()), None)
    if path is None:
        return _invalid(f"Couldn't find valid bootstrap(s): [{' '.join(BOOTSTRAPS)}]")
    if not path.stat().st_mode & 0o001:
        return _invalid(f"fork/exec {spec.entry[0]}: permission denied")
    if ended.exit_code == 126 and not _says_how_to_run(path):
        return _invalid(f"fork/exec {spec.entry[0]}: exec format error")
    return None


def _says_how_to_run(path: Path) -> bool:
    """A script by its first line; anything else that wouldn't start is of another machine or no program."""
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def _invalid(message: str) -> Fault:
    return Fault("Runtime.InvalidEntrypoint", message)
