"""`lading ps`."""

from __future__ import annotations

import json
import time

import click

from lading.cli.endpoint import ask, endpoint_option


@click.command(name="ps")
@endpoint_option
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def command(endpoint: str, as_json: bool) -> None:
    """Show the execution environments of a running `lading serve`, with their states."""
    found = ask(endpoint, "/_lading/environments")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"{'ENVIRONMENT':<14}{'FUNCTION':<40}{'STATE':<12}SINCE")
    for live in found:
        name = live["function"].rpartition(":")[2]
        click.echo(f"{live['identity'][:12]:<14}{name:<40}{live['state']:<12}{time.time() - live['since']:.0f} s")
