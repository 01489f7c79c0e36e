"""The installed command, run as a user runs it, on projects written for each test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LADING = Path(sys.executable).with_name("lading")


@dataclass(frozen=True)
class Ran:
    """What a command said: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Command:
    """`lading` with a cache folder, run in a project's folder."""

    cache: Path

    def __call__(
        self, *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, code: int | None = 0
    ) -> Ran:
        done = subprocess.run(
            [LADING, *map(str, arguments)],
            cwd=cwd,
            env=self.environment(env),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
            check=False,
        )
        ran = Ran(done.returncode, done.stdout, done.stderr)
        assert code is None or ran.code == code, f"exit {ran.code}, not {code}\n{ran.out}\n{ran.err}"
        return ran

    def build_killed_after(self, seconds: float, cwd: Path) -> None:
        """`lading build`, ended with all its children when it takes longer."""
        process = subprocess.Popen(
            [LADING, "build"],
            cwd=cwd,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**os.environ, "LADING_CACHE_DIR": str(self.cache), "NO_COLOR": "1", **(extra or {})}

    def with_cache(self, cache: Path) -> Command:
        return Command(cache)


@pytest.fixture(scope="session")
def lading() -> Command:
    """With a cache kept between test runs, so that packages are downloaded once."""
    return Command(ROOT / ".lading" / "test-cache")


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(name, {"path": "text"})`: a project folder with those files."""

    def write_files(name: str = "project", files: Mapping[str, str] | None = None) -> Path:
        folder = tmp_path / name
        for path, text in (files or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(textwrap.dedent(text).lstrip("\n"))
        return folder

    return write_files


@pytest.fixture(scope="session")
def interpreters() -> Mapping[str, Path]:
    """Interpreters on this machine by version ("3.13" → its executable)."""
    from lading.model.target import runtimes
    from lading.resolve.interpreters import find_interpreter
    from lading.store import open_store

    actions = open_store(ROOT / ".lading" / "test-cache").actions
    found = {}
    for runtime in runtimes().values():
        interpreter = find_interpreter(runtime.python, actions)
        if interpreter is not None:
            found[runtime.python_version] = Path(interpreter.path)
    return found


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a service of the module's own, without a state; a module that wants another has its own `url`."""
    from serve_support import service

    with service() as address:
        yield address


@pytest.fixture(scope="module")
def api(url: str) -> Any:
    """Lambda's API there."""
    from serve_support import client

    return client(url)
