"""What `invoke --remote` and `logs --remote` have in common: a function of the project as it is on AWS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from lading.cli.deployment import first_account, load_project
from lading.errors import UsageError

if TYPE_CHECKING:
    from lading.aws.account import Account

PLACE_OPTIONS = ("stage", "regions", "profile", "assume_role", "endpoint_url", "qualifier")


@dataclass(frozen=True)
class Remote:
    """A deployed function: its name there, its log group, the alias that callers use."""

    account: Account
    name: str
    group: str
    alias: str


def refuse_without_remote(given: dict[str, Any]) -> None:
    """Raises UsageError for options that say where on AWS, without --remote."""
    for name in PLACE_OPTIONS:
        if given.get(name) and not given["remote"]:
            option = {"regions": "region"}.get(name, name).replace("_", "-")
            raise UsageError(f"--{option} without --remote", hint="add --remote to use the deployed function")


def find_remote(name: str | None, given: dict[str, Any]) -> Remote:
    """The function NAME, or the only one, in the first region. Raises UsageError, CredentialsError, RegionError."""
    from lading.deploy.place import Place
    from lading.deploy.status import group_of
    from lading.model.suggest import did_you_mean

    project = load_project({**given, "names": ()})
    known = [function.name for function in project.functions]
    if name is None and len(known) != 1:
        raise UsageError(f"{project.origin} has {len(known)} functions", hint=f"name one of: {', '.join(known)}")
    config = project.function(name or known[0])
    if config is None:
        raise UsageError(f"no function {name!r} in {project.origin}", hint=did_you_mean(name or "", known))
    account = first_account(project, given)
    identity = account.identity
    place = Place(identity.account, account.region, identity.partition, project.deployment)
    there = place.name(config.name)
    return Remote(account, there, group_of(config, there), config.deployment.alias)


def invoke_remote(ctx: click.Context, name: str | None, event: bytes, given: dict[str, Any]) -> None:
    """The result on stdout, the log's tail on stderr, exit code 1 when the function failed: as an invoke here."""
    import sys

    from lading.aws.functions import invoke_with_log

    remote = find_remote(name, given)
    answer = invoke_with_log(remote.account, remote.name, given["qualifier"] or remote.alias, event)
    click.echo(answer.log.rstrip("\n"), err=True)
    sys.stdout.buffer.write(answer.payload + b"\n")
    sys.stdout.flush()
    if answer.error:
        ctx.exit(1)


def print_remote_log(name: str | None, given: dict[str, Any]) -> None:
    """Lines since --since, then new ones where asked."""
    import time

    from lading.aws.logs import follow_log, read_log

    remote = find_remote(name, given)
    since = int((time.time() - given["since"] * 60) * 1000)
    lines = follow_log if given["follow"] else read_log
    for line in lines(remote.account, remote.group, since):
        click.echo(line.text.rstrip("\n"))
