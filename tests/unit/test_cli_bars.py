"""What a terminal's bars say of tasks with and without a known amount."""

from __future__ import annotations

import io

from rich.console import Console

from lading.cli.bars import make_bars


def test_only_a_task_with_an_amount_shows_one() -> None:
    bars = make_bars()
    bars.add_task("resolve", total=None)
    bars.add_task("numpy", total=2_000_000)
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    console.print(bars.get_renderable())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    resolve, numpy = [line for line in text.splitlines() if line.strip()]
    assert "resolve" in resolve and "bytes" not in resolve and "━" not in resolve
    assert "numpy" in numpy and "2.0 MB" in numpy
