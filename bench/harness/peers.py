"""The tools lading is measured against, each in a virtual environment of its own, kept in the user's cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.harness.process import output_of

PYPI_PEERS = {"sam": "aws-sam-cli", "ministack": "ministack", "moto_server": "moto[server]"}
"""Command → the distribution that brings it."""


class PeerMissingError(Exception):
    """A peer can't be had on this machine; the message says which and what to do."""


def uv() -> str:
    """The uv that lading itself uses: the one in its environment, else the one on PATH."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise PeerMissingError("uv is not installed: run this with `make bench`")
    return found


def peer(command: str) -> str:
    """Path of a peer's command; installed from PyPI at first use. Raises PeerMissingError."""
    folder = cache_folder() / command
    path = folder / "bin" / command
    if not path.exists():
        package = PYPI_PEERS[command]
        print(f"installing {package} into {folder}", file=sys.stderr)
        try:
            subprocess.run([uv(), "venv", "--quiet", "--clear", "--no-project", str(folder)], check=True)
            subprocess.run([uv(), "pip", "install", "--quiet", "--python", str(folder), package], check=True)
        except subprocess.CalledProcessError as error:
            raise PeerMissingError(f"{package} could not be installed ({error})") from error
    return str(path)


def system_command(name: str) -> str:
    """Path of a command of the operating system. Raises PeerMissingError."""
    found = shutil.which(name)
    if not found:
        raise PeerMissingError(f"{name} is not installed: apt-get install {name}")
    return found


def interpreter(version: str) -> Path:
    """A Python of this version ("3.13"): as uv finds it, else one of pyenv's. Raises PeerMissingError."""
    settings = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    result = subprocess.run(
        [uv(), "python", "find", "--system", "--no-project", version],
        capture_output=True,
        text=True,
        env=settings,
        check=False,
    )
    if result.returncode == 0:
        return Path(result.stdout.strip())
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for path in sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True):
        return path
    raise PeerMissingError(f"Python {version} is not installed: uv python install {version}")


def cache_folder() -> Path:
    """Where peers stay between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lading-bench"


def versions(commands: dict[str, list[str]]) -> list[str]:
    """ "name: what it says of itself" for each."""
    return [f"{name}: {output_of(command)}" for name, command in commands.items()]
