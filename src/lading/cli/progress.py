"""Progress on a terminal: bars while something is downloaded or built, nothing when stderr is not a terminal."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING

import click

from lading.model.progress import Silent

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class TerminalProgress:
    """The `Progress` protocol as rich's bars on stderr, made at the first task: a build with nothing to do never loads them."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> TerminalProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def start(self, label: str, total: int | None = None) -> int:
        with self._lock:
            if self._bars is None:
                from lading.cli.bars import make_bars

                self._bars = make_bars()
                self._bars.start()
        return int(self._bars.add_task(label, total=total))

    def advance(self, task: int, amount: int = 1) -> None:
        if self._bars is not None:
            self._bars.update(_task_id(task), advance=amount)

    def finish(self, task: int) -> None:
        if self._bars is not None:
            self._bars.remove_task(_task_id(task))

    def note(self, message: str) -> None:
        if self._bars is not None:
            self._bars.console.print(f"note: {message}", markup=False, highlight=False)
        else:
            click.echo(f"note: {message}", err=True)


class NotesOnly(Silent):
    """No bars: notes as lines on stderr."""

    def __enter__(self) -> NotesOnly:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def note(self, message: str) -> None:
        click.echo(f"note: {message}", err=True)


def choose_progress() -> TerminalProgress | NotesOnly:
    """Bars for a person, lines for a log."""
    return TerminalProgress() if sys.stderr.isatty() else NotesOnly()


def _task_id(task: int) -> TaskID:
    from rich.progress import TaskID as Identifier

    return Identifier(task)
