"""What can be known to be impossible before anything is written. All of it, not the first."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lading.aws.account import Account
from lading.aws.functions import FunctionFound
from lading.aws.queues import find_visibility
from lading.aws.refusal import DeniedError, UnservedError
from lading.aws.roles import find_role
from lading.deploy.grants import policy_document
from lading.deploy.instruction import FILE, Instruction, Problem, fill
from lading.deploy.kinds import permission
from lading.deploy.kinds.kind import kind_of, rest_of
from lading.deploy.layers import Layers
from lading.deploy.unit import Subject, Unit
from lading.deploy.wish import Wish
from lading.model.deployment import Trigger
from lading.model.limits import number
from lading.model.quotas import quotas

_NAME = re.compile(r"[A-Za-z0-9_-]+")
PRINCIPAL = "lambda.amazonaws.com"


def check_names(subjects: Sequence[Subject]) -> Iterator[Problem]:
    """What the pattern of names makes of the functions."""
    longest = quotas().function_name
    for subject in subjects:
        if not _NAME.fullmatch(subject.name) or len(subject.name) > longest:
            hint = f"letters, digits, - and _; at most {longest}: change `names` in [tool.lading.deploy]"
            yield Problem(f"{subject.scope}: {subject.name!r} is no name of a function", hint)
        if sum(other.name == subject.name for other in subjects) > 1:
            yield Problem(f"{subject.scope}: another function has the name {subject.name!r} too", "change `names`")


def check_units(units: Sequence[Unit], layers: Layers) -> Iterator[Problem]:
    """Sizes, and roles that two functions would make."""
    for unit in units:
        package = unit.package
        own = [layers.packages[one.name] for one in unit.config.layers if one.name]
        total = package.unzipped + sum(layer.unzipped for layer in own)
        if not package.image and total > quotas().unzipped:
            text = (
                f"{unit.subject.scope}: {total:,} bytes unzipped, layers included; Lambda takes {quotas().unzipped:,}"
            )
            yield Problem(text, "leave something out (drop-tests, strip), or build an image")
        if package.image and unit.config.layers:
            yield Problem(f"{unit.subject.scope}: container images have no layers", "remove `layers`, or build a zip")
        yield from _check_texts(unit)
    made: dict[str, str] = {}
    for unit in units:
        other = made.setdefault(unit.role, unit.subject.scope)
        if not unit.wish.role.arn and other != unit.subject.scope:
            text = f"{unit.subject.scope} and {other} would both make the role {unit.role_name}"
            yield Problem(text, "make it yourself and state its ARN, or leave `name` out")


def _check_texts(unit: Unit) -> Iterator[Problem]:
    """What is known only with the values that AWS keeps, and with the statements that the settings add."""
    yield from _check_policy(unit)
    scope, revealed = unit.subject.scope, fill(unit.variables(), lambda _, label: unit.hidden.get(label, ""))
    size, most = (
        sum(len(key.encode()) + len(value.encode()) for key, value in revealed.items()),
        quotas().environment_bytes,
    )
    if size > most:
        text = f"{scope}: its environment has {size:,} bytes with the values of its references; Lambda takes {most:,}"
        yield Problem(text, "let the function read the larger ones itself")
    if unit.wish.role.arn:
        return
    # IAM doesn't count white space.
    size, most = len(re.sub(r"\s", "", json.dumps(policy_document(unit)))), number("roles", "inline-policy")
    if size > most:
        text = f"{scope}: its role's statements have {size:,} characters; IAM takes {most:,}"
        yield Problem(text, "put some into a managed policy of your own, and name it in role.policies")


def _check_policy(unit: Unit) -> Iterator[Problem]:
    """Of the function itself: at least so long, for AWS writes principals and conditions out in full."""
    most = number("permissions", "policy")
    for statements in permission.wanted(unit).values():
        written = [{"Sid": sid, "Effect": "Allow", "Resource": unit.arn, **one} for sid, one in statements.items()]
        size = len(json.dumps({"Version": "2012-10-17", "Id": "default", "Statement": written}))
        if size > most:
            text = f"{unit.subject.scope}: its own policy would have {size:,} characters or more; Lambda takes {most:,}"
            yield Problem(text, "fewer permissions and events: one rule, or one organization, in place of many")


def check_roles(account: Account, units: Iterable[Unit]) -> Iterator[Problem | str]:
    """Stated roles of this account: are they there, and do they let Lambda in? A text is a note: it can't be told."""
    arns = sorted({unit.wish.role.arn for unit in units if unit.wish.role.arn})
    for arn in arns:
        if arn.split(":")[4] != account.identity.account:
            yield Problem(f"the role {arn} is of another account", "a function's role is of its own account")
            continue
        try:
            role = find_role(account, arn.rpartition("/")[2])
        except DeniedError as error:
            yield f"can't tell whether {arn} is there: {error.message}"
            continue
        if role is None or role["Arn"] != arn:
            yield Problem(f"there is no role {arn}", "make it, or leave `role` out: lading makes one")
        elif not trusts_lambda(role["AssumeRolePolicyDocument"]):
            hint = f"let {PRINCIPAL} do sts:AssumeRole in its trust policy"
            yield Problem(f"the role {arn} can't be assumed by Lambda", hint)


def trusts_lambda(document: Any) -> bool:
    statements = document.get("Statement", [])
    for one in statements if isinstance(statements, list) else [statements]:
        principal = one.get("Principal", {})
        services = principal.get("Service", []) if isinstance(principal, Mapping) else [principal]
        names = {services} if isinstance(services, str) else set(services)
        if one.get("Effect") == "Allow" and names & {PRINCIPAL, "*"}:
            return True
    return False


@dataclass(frozen=True)
class Growth:
    """What a plan takes of the account's own limits: concurrent executions, and bytes of code."""

    reserved: int = 0
    provisioned: int = 0
    """Of functions without a reservation of their own."""
    code: int = 0


_STORING = ("CreateFunction", "UpdateFunctionCode", "PublishVersion", "PublishLayerVersion")
"""What makes Lambda keep another copy of a zip."""


def growth_of(
    wish: Wish, units: Iterable[Unit], seen: Mapping[Subject, FunctionFound | None], instructions: Iterable[Instruction]
) -> Growth:
    reserved = provisioned = code = 0
    alone = set()
    for unit in units:
        found, number_wanted = seen[unit.subject], unit.wish.reserved_concurrency
        reserved += (number_wanted or 0) - ((found.reserved if found else None) or 0)
        if number_wanted is None:
            alone.add(unit.subject.scope)
    for one in instructions:
        package = wish.packages.get(one.scope or rest_of(one.key))
        if one.operation in _STORING and package is not None and not package.image:
            code += package.size
        if one.operation == "PutProvisionedConcurrencyConfig" and one.scope in alone:
            provisioned += one.changes[0].will - (one.changes[0].was or 0)
    return Growth(reserved, provisioned, code)


def check_account(account: Account, more: Growth) -> Iterator[Problem | str]:
    """AWS is asked only where something grows. A text is a note: the endpoint can't tell."""
    if max(more.reserved, more.provisioned, more.code) <= 0:
        return
    try:
        found = account.call("lambda", "GetAccountSettings")
    except UnservedError as error:
        yield f"can't tell whether the account's limits leave room: {error.message}"
        return
    limits, usage = found["AccountLimit"], found.get("AccountUsage", {})
    least = number("concurrency", "unreserved")
    left = limits["UnreservedConcurrentExecutions"] - max(more.reserved, 0)
    if more.reserved > 0 and left < least:
        text = f"reserved-concurrency: {more.reserved} more would leave {left} unreserved; AWS keeps {least}"
        yield Problem(text, "reserve less, or ask AWS for more concurrency")
    if more.provisioned > max(left - least, 0):
        text = f"provisioned-concurrency: {more.provisioned} more, and {max(left - least, 0)} are left for it"
        yield Problem(text, "provision less, or ask AWS for more concurrency")
    size, most = usage.get("TotalCodeSize", 0) + more.code, limits.get("TotalCodeSize", 0)
    if more.code > 0 and most and size > most:
        text = f"code storage: {more.code:,} bytes more would make {size:,}; the account has {most:,}"
        yield Problem(text, "remove old versions (keep-versions, keep-layers), or ask AWS for more")


def check_queues(
    account: Account, units: Iterable[Unit], instructions: Sequence[Instruction]
) -> Iterator[Problem | str]:
    """Queues that functions are to read, where a mapping or a timeout changes. A text is a note: it can't be told.

    Source: Lambda developer guide, "Creating and configuring an Amazon SQS event source mapping".
    """
    ours = [account.region, account.identity.account]
    changing = {one.scope for one in instructions if kind_of(one.key) == "mapping" or _changes_timeout(one)}
    for unit in units:
        if unit.subject.scope not in changing:
            continue
        for trigger in unit.wish.triggers:
            # Another account's may be there and not be ours to see.
            if trigger.kind == "sqs" and trigger.settings["source"].split(":")[3:5] == ours:
                yield from _check_queue(account, unit, trigger)


def _changes_timeout(one: Instruction) -> bool:
    return one.key == "function" and any(change.name == "timeout" for change in one.changes)


def _check_queue(account: Account, unit: Unit, trigger: Trigger) -> Iterator[Problem | str]:
    queue, where = trigger.settings["source"], f"{unit.subject.scope}: event {trigger.name}"
    try:
        seconds = find_visibility(account, queue)
    except DeniedError as error:
        yield f"can't tell whether {queue} is there: {error.message}"
        return
    if seconds is None:
        yield Problem(f"{where}: there is no queue {queue}", "make it first, or correct the ARN")
    elif seconds < unit.config.timeout:
        text = f"{where}: its queue hides a message for {seconds} s; the function may take {unit.config.timeout}"
        hint = "Lambda takes no less than the timeout, and advises six times as much: set the queue's VisibilityTimeout"
        yield Problem(text, hint)


def check_parameters(account: Account, instructions: Iterable[Instruction]) -> Iterator[Problem]:
    """Every call against botocore's model, with stand-ins for what isn't known yet."""
    for one in instructions:
        if one.operation in ("rollout", "push"):
            continue
        parameters = fill(one.parameters, lambda kind, _: b"-" if kind == FILE else "-" * 24)
        found = account.problems(one.service, one.operation, parameters)
        if found:
            yield Problem(f"{one.subject}: {one.operation}: {found}", "correct the value in the project")
