"""The roles that a Terraform configuration makes, with their policies."""

from __future__ import annotations

from lading.deploy.export.hcl import Call, Expression
from lading.deploy.export.template import managed_arns
from lading.deploy.export.terraform_file import Configuration
from lading.deploy.grants import MadeRole
from lading.deploy.kinds.role import POLICY
from lading.deploy.unit import Unit

LONGEST_PREFIX = 38
"""Of a role's name_prefix."""


def add_role(made: Configuration, unit: Unit, role: MadeRole) -> tuple[Expression, list[Expression]]:
    """The role's ARN, and what must be there before it is used."""
    own = role.service == "lambda"
    stated, ending = unit.wish.role.name if own else "", "-" if own else f"-{role.service}-"
    name = made.names(unit.subject.scope, *(() if own else (role.service,)), "role")
    attributes = {
        "name": stated or None,
        "name_prefix": None if stated else f"{unit.name[: LONGEST_PREFIX - len(ending)]}{ending}",
        "assume_role_policy": Call("jsonencode", role.trust),
        "permissions_boundary": unit.wish.role.boundary or None,
    }
    address = made.resource("aws_iam_role", name, attributes)
    first = []
    for arn in managed_arns(unit, role):
        attachment = made.names(unit.subject.scope, arn.rpartition("/")[2])
        more = {"role": Expression(f"{address}.name"), "policy_arn": arn}
        first.append(Expression(made.resource("aws_iam_role_policy_attachment", attachment, more)))
    if role.document:
        more = {"name": POLICY, "role": Expression(f"{address}.name"), "policy": Call("jsonencode", role.document)}
        first.append(Expression(made.resource("aws_iam_role_policy", name, more)))
    return Expression(f"{address}.arn"), first
