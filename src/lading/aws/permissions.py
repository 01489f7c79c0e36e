"""What IAM says of a caller's permissions, without anything being done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lading.aws.account import Account
from lading.aws.refusal import MISSING, AwsError

AT_ONCE = 50
"""Resources of one question; each is tried with each action."""
ACTIONS_AT_ONCE = 20


@dataclass(frozen=True)
class Decision:
    """`explicit`: a Deny says so. `unknown`: a condition needs values that only the call itself has."""

    allowed: bool
    explicit: bool = False
    unknown: bool = False


def principal_of(account: Account) -> str:
    """The ARN that the caller's policies are attached to. Raises AwsError for a caller that has none of its own."""
    arn = account.identity.arn
    start, kind, name = arn.split(":")[0:5], arn.split(":", 5)[5].partition("/")[0], arn.partition("/")[2]
    if kind == "assumed-role":
        # The path isn't told: most roles have none, and IAM is asked for those that do.
        plain = f"arn:{start[1]}:iam::{start[4]}:role/{name.partition('/')[0]}"
        return _with_path(account, plain) if name.startswith("AWSReservedSSO_") else plain
    if kind == "user" and start[2] == "iam":
        return arn
    raise AwsError(f"IAM doesn't simulate {arn}", code="InvalidInput", hint="deploy as a user or a role")


def _with_path(account: Account, role: str) -> str:
    return str(account.call("iam", "GetRole", RoleName=role.rpartition("/")[2])["Role"]["Arn"])


def simulate(
    account: Account, principal: str, asked: Mapping[str, tuple[str, ...]], passed_to: str
) -> dict[tuple[str, str], Decision]:
    """(action, resource) → what IAM decides, of at least what is asked: action → resources. Roles are for `passed_to`."""
    context = {"aws:RequestedRegion": account.region, "iam:PassedToService": passed_to}
    told: dict[tuple[str, str], Decision] = {}
    for actions, resources in _questions(asked):
        question = {
            "ActionNames": actions,
            "ResourceArns": resources,
            "ContextEntries": [
                {"ContextKeyName": name, "ContextKeyValues": [value], "ContextKeyType": "string"}
                for name, value in context.items()
            ],
        }
        try:
            told.update(_ask(account, principal, question))
        except AwsError as error:
            if error.code not in MISSING or ":role/" not in principal:
                raise
            principal = _with_path(account, principal)
            told.update(_ask(account, principal, question))
    return told


def _questions(asked: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[list[str], list[str]]]:
    """Few and not too large: the actions of a service together, each tried with all of that service's resources."""
    services: dict[str, list[str]] = {}
    for action in asked:
        services.setdefault(action.partition(":")[0], []).append(action)
    for actions in services.values():
        resources = list(dict.fromkeys(resource for action in actions for resource in asked[action]))
        for first in range(0, len(actions), ACTIONS_AT_ONCE):
            for start in range(0, len(resources), AT_ONCE):
                yield actions[first : first + ACTIONS_AT_ONCE], resources[start : start + AT_ONCE]


def _ask(account: Account, principal: str, question: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Decision]]:
    where = "iam", "SimulatePrincipalPolicy", "EvaluationResults"
    page = {"PageSize": AT_ONCE * ACTIONS_AT_ONCE}
    found = account.pages(*where, PolicySourceArn=principal, PaginationConfig=page, **question)
    for result in found:
        action = str(result["EvalActionName"])
        yield (action, str(result.get("EvalResourceName", "*"))), _decision(str(result["EvalDecision"]), result)
        for one in result.get("ResourceSpecificResults", ()):
            yield (action, str(one["EvalResourceName"])), _decision(str(one["EvalResourceDecision"]), one)


def _decision(word: str, result: Mapping[str, Any]) -> Decision:
    """`word` is "allowed", "explicitDeny" or "implicitDeny"."""
    ours = (result.get("OrganizationsDecisionDetail") or {}).get("AllowedByOrganizations", True)
    return Decision(
        word == "allowed" and bool(ours),
        explicit=word == "explicitDeny" or not ours,
        unknown=word == "implicitDeny" and bool(result.get("MissingContextValues")),
    )
