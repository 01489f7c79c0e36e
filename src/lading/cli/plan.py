"""`lading plan`: what `lading deploy` would do, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lading.cli.deployment import build_options, load_project, make_wish, open_accounts, place_options, plan_everywhere
from lading.errors import LadingError

CHANGES = 2


@click.command(name="plan")
@click.argument("path", type=click.Path(path_type=Path), default=Path())
@place_options
@build_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, for `lading deploy --plan`.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit code 2 when there are changes, 1 on errors.")
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Show what `lading deploy` would do on AWS, field by field, and change nothing there."""
    from lading.cli.deployment import print_plan
    from lading.cli.main import report

    try:
        project = load_project(given)
        plans = plan_everywhere(make_wish(project, given), open_accounts(project, given))
    except LadingError as error:
        if not given["detailed_exitcode"]:
            raise
        report(error)
        ctx.exit(1)
    if given["as_json"]:
        from lading.deploy.instruction import write_plans

        click.echo(write_plans(planned.plan for planned in plans), nl=False)
    else:
        for planned in plans:
            print_plan(planned.plan)
    if given["detailed_exitcode"] and any(planned.plan.instructions for planned in plans):
        ctx.exit(CHANGES)
