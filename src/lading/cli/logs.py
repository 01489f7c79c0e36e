"""`lading logs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from lading.cli.deployment import place_options
from lading.cli.endpoint import endpoint_option, lines
from lading.cli.remote import print_remote_log, refuse_without_remote
from lading.errors import UsageError


@click.command(name="logs")
@click.argument("name", required=False)
@endpoint_option
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they come.")
@click.option("--remote", is_flag=True, help="Of the deployed function of the project, from CloudWatch Logs.")
@click.option("--since", type=click.IntRange(1), default=60, metavar="MINUTES", help="With --remote: how far back.")
@click.option(
    "-C", "--project", "path", type=click.Path(path_type=Path), default=Path(), help="Folder or file of the project."
)
@place_options
def command(name: str | None, endpoint: str, follow: bool, **given: Any) -> None:
    """Print the newest log lines of a function of a running `lading serve`, or of one deployed (the project's only one)."""
    refuse_without_remote(given)
    if given["remote"]:
        print_remote_log(name, {**given, "follow": follow})
        return
    if name is None:
        raise UsageError("which function's log?", hint="name it, as in: lading logs orders")
    for kind, data in lines(endpoint, "/_lading/events?since=0", follow=follow):
        event = json.loads(data)
        if kind == "LogLine" and event["function"].rpartition(":")[2] == name:
            click.echo(event["text"].rstrip("\n"))
