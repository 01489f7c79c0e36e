"""A function as it is to be deployed: the project's wish, its artifact, its name there, and values that must not be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lading.deploy.instruction import HIDDEN
from lading.deploy.place import Place
from lading.model.deployment import FunctionDeployment
from lading.model.project import FunctionConfig

_SECRET_NAME = re.compile(r"PASSW|SECRET|TOKEN|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY|(^|_)PWD|DATABASE_URL|DSN", re.I)


@dataclass(frozen=True)
class Package:
    """What `lading build` made: `digest` is AWS's CodeSha256 of a zip, the manifest's digest (hex) of an image."""

    path: Path
    digest: str
    size: int
    unzipped: int
    image: bool = False


@dataclass(frozen=True)
class Subject:
    """A function on AWS, in the project or no longer: `scope` is its name in the project, `name` that on AWS."""

    scope: str
    name: str
    place: Place
    adopt: bool = False
    """Take over what carries the name and isn't the project's."""

    def ref(self, key: str, step: str = "") -> str:
        """An instruction, or all of a key, as `after` names them."""
        return f"{self.scope}/{key}" + (f"#{step}" if step else "")


@dataclass(frozen=True)
class Unit:
    """One function with everything that its wish is made of."""

    subject: Subject
    config: FunctionConfig
    package: Package
    layers: tuple[Any, ...] = field(default=(), hash=False)
    """ARNs, or outputs of instructions that publish them."""
    hidden: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
    """Label → value."""
    references: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Variable → label of a value that AWS keeps."""
    repository: Any = field(default="", hash=False)
    """Of images: registry and path, or the output of the instruction that makes the repository."""

    @property
    def wish(self) -> FunctionDeployment:
        return self.config.deployment

    @property
    def place(self) -> Place:
        return self.subject.place

    @property
    def name(self) -> str:
        return self.subject.name

    @property
    def role(self) -> str:
        """The execution role's ARN."""
        stated = self.wish.role
        return stated.arn or self.place.role_arn(self.role_name)

    @property
    def role_name(self) -> str:
        return self.wish.role.name or self.place.role_name(self.name)

    @property
    def scheduler_role_name(self) -> str:
        """Of the role that EventBridge Scheduler invokes the function as."""
        return self.place.role_name(f"{self.name}-scheduler")

    @property
    def arn(self) -> str:
        """Of what triggers and URL point at: the alias, or the function."""
        return self.place.function_arn(self.name, self.wish.alias)

    def variables(self) -> dict[str, Any]:
        """The environment, with placeholders for what must not be shown."""
        found: dict[str, Any] = {}
        for name, value in self.config.environment.items():
            found[name] = {HIDDEN: literal_label(self.subject.scope, name)} if looks_secret(name) else value
        return found | {name: {HIDDEN: label} for name, label in self.references.items()}


def literal_label(scope: str, variable: str) -> str:
    """The label of a value that stands in the project under a name that secrets have."""
    return f"project:{scope}/{variable}"


def looks_secret(variable: str) -> bool:
    return _SECRET_NAME.search(variable) is not None


def qualified(kind: str, qualifier: str) -> str:
    """A key of something that belongs to a function, or to an alias of it."""
    return f"{kind}:{qualifier}" if qualifier else kind


def qualifier_of(key: str) -> str:
    return key.partition(":")[2]
