"""What the user wants of AWS beside code: roles, logs, URLs, aliases, triggers, stages. Made by `config`, read by `deploy`.

Empty text, None and empty tuples mean "not stated": AWS's default holds, and what lading made before is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Statement:
    """One statement of an IAM policy. `conditions` as IAM writes them: operator → key → value."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    effect: str = "Allow"
    conditions: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class RoleConfig:
    """The execution role: an existing one by ARN, or one that lading makes for the function."""

    arn: str = ""
    name: str = ""
    """Of the role to make; empty is named after the function."""
    policies: tuple[str, ...] = ()
    """Managed policies, by ARN or by the name of one of AWS's."""
    statements: tuple[Statement, ...] = ()
    boundary: str = ""
    """ARN of a permissions boundary."""


@dataclass(frozen=True)
class LoggingConfig:
    """`retention` in days, None is for ever. Levels only with the format JSON."""

    retention: int | None = None
    group: str = ""
    format: str = ""
    application_level: str = ""
    system_level: str = ""


@dataclass(frozen=True)
class Cors:
    """Cross-origin access to a function URL; `max_age` in seconds."""

    origins: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    max_age: int | None = None
    credentials: bool = False


@dataclass(frozen=True)
class UrlConfig:
    """`auth` is "iam" or "none", `invoke_mode` "buffered" or "stream"."""

    auth: str = "iam"
    invoke_mode: str = "buffered"
    cors: Cors | None = None


@dataclass(frozen=True)
class Permission:
    """A statement of the function's own policy; `name` is its statement id."""

    name: str
    principal: str
    action: str = "lambda:InvokeFunction"
    source_arn: str = ""
    source_account: str = ""
    organization: str = ""


@dataclass(frozen=True)
class AsyncConfig:
    """How asynchronous invokes end: `max_age` in seconds, destinations by ARN."""

    retries: int | None = None
    max_age: int | None = None
    on_success: str = ""
    on_failure: str = ""


@dataclass(frozen=True)
class Trigger:
    """What invokes a function: `kind` is "sqs", "kinesis", "dynamodb", "kafka", "schedule", "scheduler", "rule" or "s3".

    `settings` holds the keys of the kind as they are written, checked.
    """

    name: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Vpc:
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    ipv6: bool = False


@dataclass(frozen=True)
class FileSystem:
    """An access point, by ARN, and where it is mounted (below /mnt/)."""

    arn: str
    path: str


@dataclass(frozen=True)
class Reference:
    """A variable whose value AWS keeps: `service` "ssm" (Parameter Store) or "secret" (Secrets Manager)."""

    variable: str
    service: str
    name: str
    field: str = ""
    """Of a secret that is a JSON object."""


@dataclass(frozen=True)
class Rollout:
    """How an alias moves to a new version.

    `step` is the percentage that moves first (canary) or each time (linear), `interval` the seconds between moves.
    """

    strategy: str = "all-at-once"
    step: int = 10
    interval: int = 60
    smoke_event: str = ""
    """JSON that the new version is invoked with before it takes traffic; a function error stops the roll-out."""
    max_errors: int = 0
    """Errors of the new version that are suffered while traffic moves."""
    alarms: tuple[str, ...] = ()
    """CloudWatch alarms by name; one that is in ALARM stops the roll-out."""


@dataclass(frozen=True)
class FunctionDeployment:
    """A function's deployment. `alias` empty: no alias, triggers and URL point at $LATEST."""

    role: RoleConfig = RoleConfig()
    logging: LoggingConfig = LoggingConfig()
    url: UrlConfig | None = None
    permissions: tuple[Permission, ...] = ()
    alias: str = ""
    publish: bool = False
    """Publish a version at every change; an alias implies it."""
    keep_versions: int | None = None
    """Newest published versions to keep, those of aliases apart; None keeps all."""
    reserved_concurrency: int | None = None
    provisioned_concurrency: int | None = None
    asynchronous: AsyncConfig | None = None
    triggers: tuple[Trigger, ...] = ()
    references: tuple[Reference, ...] = ()
    dead_letter: str = ""
    tracing: str = ""
    """ "active" or "pass-through"."""
    vpc: Vpc | None = None
    file_systems: tuple[FileSystem, ...] = ()
    code_signing: str = ""
    kms_key: str = ""
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    rollout: Rollout = Rollout()


@dataclass(frozen=True)
class Destination:
    """An account, by profile or by a role to assume there, and its regions; what is empty is the project's."""

    profile: str = ""
    assume_role: str = ""
    regions: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProjectDeployment:
    """Where a project goes, and under which names."""

    project: str = ""
    """The value of the tag that marks the project's resources."""
    stage: str = ""
    regions: tuple[str, ...] = ()
    profile: str = ""
    assume_role: str = ""
    accounts: tuple[Destination, ...] = ()
    """In place of the one that `profile` and `assume_role` lead to."""
    endpoint_url: str = ""
    names: str = ""
    """Pattern with {project}, {stage} and {function}; empty: `{function}`, with a stage `{function}-{stage}`."""
    bucket: str = ""
    """For zips too large for a request; empty is lading's own, one for each account and region."""
    repository: str = ""
    """For images; empty is named after the project."""
    keep_images: int | None = None
    """Newest images in lading's own repository to keep, those that a function or version uses apart; None keeps all."""
    keep_layers: int | None = None
    """Newest versions of a layer to keep; None keeps all."""
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
