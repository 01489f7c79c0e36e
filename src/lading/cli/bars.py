"""The bars that a terminal shows. Loaded at the first task only, for rich takes its time."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text


class Measured(ProgressColumn):
    """Another column, for tasks whose amount is known; blank for the others."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self._column = column

    def render(self, task: Task) -> RenderableType:
        return self._column.render(task) if task.total is not None else Text()


def make_bars() -> Progress:
    """On stderr, gone when the work is done."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        Measured(BarColumn()),
        Measured(DownloadColumn()),
        console=Console(stderr=True),
        transient=True,
    )
