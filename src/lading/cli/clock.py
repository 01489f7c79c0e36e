"""`lading clock`."""

from __future__ import annotations

import datetime as dt
from urllib.parse import urlencode

import click

from lading.cli.endpoint import ask, endpoint_option


@click.command(name="clock")
@endpoint_option
@click.option("--step", type=click.FloatRange(min=0), metavar="SECONDS", help="Go ahead by so many seconds at once.")
@click.option(
    "--speed", type=click.FloatRange(1, 1_000_000), metavar="FACTOR", help="Run so many times as fast; 1 is real."
)
def command(endpoint: str, step: float | None, speed: float | None) -> None:
    """Show or drive the clock of a running `lading serve`: retries, back-off, ages and idle times follow it."""
    wanted = {name: value for name, value in (("step", step), ("speed", speed)) if value is not None}
    path = "/_lading/clock" + (f"?{urlencode(wanted)}" if wanted else "")
    found = ask(endpoint, path, method="POST" if wanted else "GET")
    moment = dt.datetime.fromtimestamp(found["now"], dt.UTC)
    click.echo(f"{moment:%Y-%m-%dT%H:%M:%SZ}, {found['speed']:g} times as fast")
