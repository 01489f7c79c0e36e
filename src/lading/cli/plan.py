"""`lading plan`: what `lading deploy` would do, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lading.cli.deployment import build_options, load_project, make_wish, open_accounts, place_options, plan_everywhere
from lading.errors import LadingError, UsageError

CHANGES = 2


@click.command(name="plan")
@click.argument("path", type=click.Path(path_type=Path), default=Path())
@place_options
@build_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, for `lading deploy --plan`.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write that JSON there as well."
)
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
    from lading.deploy.instruction import write_plans

    document = write_plans(planned.plan for planned in plans)
    if given["out"]:
        write_file(given["out"], document)
    if given["as_json"]:
        click.echo(document, nl=False)
    else:
        for planned in plans:
            print_plan(planned.plan)
    if given["detailed_exitcode"] and any(planned.plan.instructions for planned in plans):
        ctx.exit(CHANGES)


def write_file(path: Path, text: str) -> None:
    """Raises UsageError where it can't be written."""
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(f"can't write {path}: {error.strerror}", hint="name another file") from error
