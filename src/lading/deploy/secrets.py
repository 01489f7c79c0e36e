"""Values that must not be shown: those that AWS keeps, and those in the project under names that secrets have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lading.aws.account import Account
from lading.aws.values import Kept, ValueMissingError, field_of, read_parameters, read_secret
from lading.deploy.instruction import Problem
from lading.deploy.unit import literal_label, looks_secret
from lading.model.deployment import Reference
from lading.model.project import FunctionConfig


@dataclass(frozen=True)
class Hidden:
    """`values`: label → value. `labels`: (function, variable) → label. A label tells the version, never the value."""

    values: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
    labels: Mapping[tuple[str, str], str] = field(default_factory=dict, hash=False)
    problems: tuple[Problem, ...] = ()

    def of(self, function: str) -> dict[str, str]:
        """Variable → label."""
        return {variable: label for (name, variable), label in self.labels.items() if name == function}


def read_hidden(account: Account, functions: Iterable[FunctionConfig]) -> Hidden:
    """Each parameter and secret is read once."""
    configs = list(functions)
    wanted = [(config.name, one) for config in configs for one in config.deployment.references]
    parameters = read_parameters(account, [one.name for _, one in wanted if one.service == "ssm"])
    secrets = {name: read_secret(account, name) for name in {one.name for _, one in wanted if one.service == "secret"}}
    values: dict[str, str] = {}
    labels: dict[tuple[str, str], str] = {}
    problems: list[Problem] = []
    for function, one in wanted:
        kept = parameters.get(one.name) if one.service == "ssm" else secrets[one.name]
        try:
            kept = field_of(kept, one.name, one.field) if kept and one.field else kept
        except ValueMissingError as error:
            problems.append(Problem(f"{function}: {error.message}", error.hint))
            continue
        if kept is None:
            problems.append(_missing(function, one))
            continue
        label = _label(one, kept)
        values[label], labels[function, one.variable] = kept.value, label
    for config in configs:
        for variable, value in config.environment.items():
            if looks_secret(variable):
                values[literal_label(config.name, variable)] = value
    return Hidden(values, labels, tuple(problems))


def _label(reference: Reference, kept: Kept) -> str:
    inner = f"#{reference.field}" if reference.field else ""
    return f"{reference.service}:{reference.name}{inner} version {kept.version}"


def _missing(function: str, reference: Reference) -> Problem:
    what = "parameter" if reference.service == "ssm" else "secret with a text"
    command = "aws ssm put-parameter" if reference.service == "ssm" else "aws secretsmanager create-secret"
    text = f"{function}: {reference.variable}: there is no {what} {reference.name!r}"
    return Problem(text, f"make it: {command} --name {reference.name}")
