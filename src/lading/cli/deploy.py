"""`lading deploy`: build, plan, apply."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lading.cli.deployment import (
    apply_everywhere,
    build_options,
    first_account,
    load_project,
    make_wish,
    open_accounts,
    place_options,
    plan_everywhere,
    print_plan,
)
from lading.errors import DeployError, UsageError

if TYPE_CHECKING:
    from lading.deploy.instruction import Instruction, Plan
    from lading.deploy.plan import Planned
    from lading.model.project import Project


@click.command(name="deploy")
@click.argument("path", type=click.Path(path_type=Path), default=Path())
@place_options
@build_options
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Carry out exactly this plan (of `lading plan --json`) with the artifacts that it was made of, or nothing.",
)
@click.option("-y", "--yes", is_flag=True, help="Remove functions that are no longer in the project without asking.")
@click.option("--print-policy", is_flag=True, help="Print the least that the deployer must be allowed to do, and end.")
def command(**given: Any) -> None:  # fmt: skip
    """Bring AWS to what the project in PATH says: build, show the plan, carry it out.

    It can be run again at any time: what is as it should be isn't touched, and an interrupted run is gone on with.
    """
    project = load_project(given)
    if given["print_policy"]:
        print_policy(project, given)
        return
    # A plan is of artifacts that are there; the file itself may lie among the sources.
    given["no_build"] = given["no_build"] or given["plan_file"] is not None
    wish = make_wish(project, given)
    accounts = open_accounts(project, given)
    plans = plan_everywhere(wish, accounts)
    if given["plan_file"]:
        compare(given["plan_file"], plans)
    for planned in plans:
        print_plan(planned.plan)
    if any(planned.plan.instructions for planned in plans):
        confirm(plans, yes=given["yes"])
        begin = time.monotonic()
        done = apply_everywhere(plans, accounts)
        click.echo(f"done: {done} instructions in {time.monotonic() - begin:.1f} s", err=True)


def compare(file: Path, plans: list[Planned]) -> None:
    """Raises DeployError unless what would be done now is what the file says."""
    from lading.deploy.instruction import read_plans, write_plans

    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read the plan {file}: {error}", hint="make one: lading plan --json") from error
    before = read_plans(text)
    now = tuple(planned.plan for planned in plans)
    if write_plans(before) == write_plans(now):
        return
    was, will = by_place(before), by_place(now)
    details = [f"no longer needed: {was[name].subject}: {was[name].operation}" for name in was.keys() - will.keys()]
    details += [f"new: {will[name].subject}: {will[name].operation}" for name in will.keys() - was.keys()]
    details += [f"differs: {will[name].subject}: {will[name].operation}" for name in will.keys() & was.keys()
                if repr(was[name]) != repr(will[name])]  # fmt: skip
    raise DeployError(
        "the project or AWS has changed since the plan was made, so nothing was done",
        details=sorted(details),
        hint="look at the new plan: lading plan",
    )


def by_place(plans: Iterable[Plan]) -> dict[tuple[str, str, str], Instruction]:
    """Instructions by account, region and id, which two places may have in common."""
    return {(plan.account, plan.region, one.id): one for plan in plans for one in plan.instructions}


def confirm(plans: list[Planned], *, yes: bool) -> None:
    """Ask before functions go, with their logs. Raises UsageError where nobody can be asked."""
    gone = [
        one.subject for planned in plans for one in planned.plan.instructions
        if one.operation == "DeleteFunction" and "Qualifier" not in one.parameters
    ]  # fmt: skip
    if not gone or yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"this would remove {', '.join(gone)}", hint="if that is meant: lading deploy --yes")
    click.confirm(f"remove {', '.join(gone)}?", abort=True, err=True)


def print_policy(project: Project, given: dict[str, Any]) -> None:
    """With the account and region where credentials tell them, with * where not."""
    import json

    from lading.aws.refusal import CredentialsError, UnreachableError
    from lading.deploy.place import Place
    from lading.deploy.policy import deployer_policy

    try:
        account = first_account(project, given)
        place = Place(account.identity.account, account.region, account.identity.partition, project.deployment)
    except (CredentialsError, UnreachableError, DeployError) as error:
        click.echo(f"note: for any account and region: {error.message}", err=True)
        place = Place("*", "*", "aws", project.deployment)
    click.echo(json.dumps(deployer_policy(project, place), indent=2))
