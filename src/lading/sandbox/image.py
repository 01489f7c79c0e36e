"""What an execution environment is when its root is an image's: folders, a process, and which client that process is.

Recognises AWS's Python client, so that a started one can be forked. Looks at the image's folders, changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lading.model.target import runtimes
from lading.sandbox.merged import Merged

ENTRYPOINT = "/lambda-entrypoint.sh"
"""Of AWS's base images; it wants the handler as its one argument."""
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH where an image says none; so recorded on Lambda (github.com/bruceadams/run-command-on-aws-lambda, demo)."""
_PYTHON = re.compile(r"python3(?:\.(\d+))?|python")
_OLDEST = 9


@dataclass(frozen=True)
class ImageClient:
    """AWS's Python client as an image has it. `path`: what its start makes of sys.path; empty: the interpreter's own."""

    interpreter: str
    handler: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageProcess:
    """What an image runs: ENTRYPOINT, CMD, WORKDIR and ENV, overrides applied."""

    entry: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    folder: str = "/"
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def command(self) -> tuple[str, ...]:
        return (*self.entry, *self.arguments)


class Mounted(Protocol):
    """A root that its owner has mounted, perhaps after the launcher took its view of the mounts. Safe between threads."""

    @property
    def generation(self) -> int:
        """Changes when the root had to be mounted anew: what stands on an older one is broken. Raises SandboxError."""
        ...

    def tree(self) -> int:
        """A detached copy of the mount, as a descriptor that the caller closes. Raises SandboxError."""
        ...


@dataclass(frozen=True)
class ImageRoot:
    """An image's file system and what runs in it. `folders` are merged, the lowest first."""

    folders: tuple[Path, ...]
    process: ImageProcess
    client: ImageClient | None = None
    """Where the process is AWS's client: it can be forked."""
    mounted: Mounted | None = field(default=None, compare=False)
    """Where `folders` is one mount of the owner: environments are given copies of it, and don't look the folder up."""

    @property
    def view(self) -> Merged:
        return Merged(self.folders)


def image_environment(variables: Mapping[str, str], runtime_api: str) -> dict[str, str]:
    """What Lambda sets for images, the image's own ENV laid over it. _HANDLER is empty: the entry point knows it.

    Recorded on Lambda (as SEARCH_PATH).
    """
    return {
        "AWS_EXECUTION_ENV": "AWS_Lambda_Image",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": "/var/task",
        "PATH": SEARCH_PATH,
        "_HANDLER": "",
        **variables,
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
    }


def find_client(folders: tuple[Path, ...], process: ImageProcess) -> ImageClient | None:
    """The client that an image's command starts: `/lambda-entrypoint.sh HANDLER`, or `python -m awslambdaric HANDLER`."""
    view, command = Merged(folders), process.command
    if command[:1] == (ENTRYPOINT,) and len(command) == 2:
        return _of_base(view, command[1])
    if command[:1] == ("/usr/bin/env",):
        command = command[1:]
    if len(command) == 4 and command[1:3] == ("-m", "awslambdaric"):
        program = find_program(view, command[0], process)
        if program is not None and _is_python(view, program):
            return ImageClient(program, command[3])
    return None


def find_program(view: Merged, name: str, process: ImageProcess) -> str | None:
    """Where a command's program is, as a shell would find it."""
    if "/" in name:
        places = [name if name.startswith("/") else f"{process.folder}/{name}"]
    else:
        places = [f"{folder}/{name}" for folder in process.variables.get("PATH", SEARCH_PATH).split(":") if folder]
    return next((place for place in places if (found := view.follow(place)) is not None and found.is_file()), None)


def _of_base(view: Merged, handler: str) -> ImageClient | None:
    """AWS's base images: their interpreter is in /var/lang, client and start script in /var/runtime."""
    versions = [name for name in view.list("var/lang/bin") if (found := _PYTHON.fullmatch(name)) and found[1]]
    parts = ("var/runtime/bootstrap", "var/runtime/bootstrap.py", "var/runtime/awslambdaric/__main__.py")
    if len(versions) != 1 or versions[0] not in runtimes() or not all(view.follow(part) for part in parts):
        return None
    return ImageClient(f"/var/lang/bin/{versions[0]}", handler, runtimes()[versions[0]].search_path)


def _is_python(view: Merged, program: str) -> bool:
    """Whether a program is a CPython that our side of a fork runs on, by the name that its links end in."""
    name = view.resolve(program).rpartition("/")[2]
    found = _PYTHON.fullmatch(name)
    return found is not None and found[1] is not None and int(found[1]) >= _OLDEST
