"""What `plan`, `deploy`, `rollback` and `destroy` have in common: options, building, accounts, and how a plan is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lading.errors import DeployError, UsageError

if TYPE_CHECKING:
    from lading.aws.account import Access, Account
    from lading.deploy.instruction import Plan
    from lading.deploy.plan import Planned
    from lading.deploy.unit import Package
    from lading.deploy.wish import Wish
    from lading.model.artifact import Manifest
    from lading.model.project import Project

F = TypeVar("F", bound=Callable[..., Any])
COLOURS = {"create": "green", "update": "yellow", "delete": "red", "field": "bright_black"}


def place_options(command: F) -> F:
    """Where to: stage, regions, account."""
    options = [
        click.option("--stage", default="", metavar="STAGE", help="As [tool.lading.stages.STAGE] has it."),
        click.option("--region", "regions", multiple=True, metavar="REGION", help="Where to (repeatable)."),
        click.option("--profile", default="", metavar="PROFILE", help="Of AWS's configuration files."),
        click.option("--assume-role", default="", metavar="ARN", help="A role to act as."),
        click.option("--endpoint-url", default="", metavar="URL", help="Another endpoint, such as `lading serve`'s."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def build_options(command: F) -> F:
    """What to deploy."""
    options = [
        click.option("-n", "--name", "names", multiple=True, metavar="NAME", help="Only this function (repeatable)."),
        click.option("--no-build", is_flag=True, help="Deploy what was built last."),
        click.option("--offline", is_flag=True, help="Build from the cache only."),
        click.option("--frozen", is_flag=True, help="Fail when the kept lock would change."),
        click.option(
            "--adopt", is_flag=True, help="Take over resources that carry the names and aren't the project's."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def load_project(given: dict[str, Any]) -> Project:
    """The project as its stage has it, with the command line's own choice of names checked."""
    require_extra()
    from lading.config import load
    from lading.model.suggest import did_you_mean

    project = load(given["path"], stage=given["stage"])
    known = [function.name for function in project.functions]
    for name in given.get("names", ()):
        if name not in known:
            raise UsageError(f"no function {name!r} in {project.origin}", hint=did_you_mean(name, known))
    return project


def require_extra() -> None:
    """Raises UsageError where boto3 is missing."""
    import importlib.util

    if importlib.util.find_spec("boto3") is None:
        raise UsageError("deploying needs boto3, which isn't installed", hint="pip install 'lading[deploy]'")


def make_wish(project: Project, given: dict[str, Any]) -> Wish:
    """The project with its packages, built or as they were built last."""
    from lading.deploy.wish import Wish

    packages = built(project, given["names"]) if given["no_build"] else build(project, given)
    return Wish(project, packages, given["adopt"], given["names"])


def build(project: Project, given: dict[str, Any]) -> dict[str, Package]:
    """Raises AuditError when a function would not import on Lambda."""
    from lading.build.run import BuildOptions, build_project
    from lading.cli.progress import choose_progress
    from lading.cli.report import print_findings
    from lading.errors import AuditError
    from lading.resolve import Policy
    from lading.store import open_store

    policy = Policy(offline=given["offline"], frozen=given["frozen"])
    with choose_progress() as progress:
        report = build_project(project, open_store(), BuildOptions(names=given["names"], policy=policy), progress)
    if report.failed:
        for artifact in report.artifacts:
            print_findings(artifact.manifest.name, artifact.findings, verbose=False)
        raise AuditError("what was built would fail on Lambda, so nothing is deployed", hint="see: lading build")
    return {artifact.manifest.name: package_of(artifact.path, artifact.manifest) for artifact in report.artifacts}


def built(project: Project, names: tuple[str, ...]) -> dict[str, Package]:
    """What lies in the output folder. Raises UsageError for what isn't there."""
    from lading.model.artifact import manifest_path, read_manifest

    wanted = {one.name: f"{one.name}.{'oci' if one.package == 'image' else 'zip'}" for one in project.functions}
    wanted = {name: file for name, file in wanted.items() if not names or name in names}
    wanted |= {layer.name: f"{layer.name}.zip" for layer in project.layers}
    found = {}
    for name, file in wanted.items():
        path = project.output / file
        try:
            manifest = read_manifest(manifest_path(path).read_text("utf-8"))
        except OSError as error:
            raise UsageError(f"{path} isn't built yet", hint="run it without --no-build") from error
        found[name] = package_of(path, manifest)
    return found


def package_of(path: Path, manifest: Manifest) -> Package:
    from lading.deploy.unit import Package

    image = manifest.package == "image"
    digest = manifest.sha256.removeprefix("sha256:") if image else manifest.code_sha256
    return Package(path, digest, manifest.size, manifest.unzipped, image)


def open_accounts(project: Project, given: dict[str, Any]) -> list[Account]:
    """One for each account and region: of the command line, else of the project, else what boto3 finds. Raises DeployError
    for all of those that can't be opened, and where two are the same."""
    from lading.aws.account import open_account

    accounts, errors = [], []
    for access in accesses(project, given):
        try:
            accounts.append(open_account(access))
        except DeployError as error:
            errors.append(error)
    # What is wrong everywhere, such as missing credentials, is said once.
    unique = list({error.message: error for error in errors}.values())
    if len(unique) == 1:
        raise unique[0]
    if unique:
        details = [f"{one.message} ({one.hint})" for one in unique]
        raise DeployError(f"{len(unique)} places can't be reached as they are stated", details=details)
    places = [place_of(account) for account in accounts]
    twice = {place for place in places if places.count(place) > 1}
    if twice:
        raise DeployError(
            f"two of the stated accounts or regions are the same: {', '.join(sorted(twice))}",
            hint="profiles or roles that lead to different accounts, each region once",
        )
    return accounts


def place_of(account: Account) -> str:
    """ "111122223333 eu-west-1"."""
    return f"{account.identity.account} {account.region}"


def first_account(project: Project, given: dict[str, Any]) -> Account:
    """Of the first region."""
    from lading.aws.account import open_account

    return open_account(next(accesses(project, given)))


def accesses(project: Project, given: dict[str, Any]) -> Iterator[Access]:
    """Each account's regions. Whom the command line names takes the place of all that the project states."""
    from lading.aws.account import Access
    from lading.model.deployment import Destination

    stated = project.deployment
    named = Destination(given["profile"], given["assume_role"])
    for place in (named,) if given["profile"] or given["assume_role"] else stated.accounts or (named,):
        for region in given["regions"] or place.regions or stated.regions or ("",):
            yield Access(
                region,
                place.profile or stated.profile,
                given["endpoint_url"] or stated.endpoint_url,
                place.assume_role or stated.assume_role,
            )


def plan_everywhere(wish: Wish, accounts: Iterable[Account]) -> list[Planned]:
    """A plan for each account. Raises PlanError with the problems of all."""
    from lading.deploy.plan import PlanError, make_plan

    plans, errors = [], []
    for account in accounts:
        try:
            plans.append(make_plan(wish, account))
        except PlanError as error:
            errors.append((place_of(account), error))
    if len(errors) == 1:
        raise errors[0][1]
    if errors:
        details = [f"{place}: {line}" for place, error in errors for line in (error.details or (error.message,))]
        raise PlanError(f"problems in {len(errors)} places, nothing was changed", details=details)
    return plans


def print_plan(plan: Plan, *, err: bool = False) -> None:
    from lading.deploy.show import show_plan

    for style, text in show_plan(plan):
        click.secho(text, fg=COLOURS.get(style), err=err)


def apply_everywhere(plans: list[Planned], accounts: list[Account]) -> int:
    """How many instructions were carried out, place after place."""
    from lading.cli.progress import choose_progress
    from lading.deploy.apply import apply_plan

    done = 0
    with choose_progress() as progress:
        for planned, account in zip(plans, accounts, strict=True):
            done += apply_plan(planned, account, progress)
    return done
