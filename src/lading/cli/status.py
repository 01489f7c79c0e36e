"""`lading status`: what of the project runs where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lading.cli.deployment import load_project, open_accounts, place_options
from lading.cli.text import table

if TYPE_CHECKING:
    from lading.deploy.status import FunctionStatus


@click.command(name="status")
@click.argument("path", type=click.Path(path_type=Path), default=Path())
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(path: Path, **given: Any) -> None:
    """Show the project's functions on AWS: state, versions, sizes, errors of the last 24 hours."""
    from lading.deploy.status import read_status

    project = load_project({**given, "path": path, "names": ()})
    found = [one for account in open_accounts(project, given) for one in read_status(project, account)]
    if given["as_json"]:
        click.echo(json.dumps([one.as_dict() for one in found], indent=2))
        return
    print_status(found)


def print_status(found: list[FunctionStatus]) -> None:
    several = len({one.account for one in found}) > 1
    where = ("account", "region") if several else ("region",)
    headings = (
        "function",
        *where,
        "state",
        "runtime",
        "memory",
        "code",
        "changed",
        "invokes/24 h",
        "errors",
        "aliases",
    )
    rows = []
    for one in found:
        place = (one.account, one.region) if several else (one.region,)
        invokes, errors = ("-" if count is None else str(count) for count in (one.invocations, one.errors))
        memory = f"{one.memory} MB" if one.memory else ""
        size = f"{one.code_size / 1e6:.1f} MB" if one.code_size else ""
        changed, aliases = one.modified[:16].replace("T", " "), "; ".join(one.aliases)
        rows.append((one.name, *place, one.state, one.runtime, memory, size, changed, invokes, errors, aliases))
    click.echo("\n".join(table(headings, rows)))
    for one in found:
        if one.last_error:
            click.echo(f"{one.name}: {one.last_error}")
