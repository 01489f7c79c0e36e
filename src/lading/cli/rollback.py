"""`lading rollback`: aliases back to an earlier version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lading.cli.deployment import apply_everywhere, load_project, open_accounts, place_options, print_plan
from lading.errors import UsageError


@click.command(name="rollback")
@click.argument("version", default="")
@click.option("-C", "--project", "path", type=click.Path(path_type=Path), default=Path(), help="Folder of the project.")
@click.option("-n", "--name", "names", multiple=True, metavar="NAME", help="Only this function (repeatable).")
@place_options
@click.option("--dry-run", is_flag=True, help="Show what would be done.")
def command(**given: Any) -> None:
    """Point aliases at VERSION, or at the version before the one that they are at.

    The code of $LATEST stays, so the next `lading deploy` moves forward again.
    """
    from lading.deploy.rollback import plan_rollback

    project = load_project(given)
    functions = [one for one in project.functions if one.name in given["names"]] or [
        one for one in project.functions if one.deployment.alias
    ]
    if not functions:
        raise UsageError("no function of the project has an alias", hint='set alias = "live", and deploy')
    if given["version"] and len(functions) > 1:
        names = ", ".join(one.name for one in functions)
        raise UsageError("a version is of one function", hint=f"name it with -n: {names}")
    accounts = open_accounts(project, given)
    plans = [plan_rollback(project, account, functions, given["version"]) for account in accounts]
    for planned in plans:
        print_plan(planned.plan)
    if not given["dry_run"]:
        apply_everywhere(plans, accounts)
