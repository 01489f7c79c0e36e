"""What of a project runs where: read from AWS, nothing else known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from lading.aws.account import Account
from lading.aws.functions import find_function, list_aliases
from lading.aws.logs import read_log
from lading.aws.metrics import sum_since
from lading.aws.refusal import AwsError
from lading.deploy.place import Place
from lading.model.project import FunctionConfig, Project

HOURS = 24
ERRORS = '?"[ERROR]" ?"Task timed out" ?"Runtime exited" ?"Status: error"'
"""What CloudWatch Logs finds failures by, in Lambda's text format."""


@dataclass(frozen=True)
class FunctionStatus:
    """A function in a region. Sizes in bytes, memory in MB; None where AWS doesn't tell."""

    function: str
    name: str
    account: str
    region: str
    state: str
    """AWS's `State` and, where an update isn't through, `LastUpdateStatus`; "not deployed"."""
    runtime: str = ""
    memory: int = 0
    code_size: int = 0
    modified: str = ""
    aliases: tuple[str, ...] = ()
    """ "live → 7", or with a part of the traffic elsewhere "live → 7, 8 (10 %)"."""
    layers: tuple[str, ...] = field(default=(), hash=False)
    invocations: int | None = None
    errors: int | None = None
    last_error: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_status(project: Project, account: Account) -> Iterator[FunctionStatus]:
    """One for each function of the project, in its order. Raises AwsError."""
    identity = account.identity
    place = Place(identity.account, account.region, identity.partition, project.deployment)
    for config in project.functions:
        yield _one(config, place, account)


def group_of(config: FunctionConfig, name: str) -> str:
    """The log group of a function that is called `name` on AWS."""
    return config.deployment.logging.group or f"/aws/lambda/{name}"


def _one(config: FunctionConfig, place: Place, account: Account) -> FunctionStatus:
    name = place.name(config.name)
    found = find_function(account, name)
    if found is None:
        return FunctionStatus(config.name, name, place.account, place.region, "not deployed")
    there = found.configuration
    update = there.get("LastUpdateStatus", "Successful")
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(hours=HOURS)
    state = str(there.get("State", "Active"))
    return FunctionStatus(
        config.name,
        name,
        place.account,
        place.region,
        state if update == "Successful" else f"{state}, update {update.lower()}",
        there.get("Runtime", "image"),
        there["MemorySize"],
        there["CodeSize"],
        there["LastModified"],
        tuple(_alias(alias) for alias in list_aliases(account, name)),
        tuple(layer["Arn"] for layer in there.get("Layers") or ()),
        _count(account, "Invocations", name, begin),
        _count(account, "Errors", name, begin),
        _last_error(account, group_of(config, name), begin),
    )


def _alias(alias: Any) -> str:
    weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    parts = "".join(f", {version} ({weight:.0%})".replace("%", " %") for version, weight in weights.items())
    return f"{alias['Name']} → {alias['FunctionVersion']}{parts}"


def _count(account: Account, metric: str, name: str, begin: dt.datetime) -> int | None:
    """None where the endpoint has no CloudWatch, or the caller may not ask it."""
    try:
        return sum_since(account, metric, name, begin)
    except AwsError:
        return None


def _last_error(account: Account, group: str, begin: dt.datetime) -> str:
    try:
        lines = read_log(account, group, int(begin.timestamp() * 1000), ERRORS)
    except AwsError:
        return ""
    return lines[-1].text.strip().splitlines()[0] if lines and lines[-1].text.strip() else ""
