"""The table and the picture of `lading invoke --count`: latencies, memory, cost at AWS's price, a timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lading.model.target import Architecture

if TYPE_CHECKING:
    from lading.service.pool.function import Outcome
    from lading.service.pool.local import LocalFunction

PRICE_GB_SECOND = {Architecture.X86_64: 0.0000166667, Architecture.ARM64: 0.0000133334}
PRICE_REQUEST = 0.20 / 1_000_000
"""US dollars, us-east-1, first tier (AWS Lambda pricing, 2026)."""
WIDTH = 60
ROWS = 20


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least that share doesn't exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)
    return ordered[max(0, int(rank) - 1)]


def beginning(outcome: Outcome) -> float:
    """Milliseconds of the init or restore before it."""
    return (outcome.init or 0.0) + (outcome.restore or 0.0)


def cost_per_million(outcomes: Sequence[Outcome], memory: int, architecture: Architecture) -> float:
    """Dollars for a million invokes like these, billed durations as measured here."""
    billed = sum(outcome.billed for outcome in outcomes) / len(outcomes) / 1000
    return (billed * memory / 1024 * PRICE_GB_SECOND[architecture] + PRICE_REQUEST) * 1_000_000


def print_table(outcomes: Sequence[Outcome], function: LocalFunction, seconds: float) -> None:
    """All of it, on stdout."""
    cold = [outcome for outcome in outcomes if outcome.cold]
    warm = [outcome for outcome in outcomes if not outcome.cold]
    click.echo(f"{'':<18}{'count':>8}{'p50':>12}{'p90':>12}{'p99':>12}")
    _row("cold, init+run", [outcome.duration + beginning(outcome) for outcome in cold])
    restored = [outcome.restore for outcome in cold if outcome.restore is not None]
    if restored:
        _row("cold, restore", restored)
    else:
        _row("cold, init", [outcome.init for outcome in cold if outcome.init is not None])
    _row("warm, run", [outcome.duration for outcome in warm])
    failed = [outcome for outcome in outcomes if outcome.answer.error_type]
    memory = max(outcome.memory for outcome in outcomes)
    price = cost_per_million(outcomes, function.memory, function.target.architecture)
    click.echo("")
    click.echo(f"invokes       {len(outcomes)} in {seconds:.2f} s ({len(outcomes) / seconds:.0f}/s)")
    click.echo(f"environments  {len(cold)}")
    click.echo(f"failed        {len(failed)}")
    click.echo(f"memory        {memory} of {function.memory} MB")
    click.echo(f"cost          ${price:.2f} per million (us-east-1, {function.target.architecture}, as fast as here)")
    click.echo("")
    for line in timeline(outcomes):
        click.echo(line)


def _row(label: str, values: Sequence[float]) -> None:
    if not values:
        click.echo(f"{label:<18}{0:>8}{'-':>12}{'-':>12}{'-':>12}")
        return
    cells = "".join(f"{percentile(values, share):>9.2f} ms" for share in (0.5, 0.9, 0.99))
    click.echo(f"{label:<18}{len(values):>8}{cells}")


def timeline(outcomes: Sequence[Outcome]) -> list[str]:
    """One row per environment: `#` where it ran, `o` where its first invoke (a cold start) lies, `.` where it waited."""
    begin = min(outcome.started_at - beginning(outcome) / 1000 for outcome in outcomes)
    span = max(max(outcome.ended_at for outcome in outcomes) - begin, 1e-6)
    rows: dict[str, list[str]] = {}
    for outcome in sorted(outcomes, key=lambda one: one.started_at):
        row = rows.setdefault(outcome.environment, [" "] * WIDTH)
        start = outcome.started_at - beginning(outcome) / 1000 if outcome.cold else outcome.started_at
        first = min(WIDTH - 1, int((start - begin) / span * WIDTH))
        last = min(WIDTH - 1, int((outcome.ended_at - begin) / span * WIDTH))
        for at in range(first, last + 1):
            row[at] = "o" if outcome.cold else "#" if row[at] != "o" else "o"
    lines = [f"{name[:8]} |{_fill(row)}|" for name, row in list(rows.items())[:ROWS]]
    if len(rows) > ROWS:
        lines.append(f"… and {len(rows) - ROWS} more environments")
    lines.append(f"{'':<9}0{f'{span:.2f} s':>{WIDTH}}   o cold start  # warm  . idle")
    return lines


def _fill(row: list[str]) -> str:
    text = "".join(row)
    used = text.strip()
    return text.replace(used, used.replace(" ", "."), 1) if used else text
