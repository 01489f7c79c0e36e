"""Sides that do the same work, run in turns (A B A B …), and the table they make."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness.process import Cost, run


@dataclass(frozen=True)
class Side:
    """One way to do the work. `prepare` brings the files into the state that `state` describes; it isn't timed."""

    name: str
    commands: Sequence[Sequence[str]]
    folder: Path
    state: str = ""
    """What is cached and what is not before each run, in words."""
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] | None = None
    rounds: int | None = None
    """Fewer rounds for a side that takes long."""


@dataclass(frozen=True)
class Row:
    """A line of a table: the samples of one side, or of one size of work."""

    name: str
    samples: Sequence[float]
    unit: str = "s"
    state: str = ""
    command: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


@dataclass(frozen=True)
class Verdict:
    """A ratio or a value, and the limit it is promised to keep (None: for information)."""

    text: str
    value: float
    limit: float | None = None
    shown: str = ""
    """The value as people read it ("1/34"); empty: the number itself."""

    @property
    def kept(self) -> bool:
        return self.limit is None or self.value <= self.limit


@dataclass(frozen=True)
class Table:
    """What one comparison found."""

    title: str
    rows: Sequence[Row]
    verdicts: Sequence[Verdict] = ()
    notes: Sequence[str] = ()


def interleave(sides: Sequence[Side], rounds: int) -> dict[str, list[Cost]]:
    """Cost of every run by side name. One untimed turn of each comes first, so that all start equally warm."""
    costs: dict[str, list[Cost]] = {side.name: [] for side in sides}
    for number in range(rounds + 1):
        for side in sides:
            if number > (side.rounds or rounds):
                continue
            cost = run_side(side)
            if number:
                costs[side.name].append(cost)
    return costs


def run_side(side: Side) -> Cost:
    """All commands of a side, one after the other, as one cost."""
    if side.prepare:
        side.prepare()
    parts = [run(command, side.folder, side.environment) for command in side.commands]
    return Cost(wall=sum(part.wall for part in parts), cpu=sum(part.cpu for part in parts))


def wall_row(side: Side, costs: Mapping[str, Sequence[Cost]]) -> Row:
    """The wall times of a side, with its command lines."""
    return Row(
        side.name, [cost.wall for cost in costs[side.name]], state=side.state, command=command_line(side.commands)
    )


def command_line(commands: Sequence[Sequence[str]]) -> str:
    """As one would type it: absolute paths by their last part."""
    return " && ".join(
        shlex.join(Path(word).name if word.startswith("/") else word for word in command) for command in commands
    )


def ratio(ours: Row, theirs: Row, limit: float | None = None) -> Verdict:
    """Ours to theirs, by medians."""
    value = ours.median / theirs.median
    return Verdict(f"{ours.name} : {theirs.name}", value, limit, shown=as_fraction(value))


def as_fraction(value: float) -> str:
    """0.031 → "1/32"; 1.4 → "1.40×"."""
    return f"1/{1 / value:.1f}" if value < 0.75 else f"{value:.2f}×"
