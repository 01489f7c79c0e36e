"""`lading cache info|prune`."""

from __future__ import annotations

import json
import re

import click

from lading.errors import UsageError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
DAY = 24 * 3600


@click.group(name="cache")
def command() -> None:
    """Show or prune the cache."""


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(as_json: bool) -> None:
    """Where the cache is and how much it holds."""
    from lading.store import open_store
    from lading.store.prune import measure

    usage = measure(open_store())
    if as_json:
        click.echo(
            json.dumps(
                {
                    "root": str(usage.root),
                    "blobs": usage.blobs,
                    "blob_bytes": usage.blob_bytes,
                    "actions": usage.actions,
                    "action_bytes": usage.action_bytes,
                    "leftovers": usage.leftovers,
                }
            )
        )
        return
    from lading.cli.text import size

    click.echo(f"cache      {usage.root}")
    click.echo(f"blobs      {usage.blobs} ({size(usage.blob_bytes)})")
    click.echo(f"actions    {usage.actions} ({size(usage.action_bytes)})")
    click.echo(f"leftovers  {usage.leftovers}")


@command.command()
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Days since the last use.",
)
@click.option(
    "--keep", metavar="SIZE", help="Then remove the least recently used until this much is left, such as 2GB."
)
def prune(days: float, keep: str | None) -> None:
    """Remove what has not been used for a while. Builds that run meanwhile are not disturbed."""
    from lading.cli.text import size
    from lading.store import open_store
    from lading.store.prune import prune as remove

    removed = remove(open_store(), older_than=days * DAY, keep_bytes=parse_size(keep) if keep else None)
    click.echo(
        f"removed {removed.blobs} blobs, {removed.actions} actions, {removed.leftovers} leftovers: {size(removed.total_bytes)}"
    )


def parse_size(text: str) -> int:
    """ "2GB", "500m", "1000" → bytes (decimal units). Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if not match:
        raise UsageError(f"not a size: {text!r}", hint="write it as 500MB or 2GB")
    return int(float(match[1]) * UNITS[match[2]])
