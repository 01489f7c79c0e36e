"""Finds a Python of the target's version on this machine, for building only. Never downloads one."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from lading.resolve.uv import run_uv


@functools.cache
def find_interpreter(version: str) -> str | None:
    """Path of a CPython of that version ("3.13"): as uv finds it, else the newest of pyenv's."""
    result = run_uv(
        ["python", "find", "--no-project", "--no-python-downloads", f"cpython@{version}"], directory=Path.cwd()
    )
    if result.returncode == 0:
        return result.stdout.strip()
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = sorted(root.glob(f"versions/{version}.*/bin/python{version}"), key=_patch)
    return str(found[-1]) if found else None


def _patch(path: Path) -> tuple[int, str]:
    patch = path.parents[1].name.split(".")[2]
    return (int(patch), "") if patch.isdigit() else (-1, patch)
