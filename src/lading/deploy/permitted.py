"""Whether the caller may do what a plan does: IAM is asked before the first write, and only where there is something to write.

Source: IAM API reference, SimulatePrincipalPolicy. It knows the caller's policies and boundary, not those of a session.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lading.aws.account import Account
from lading.aws.actions import action_of
from lading.aws.permissions import Decision, principal_of, simulate
from lading.aws.refusal import AwsError
from lading.aws.resources import Where, resources_of
from lading.deploy.instruction import Instruction, Problem
from lading.deploy.place import Place

_PUSH = (
    "ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload",
    "ecr:PutImage",
)  # fmt: skip
_TAGGING = {
    ("lambda", "CreateFunction"): ("Tags", "lambda:TagResource"), ("iam", "CreateRole"): ("Tags", "iam:TagRole"),
    ("logs", "CreateLogGroup"): ("tags", "logs:TagResource"), ("events", "PutRule"): ("Tags", "events:TagResource"),
    ("ecr", "CreateRepository"): ("tags", "ecr:TagResource"),
}  # fmt: skip
"""What is made with tags needs a second action."""


@dataclass(frozen=True)
class Need:
    """An action, and the ARNs of which one has to be allowed. `passed_to`: the service that a role is handed to."""

    action: str
    resources: tuple[str, ...]
    passed_to: str = "lambda"


def check_permissions(account: Account, place: Place, instructions: Iterable[Instruction]) -> Iterator[Problem | str]:
    """A problem for each action that is denied. A text is a note: it can't be told."""
    needs = list(dict.fromkeys(need for one in instructions for need in needs_of(one, place)))
    if not needs or account.identity.is_unlimited:
        return
    try:
        principal = principal_of(account)
        told = {
            service: simulate(account, principal, _by_action(needs, service), f"{service}.amazonaws.com")
            for service in {need.passed_to for need in needs}
        }
    except AwsError as error:
        yield f"can't tell before whether every write is allowed: {error.message}"
        return
    for need in needs:
        decided = told[need.passed_to]
        found = [decided[need.action, resource] for resource in need.resources if (need.action, resource) in decided]
        if not found or any(one.allowed for one in found):
            continue
        if all(one.unknown for one in found):
            yield f"can't tell whether {need.action} is allowed on {need.resources[0]}: a condition of its policy"
        else:
            yield Problem(f"not allowed: {need.action} on {need.resources[0]}", _hint(need, found[0]))


def _by_action(needs: Iterable[Need], passed_to: str) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for need in needs:
        if need.passed_to != passed_to:
            continue
        found.setdefault(need.action, {}).update(dict.fromkeys(need.resources))
    return {action: tuple(resources) for action, resources in found.items()}


def _hint(need: Need, decision: Decision) -> str:
    if decision.explicit:
        return "a Deny of a policy of yours, your boundary or your organization says so: no statement can allow it"
    resource: Any = need.resources[0] if len(need.resources) == 1 else list(need.resources)
    return f"this statement allows it: {json.dumps({'Effect': 'Allow', 'Action': need.action, 'Resource': resource})}"


def needs_of(one: Instruction, place: Place) -> Iterator[Need]:
    """Of the call itself, and of what AWS looks at besides: roles that are passed, tags, code that lies elsewhere."""
    where, parameters = Where(place.partition, place.region, place.account), one.parameters
    if one.operation == "push":
        yield from _push_needs(parameters, place)
        return
    if one.operation == "rollout":
        yield from _rollout_needs(parameters, where)
        return
    about = resources_of(one.service, one.operation, parameters, where)
    if one.service == "iam":
        # All of a plan's roles are lading's own, and so is their path.
        about = (place.role_arn(str(parameters["RoleName"])),)
    yield Need(action_of(one.service, one.operation), about)
    name, tagging = _TAGGING.get((one.service, one.operation), ("", ""))
    if name in parameters:
        yield Need(tagging, about)
    for service, role in (
        ("lambda", parameters.get("Role")),
        ("scheduler", (parameters.get("Target") or {}).get("RoleArn")),
    ):
        if isinstance(role, str):
            yield Need("iam:PassRole", (role,), service)
    code = parameters.get("Code") or parameters.get("Content") or parameters
    if isinstance(code, Mapping) and isinstance(code.get("S3Key"), str):
        yield Need("s3:GetObject", (f"arn:{place.partition}:s3:::{code['S3Bucket']}/{code['S3Key']}",))


def _push_needs(parameters: Mapping[str, Any], place: Place) -> Iterator[Need]:
    if not parameters["Login"]:
        return
    from lading.deploy.kinds.package import repository_name

    yield Need("ecr:GetAuthorizationToken", ("*",))
    for action in _PUSH:
        yield Need(action, (place.repository_arn(repository_name(place)),))


def _rollout_needs(parameters: Mapping[str, Any], where: Where) -> Iterator[Need]:
    named = {"FunctionName": parameters["FunctionName"], "Name": parameters["Name"]}
    operation = "CreateAlias" if parameters["Was"] is None else "UpdateAlias"
    yield Need(f"lambda:{operation}", resources_of("lambda", operation, named, where))
    if parameters["SmokeEvent"] is not None:
        plain = where.arn("lambda", f"function:{parameters['FunctionName']}")
        version = parameters["FunctionVersion"]
        # A version that is only made by the plan has no number yet.
        yield Need("lambda:InvokeFunction", (f"{plain}:{version if isinstance(version, str) else '1'}",))
    if parameters["Was"] is not None and parameters["Strategy"] != "all-at-once":
        yield Need("cloudwatch:GetMetricStatistics", ("*",))
