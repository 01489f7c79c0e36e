"""Writes the reference of the command line from the commands themselves. `python -m lading.cli.reference FILE`.

May not hold a word about a command that the command doesn't say of itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from lading.cli.main import lading
from lading.errors import (
    AuditError,
    BuildError,
    ConfigError,
    DownloadError,
    LadingError,
    ResolveError,
    SandboxError,
    StoreError,
    UsageError,
)

HEAD = """\
# Command line

Written from the commands by `make docs`; a test keeps it so. Results go to stdout, talk and errors to stderr.
"""
KINDS = (
    LadingError,
    UsageError,
    ConfigError,
    ResolveError,
    BuildError,
    DownloadError,
    AuditError,
    StoreError,
    SandboxError,
)


def reference() -> str:
    """All of docs/reference/cli.md."""
    with click.Context(lading, info_name="lading") as context:
        sections = list(describe(lading, context))
    return "\n".join([HEAD, *sections, *exit_codes()])


def describe(command: click.Command, context: click.Context) -> Iterator[str]:
    """One section for a command, then those of its subcommands, as Markdown lines."""
    yield f"## `{context.command_path}`\n"
    yield f"```\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```\n"
    if command.help:
        yield f"{plain(command.help)}\n"
    rows = [row for option in command.get_params(context) if (row := described(option, context))]
    if rows:
        yield "| option | meaning |\n|---|---|"
        yield from (f"| `{cell(name)}` | {cell(meaning)} |" for name, meaning in rows)
        yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            with click.Context(child, info_name=name, parent=context) as below:
                yield from describe(child, below)


def described(parameter: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    """An option as `--help` tells of it; None for `--help` itself and for arguments, which the usage line names."""
    if isinstance(parameter, click.Argument) or "--help" in parameter.opts:
        return None
    return parameter.get_help_record(context)


def plain(text: str) -> str:
    """A help text without click's marks and indentation."""
    return "\n".join(line.strip() for line in text.replace("\b", "").split("\f")[0].strip().splitlines())


def cell(text: str) -> str:
    """Text that stays inside its table cell."""
    return " ".join(text.split()).replace("|", "\\|")


def exit_codes() -> Iterator[str]:
    """The exit codes, by the errors that have them."""
    yield "## Exit codes\n"
    yield "| code | when |\n|---|---|\n| 0 | it worked |"
    for kind in sorted(KINDS, key=lambda kind: kind.exit_code):
        if kind is not LadingError:
            yield f"| {kind.exit_code} | {cell(kind.__doc__ or '')} |"
    yield "| 1 | anything else |\n| 130 | interrupted |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference() + "\n", "utf-8")
