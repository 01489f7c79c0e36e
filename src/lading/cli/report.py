"""How a build reads on a terminal: one table, then findings by severity, then what can be left out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lading.cli.text import count, seconds, size, table
from lading.model.finding import Finding, Severity

if TYPE_CHECKING:
    from lading.build.run import Report
    from lading.model.artifact import Artifact

COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.ADVICE: "cyan"}
HEADINGS = ("artifact", "size", "unzipped", "saved", "files", "")


def print_report(report: Report, *, verbose: bool) -> None:
    """The table to stdout; findings to stderr."""
    rows = [artifact_row(artifact) for artifact in report.artifacts]
    for line in table(HEADINGS, rows):
        click.echo(line)
    for artifact in report.artifacts:
        print_findings(artifact.manifest.name, artifact.findings, verbose=verbose)
        print_left_out(artifact, verbose=verbose)
    if report.proposal:
        click.echo(report.proposal)
    if verbose:
        for step, time in report.seconds.items():
            click.echo(f"{step:>12}  {seconds(time)}", err=True)
    click.echo(summary(report), err=True)


def artifact_row(artifact: Artifact) -> tuple[str, ...]:
    manifest = artifact.manifest
    return (
        relative(artifact.path),
        size(manifest.size),
        size(manifest.unzipped),
        size(artifact.saved) if artifact.saved else "-",
        str(manifest.files),
        artifact.reason,
    )


def relative(path: Path) -> str:
    """The path as seen from here, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def print_findings(name: str, findings: Iterable[Finding], *, verbose: bool) -> None:
    """Errors and warnings always; advice when asked."""
    for finding in findings:
        if finding.severity is Severity.ADVICE and not verbose:
            continue
        label = click.style(finding.severity.value, fg=COLOURS[finding.severity], bold=True)
        where = f" {finding.file}:" if finding.file else ""
        click.echo(f"{label}[{finding.code}] {name}:{where} {finding.message}", err=True)
        if finding.fix:
            click.echo(f"  {click.style('fix', fg='cyan')}: {finding.fix}", err=True)


def print_left_out(artifact: Artifact, *, verbose: bool) -> None:
    manifest = artifact.manifest
    if manifest.bytecode_left_out:
        names = ", ".join(manifest.bytecode_left_out)
        click.echo(f"note: {manifest.name}: the 250 MB limit left no room for the bytecode of {names}", err=True)
    if verbose:
        for entry in manifest.left_out:
            click.echo(
                f"note: {manifest.name}: left out {entry.name} {entry.version} ({entry.reason}): {size(entry.size)}",
                err=True,
            )


def summary(report: Report) -> str:
    built = sum(artifact.built for artifact in report.artifacts)
    total = seconds(report.seconds.get("total", 0.0))
    failed = sum(1 for artifact in report.artifacts if artifact.failed)
    if failed:
        return f"{count(failed, 'artifact')} would fail on Lambda and {'was' if failed == 1 else 'were'} not written ({total})"
    if not built:
        return f"nothing to do: {count(len(report.artifacts), 'artifact')} up to date ({total})"
    return f"built {count(built, 'artifact')} in {total}"
