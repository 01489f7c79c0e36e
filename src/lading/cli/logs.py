"""`lading logs`."""

from __future__ import annotations

import json

import click

from lading.cli.endpoint import endpoint_option, lines


@click.command(name="logs")
@click.argument("name")
@endpoint_option
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they come.")
def command(name: str, endpoint: str, follow: bool) -> None:
    """Print the newest log lines of a function of a running `lading serve`."""
    for kind, data in lines(endpoint, "/_lading/events?since=0", follow=follow):
        event = json.loads(data)
        if kind == "LogLine" and event["function"].rpartition(":")[2] == name:
            click.echo(event["text"].rstrip("\n"))
