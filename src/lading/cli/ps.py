"""`lading ps`."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import Counter
from typing import Any

import click

from lading.cli.endpoint import ask, endpoint_option, lines
from lading.cli.text import table


@click.command(name="ps")
@endpoint_option
@click.option("-f", "--follow", is_flag=True, help="Go on with a line for each environment that changes its state.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON; with --follow the changes as JSON lines.")
def command(endpoint: str, *, follow: bool, as_json: bool) -> None:
    """Show the functions of a running `lading serve` and their execution environments, with their states."""
    begun = time.time()
    functions, environments = ask(endpoint, "/_lading/functions"), ask(endpoint, "/_lading/environments")
    if as_json:
        click.echo(json.dumps({"functions": functions, "environments": environments}, indent=None if follow else 2))
    else:
        show(functions, environments)
    if follow:
        for kind, data in lines(endpoint, "/_lading/events?since=0", follow=True):
            if kind == "EnvironmentChanged" and (change := json.loads(data))["time"] >= begun:
                click.echo(data if as_json else tell(change))


def show(functions: list[dict[str, Any]], environments: list[dict[str, Any]]) -> None:
    """Two tables."""
    states = Counter((live["function"], live["state"]) for live in environments)
    rows = []
    for one in functions:
        own = [f"{count} {state}" for (function, state), count in sorted(states.items()) if function == one["function"]]
        runtime, memory = one["runtime"] or "image", f"{one['memory']} MB"
        rows.append((place(one["function"]), one["state"], one["update"], runtime, memory, ", ".join(own) or "-"))
    click.echo("\n".join(table(("FUNCTION", "STATE", "UPDATE", "RUNTIME", "MEMORY", "ENVIRONMENTS"), rows)))
    now = time.time()
    lives = [
        (live["identity"][:12], place(live["function"]), live["state"], f"{max(0.0, now - live['since']):.0f} s")
        for live in environments
    ]
    click.echo("\n" + "\n".join(table(("ENVIRONMENT", "FUNCTION", "STATE", "SINCE"), lives)))


def place(arn: str) -> str:
    """Region and name."""
    parts = arn.split(":")
    return f"{parts[3]}/{parts[6]}"


def tell(change: dict[str, Any]) -> str:
    moment = dt.datetime.fromtimestamp(change["time"]).strftime("%H:%M:%S")
    return f"{moment} {change['environment'][:12]:<14}{place(change['function']):<40}{change['state']}"
