"""Options that commands have in common: how environments start, and where a server listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def listening(port: int) -> Decorator:
    """--host and --port."""
    ports = click.option(
        "--port", type=click.IntRange(0, 65535), default=port, show_default=True, help="Port; 0 takes a free one."
    )
    hosts = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
    return lambda command: hosts(ports(command))


cold_start: Decorator = click.option(
    "--cold-start",
    type=click.Choice(["fork", "exec"]),
    default="fork",
    show_default=True,
    help="Fork a started client, or boot a fresh interpreter.",
)
