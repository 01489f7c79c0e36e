"""A command that goes on, followed line by line: a reader thread per stream, so that waiting can end in time."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO


class Following:
    """`lading …` under way. Leaving the context kills it, if it is still there."""

    def __init__(self, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.out, self.err = (self._lines(stream) for stream in (self.process.stdout, self.process.stderr))
        self.seen: list[str] = []

    def __enter__(self) -> Following:
        return self

    def __repr__(self) -> str:
        return f"<Following {self.process.args}: {''.join(self.seen)}>"

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def said(self, text: str, seconds: float = 120) -> str:
        """Wait until a line of the error stream has the text."""
        return self._wait(self.err, text, seconds)

    def printed(self, text: str = "", seconds: float = 120) -> str:
        """Wait until a line of the output has the text; any line where it is empty."""
        return self._wait(self.out, text, seconds)

    def interrupt(self) -> int:
        """^C: its exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        while (line := self.err.get(timeout=10)) is not None:
            self.seen.append(line)
        return code

    def _wait(self, lines: queue.Queue[str | None], text: str, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while True:
            line = lines.get(timeout=max(0.1, deadline - time.monotonic()))
            assert line is not None, f"it ended without saying {text!r}: {self.seen}"
            self.seen.append(line)
            if text in line:
                return line.rstrip("\n")

    def _lines(self, stream: IO[str] | None) -> queue.Queue[str | None]:
        assert stream is not None
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            for line in stream:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        return lines
