"""Tables for people: on the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.harness.compare import Row, Table, Verdict, as_fraction


def amount(value: float, unit: str) -> str:
    """A value with its unit, in the size people read: 0.0123 s → "12.3 ms"."""
    if unit == "s" and value < 1:
        return f"{value * 1000:.1f} ms"
    return f"{value:.2f} {unit}" if unit != "MB" else f"{value:.1f} MB"


def spread(row: Row) -> str:
    """The range and the number of samples behind a median."""
    if len(row.samples) == 1:
        return "1 run"
    return f"{amount(min(row.samples), row.unit)} – {amount(max(row.samples), row.unit)}, {len(row.samples)} runs"


def verdict_line(verdict: Verdict) -> str:
    line = f"{verdict.text}: {verdict.shown or f'{verdict.value:.3g}'}"
    if verdict.limit is None:
        return line
    limit = (
        as_fraction(verdict.limit) if verdict.shown[:2] == "1/" or verdict.shown[-1:] == "×" else f"{verdict.limit:g}"
    )
    return f"{line} (promised: at most {limit}) {'kept' if verdict.kept else 'NOT KEPT'}"


def as_text(table: Table) -> Iterable[str]:
    width = max(len(row.name) for row in table.rows)
    yield ""
    yield table.title
    for row in table.rows:
        yield f"  {row.name:<{width}}  {amount(row.median, row.unit):>11}  ({spread(row)})"
        if row.command:
            yield f"  {'':<{width}}  $ {row.command}"
        if row.state:
            yield f"  {'':<{width}}  {row.state}"
    for verdict in table.verdicts:
        yield f"  → {verdict_line(verdict)}"
    for note in table.notes:
        yield f"  note: {note}"


def as_markdown(name: str, question: str, tables: Sequence[Table]) -> Iterable[str]:
    yield f"## {name}"
    yield ""
    yield question
    for table in tables:
        yield from [
            "",
            f"**{table.title}**",
            "",
            "| | median | spread | before each run | command |",
            "|---|---|---|---|---|",
        ]
        for row in table.rows:
            command = f"`{row.command}`" if row.command else ""
            yield f"| {row.name} | {amount(row.median, row.unit)} | {spread(row)} | {row.state} | {command} |"
        yield ""
        for verdict in table.verdicts:
            yield f"- {verdict_line(verdict)}"
        for note in table.notes:
            yield f"- {note}"
    yield ""
