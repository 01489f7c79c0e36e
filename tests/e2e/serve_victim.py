"""Services to kill: a process that has everything imported forks each of them, so that a life costs tenths of a second of
processor time and not seconds. Run as a program it is that process; `Victims` is a test's side of it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Life:
    """A service that runs, until `kill`."""

    url: str
    pid: int

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Victims:
    """One `lading serve` after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def close(self) -> None:
        """Its end is theirs."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    @contextlib.contextmanager
    def served(self, *arguments: str) -> Iterator[Life]:
        """Until it is killed, or asked to end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(["serve", "--port", "0", *arguments]) + "\n")
        self._process.stdin.flush()
        said = self._said("forked ", "lading serve: ")  # whichever of the two processes says its own first
        life = Life(said["lading serve: "].split()[0], int(said["forked "]))
        try:
            yield life
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(life.pid, signal.SIGTERM)
            self._said("over")

    def _said(self, *beginnings: str) -> dict[str, str]:
        """The rest of the next lines that begin so, in any order."""
        assert self._process.stdout is not None
        found: dict[str, str] = {}
        for line in self._process.stdout:
            beginning = next((one for one in beginnings if line.startswith(one)), "")
            if beginning:
                found[beginning] = line.removeprefix(beginning).strip()
            if len(found) == len(beginnings):
                return found
            assert not line.startswith("over"), f"a service ended without {beginnings}"
        raise AssertionError(f"the process ended without {beginnings}: {self._process.poll()}")


PRELOADED = ("boto3", "httpx", "uvloop", "lading.service.embed", "lading.service.lazy_roots", "lading.cli.service_log")


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    from lading.cli.main import main as command
    from lading.service.contract.service import load_service

    for name in ("lambda", "logs", "ecr"):
        load_service(name)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os._exit(command(json.loads(line)))
        print("forked", pid, flush=True)
        os.waitpid(pid, 0)
        print("over", flush=True)


if __name__ == "__main__":
    main()
