"""Finds an interpreter of exactly a target's minor version on this machine. Runs a candidate once, then remembers it by its stat.

Looks at: the one that runs lading, pyenv's versions, uv's managed ones, PATH. Downloads nothing.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lading.model.blobs import Actions

SECONDS = 20
"""How long a candidate may take to say what it is."""
_PROBE = """
import importlib.util, json, sys
print(json.dumps({"implementation": sys.implementation.name, "version": list(sys.version_info[:3]),
"release": sys.version_info[3], "tag": sys.implementation.cache_tag, "magic": importlib.util.MAGIC_NUMBER.hex()}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A CPython that was run and answered. `magic` is its bytecode's magic number in hex, `tag` as in "cpython-313"."""

    path: str
    version: str
    """"3.13.0"."""
    tag: str
    magic: str

    @property
    def python(self) -> tuple[int, int]:
        major, minor, _ = self.version.split(".")
        return int(major), int(minor)


def find_interpreter(python: tuple[int, int], actions: Actions) -> Interpreter | None:
    """The first candidate that is a released CPython of that minor version, or None."""
    for path in candidates(python):
        interpreter = _identify(path, actions)
        if interpreter is not None and interpreter.python == python:
            return interpreter
    return None


def candidates(python: tuple[int, int]) -> Iterator[Path]:
    """Files that may be such an interpreter, best first: newest patch release first within a folder of versions."""
    if sys.version_info[:2] == python and sys.executable:
        yield Path(sys.executable)
    version = "{}.{}".format(*python)
    for folder, pattern in _version_folders(version):
        for path in sorted(folder.glob(pattern), key=_patch, reverse=True):
            yield path / "bin" / f"python{version}"
    for name in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if name:
            yield Path(name, f"python{version}")


def _version_folders(version: str) -> Iterator[tuple[Path, str]]:
    pyenv = os.environ.get("PYENV_ROOT")
    yield (Path(pyenv) if pyenv else Path.home() / ".pyenv") / "versions", f"{version}.*"
    managed = os.environ.get("UV_PYTHON_INSTALL_DIR")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    yield Path(managed) if managed else data / "uv" / "python", f"cpython-{version}.*"


def _patch(path: Path) -> tuple[int, str]:
    number = path.name.removeprefix("cpython-").split("-")[0].split(".")[-1]
    return (int(number) if number.isdigit() else -1, path.name)


def _identify(path: Path, actions: Actions) -> Interpreter | None:
    """Ask the file what it is, once per path, size and times."""
    try:
        facts = path.stat()
    except OSError:
        return None
    key = f"{path}|{facts.st_size}|{facts.st_mtime_ns}|{facts.st_ino}|{facts.st_ctime_ns}"
    known = actions.get("interpreter", key)
    if known is not None:
        return Interpreter(**json.loads(known))
    found = _probe(path)
    if found is not None:
        actions.put("interpreter", key, json.dumps(asdict(found)).encode())
    return found


def _probe(path: Path) -> Interpreter | None:
    import subprocess

    try:
        finished = subprocess.run(
            [path, "-I", "-S", "-c", _PROBE], capture_output=True, timeout=SECONDS, check=True, stdin=subprocess.DEVNULL
        )
        facts = json.loads(finished.stdout)
        if facts["implementation"] != "cpython" or facts["release"] != "final":
            return None
        return Interpreter(str(path), ".".join(map(str, facts["version"])), facts["tag"], facts["magic"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None
