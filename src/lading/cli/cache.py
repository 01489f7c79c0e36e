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
    from lading.oci.unpack import local_trees
    from lading.store import open_store
    from lading.store.prune import measure

    store = open_store()
    usage = measure(store)
    trees = list(local_trees(store).trees())
    if as_json:
        click.echo(
            json.dumps(
                {
                    "root": str(usage.root),
                    "blobs": usage.blobs,
                    "blob_bytes": usage.blob_bytes,
                    "actions": usage.actions,
                    "action_bytes": usage.action_bytes,
                    "layers": len(trees),
                    "layer_bytes": sum(tree.size for tree in trees),
                    "leftovers": usage.leftovers,
                }
            )
        )
        return
    from lading.cli.text import size

    click.echo(f"cache      {usage.root}")
    click.echo(f"blobs      {usage.blobs} ({size(usage.blob_bytes)})")
    click.echo(f"actions    {usage.actions} ({size(usage.action_bytes)})")
    click.echo(f"layers     {len(trees)} ({size(sum(tree.size for tree in trees))}), unpacked from images")
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
    import time

    from lading.cli.text import count, size
    from lading.oci.unpack import local_trees, prune_trees
    from lading.store import open_store
    from lading.store.prune import prune as remove

    store, keep_bytes = open_store(), parse_size(keep) if keep else None
    trees = local_trees(store)
    # Unpacked layers first: they are made again from blobs, and blobs from the network.
    gone = prune_trees(trees, older_than=days * DAY, keep_bytes=keep_bytes, now=time.time())
    left = None if keep_bytes is None else max(keep_bytes - sum(tree.size for tree in trees.trees()), 0)
    removed = remove(store, older_than=days * DAY, keep_bytes=left)
    total = removed.total_bytes + sum(tree.size for tree in gone)
    click.echo(
        f"removed {removed.blobs} blobs, {removed.actions} actions, {count(len(gone), 'unpacked layer')}, "
        f"{removed.leftovers} leftovers: {size(total)}"
    )


def parse_size(text: str) -> int:
    """ "2GB", "500m", "1000" → bytes (decimal units). Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if not match:
        raise UsageError(f"not a size: {text!r}", hint="write it as 500MB or 2GB")
    return int(float(match[1]) * UNITS[match[2]])
