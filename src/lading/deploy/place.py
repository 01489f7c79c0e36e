"""Where a project goes: names, ARNs and tags of its resources in one account, region and stage. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from lading.model.deployment import ProjectDeployment
from lading.model.limits import number

PROJECT_TAG, STAGE_TAG, FUNCTION_TAG, PARTS_TAG = "lading:project", "lading:stage", "lading:function", "lading:parts"
DEFAULT_STAGE = "default"
LONGEST_ROLE, LONGEST_RULE = number("roles", "name"), number("rules", "name")


@dataclass(frozen=True)
class Place:
    """`account` and `region` by number and name."""

    account: str
    region: str
    partition: str
    deployment: ProjectDeployment

    @property
    def project(self) -> str:
        return self.deployment.project

    @property
    def stage(self) -> str:
        return self.deployment.stage or DEFAULT_STAGE

    def name(self, unit: str) -> str:
        """Of a function or layer on AWS."""
        pattern = self.deployment.names or ("{function}-{stage}" if self.deployment.stage else "{function}")
        return pattern.format(project=self.project, stage=self.stage, function=unit)

    def marks(self, function: str = "") -> dict[str, str]:
        """The tags that make a resource ours."""
        own = {PROJECT_TAG: self.project, STAGE_TAG: self.stage}
        return own | ({FUNCTION_TAG: function} if function else {})

    def owns(self, tags: Mapping[str, str]) -> bool:
        return self.marks().items() <= tags.items()

    @property
    def role_path(self) -> str:
        """IAM is one for all regions: what another region's functions use must not be taken for left over."""
        return f"/lading/{self.project}/{self.stage}/{self.region}/"

    def role_name(self, function_name: str) -> str:
        """IAM is one for all regions, so the region is in the name."""
        return shorten(f"{function_name}-{self.region}", LONGEST_ROLE)

    def role_arn(self, role_name: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:role{self.role_path}{role_name}"

    def managed(self, policy: str) -> str:
        """The ARN of a managed policy by ARN or by the name of one of AWS's."""
        return policy if policy.startswith("arn:") else f"arn:{self.partition}:iam::aws:policy/{policy}"

    def function_arn(self, name: str, qualifier: str = "") -> str:
        arn = f"arn:{self.partition}:lambda:{self.region}:{self.account}:function:{name}"
        return f"{arn}:{qualifier}" if qualifier else arn

    def repository_arn(self, name: str) -> str:
        return f"arn:{self.partition}:ecr:{self.region}:{self.account}:repository/{name}"

    def rule_arn(self, name: str, bus: str) -> str:
        path = name if bus == "default" else f"{bus}/{name}"
        return f"arn:{self.partition}:events:{self.region}:{self.account}:rule/{path}"

    def schedule_arn(self, name: str) -> str:
        return f"arn:{self.partition}:scheduler:{self.region}:{self.account}:schedule/default/{name}"

    def rule_name(self, function_name: str, event: str) -> str:
        """Of a rule of EventBridge, or of a schedule of its scheduler."""
        return shorten(f"{function_name}-{event}", LONGEST_RULE)

    @property
    def layer_mark(self) -> str:
        """In the description of a layer's versions, which can't be tagged."""
        return f"[lading {self.project}/{self.stage}"

    @property
    def bucket(self) -> str:
        return self.deployment.bucket or f"lading-{self.account}-{self.region}"


def shorten(name: str, longest: int) -> str:
    """A name that fits, and is told apart by a digest where it had to be cut."""
    if len(name) <= longest:
        return name
    return f"{name[: longest - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
