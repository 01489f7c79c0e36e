"""`lading destroy`: remove from AWS what lading made of a project, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lading.cli.deployment import (
    apply_everywhere,
    load_project,
    open_accounts,
    place_options,
    plan_everywhere,
    print_plan,
)
from lading.errors import UsageError


@click.command(name="destroy")
@click.argument("path", type=click.Path(path_type=Path), default=Path())
@place_options
@click.option("--dry-run", is_flag=True, help="Show what would be removed.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
def command(**given: Any) -> None:
    """Remove what lading made of the project on AWS, its logs included. Shows the plan and asks first."""
    from lading.deploy.wish import Wish

    project = load_project(given)
    accounts = open_accounts(project, given)
    plans = plan_everywhere(Wish(project, gone=True), accounts)
    for planned in plans:
        print_plan(planned.plan)
    if given["dry_run"] or not any(planned.plan.instructions for planned in plans):
        return
    if not given["yes"]:
        if not sys.stdin.isatty():
            raise UsageError(
                "nothing was removed: nobody can be asked here", hint="if it is meant: lading destroy --yes"
            )
        click.confirm("remove all of it?", abort=True, err=True)
    done = apply_everywhere(plans, accounts)
    click.echo(f"done: {done} instructions", err=True)
