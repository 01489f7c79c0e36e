"""Aliases back to an earlier version: a plan like any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lading.aws.account import Account
from lading.aws.functions import find_alias, find_function, list_versions
from lading.deploy.instruction import Change, Instruction, Plan, Problem, Verb
from lading.deploy.kinds.kind import Pen
from lading.deploy.place import Place
from lading.deploy.plan import Planned, problem_error
from lading.deploy.unit import Subject
from lading.model.project import FunctionConfig, Project


def plan_rollback(project: Project, account: Account, functions: Sequence[FunctionConfig], version: str) -> Planned:
    """Each alias to `version`, or to the newest below the one that it is at. Raises PlanError."""
    identity = account.identity
    place = Place(identity.account, account.region, identity.partition, project.deployment)
    steps = [step for config in functions for step in _steps(place, account, config, version)]
    problems = [step for step in steps if isinstance(step, Problem)]
    if problems:
        raise problem_error(problems)
    instructions = tuple(step for step in steps if isinstance(step, Instruction))
    return Planned(Plan(place.account, place.region, place.project, place.stage, instructions))


def _steps(place: Place, account: Account, config: FunctionConfig, version: str) -> Iterator[Instruction | Problem]:
    subject, name = Subject(config.name, place.name(config.name), place), config.deployment.alias
    if not name:
        yield Problem(f"{config.name} has no alias, so nothing can be moved back", 'set alias = "live", and deploy')
        return
    found = find_function(account, subject.name)
    if found is None or not place.owns(found.tags):
        yield Problem(f"there is no function {subject.name} of this project", "deploy it first: lading deploy")
        return
    alias = find_alias(account, subject.name, name)
    numbers = [int(one["Version"]) for one in list_versions(account, subject.name)]
    if alias is None:
        yield Problem(f"{subject.name} has no alias {name}", "deploy first: lading deploy")
        return
    was = alias["FunctionVersion"]
    earlier = [number for number in numbers if was.isdigit() and number < int(was)]
    goal = version or (str(earlier[-1]) if earlier else "")
    if not goal or not goal.isdigit() or int(goal) not in numbers:
        there = ", ".join(map(str, numbers)) or "none"
        text = f"{subject.name} has no version {goal}" if goal else f"{subject.name} has no version before {was}"
        yield Problem(text, f"there are: {there}")
        return
    weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights")
    if goal == was and not weights:
        return
    pen = Pen(subject, f"alias:{name}", f"alias {subject.name}:{name}")
    parameters = {
        "FunctionName": subject.name, "Name": name, "FunctionVersion": goal,
        "RoutingConfig": {"AdditionalVersionWeights": {}},
    }  # fmt: skip
    yield pen("move", Verb.UPDATE, "UpdateAlias", parameters, changes=(Change("version", was, goal),))
