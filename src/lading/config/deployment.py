"""Checked tables → how a function and a project are deployed. What contradicts itself is added to the problems."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lading.config.problems import Problems
from lading.config.triggers import triggers
from lading.model.deployment import (
    AsyncConfig,
    Cors,
    Destination,
    FileSystem,
    FunctionDeployment,
    LoggingConfig,
    Permission,
    ProjectDeployment,
    Reference,
    RoleConfig,
    Rollout,
    Statement,
    UrlConfig,
    Vpc,
)
from lading.model.limits import number, retention_days

Values = Mapping[str, Any]
PLACEHOLDERS = ("project", "stage", "function")


def function_deployment(values: Values, where: str, problems: Problems) -> FunctionDeployment:
    """The deployment of one function's merged table."""
    asynchronous = values.get("async")
    found = FunctionDeployment(
        role=_role(values.get("role", {})),
        logging=_logging(values.get("logging", {}), f"{where}.logging", problems),
        url=_url(values.get("url", False)),
        permissions=tuple(_permission(name, table) for name, table in values.get("permissions", {}).items()),
        alias=values.get("alias", ""),
        publish=values.get("publish", False) or "alias" in values,
        keep_versions=values.get("keep-versions"),
        reserved_concurrency=values.get("reserved-concurrency"),
        provisioned_concurrency=values.get("provisioned-concurrency"),
        asynchronous=_asynchronous(asynchronous) if asynchronous else None,
        triggers=triggers(values.get("events", {}), f"{where}.events", problems),
        references=_references(values.get("environment", {})),
        dead_letter=values.get("dead-letter", ""),
        tracing=values.get("tracing", ""),
        vpc=_vpc(values["vpc"]) if "vpc" in values else None,
        file_systems=tuple(FileSystem(table["arn"], table["path"]) for table in values.get("file-systems", ())),
        code_signing=values.get("code-signing", ""),
        kms_key=values.get("kms-key", ""),
        tags=values.get("tags", {}),
        rollout=_rollout(values.get("rollout", {})),
    )
    _check(found, values, where, problems)
    return found


def project_deployment(values: Values, name: str, stage: str, where: str, problems: Problems) -> ProjectDeployment:
    """The deployment of a project's table; `name` marks its resources when the table has no other."""
    table = values.get("deploy", {})
    names = table.get("names", "")
    try:
        shown = names.format(**dict.fromkeys(PLACEHOLDERS, "x"))
    except (KeyError, ValueError, IndexError, AttributeError):
        problems.add(f"{where}.deploy.names", f"{names!r} is no pattern", "such as {project}-{stage}-{function}")
    else:
        if names and "{function}" not in names:
            problems.add(f"{where}.deploy.names", f"{shown!r} would be every function's name", "add {function}")
    if "keep-images" in table and "repository" in table:
        hint = "remove one of the two"
        problems.add(f"{where}.deploy.keep-images", "others may use a repository that you name", hint)
    return ProjectDeployment(
        project=table.get("project", name),
        stage=stage,
        regions=tuple(table.get("regions", ())),
        profile=table.get("profile", ""),
        assume_role=table.get("assume-role", ""),
        accounts=tuple(_destination(one) for one in table.get("accounts", ())),
        endpoint_url=table.get("endpoint-url", ""),
        names=names,
        bucket=table.get("bucket", ""),
        repository=table.get("repository", ""),
        keep_images=table.get("keep-images"),
        keep_layers=table.get("keep-layers"),
        tags=values.get("tags", {}),
    )


def _destination(table: Values) -> Destination:
    return Destination(table.get("profile", ""), table.get("assume-role", ""), tuple(table.get("regions", ())))


def _role(value: str | Values) -> RoleConfig:
    if isinstance(value, str):
        return RoleConfig(arn=value)
    return RoleConfig(
        name=value.get("name", ""),
        policies=tuple(value.get("policies", ())),
        statements=tuple(
            Statement(
                tuple(table["actions"]),
                tuple(table["resources"]),
                table.get("effect", "Allow"),
                table.get("conditions", {}),
            )
            for table in value.get("statements", ())
        ),
        boundary=value.get("boundary", ""),
    )


def _logging(table: Values, where: str, problems: Problems) -> LoggingConfig:
    retention = table.get("retention")
    if retention is not None and retention not in retention_days():
        nearest = min(retention_days(), key=lambda days: abs(days - retention))
        problems.add(f"{where}.retention", f"CloudWatch doesn't keep logs for {retention} days", f"such as {nearest}")
    levels = {"application-level", "system-level"} & table.keys()
    if levels and table.get("format") != "JSON":
        problems.add(where, f"{', '.join(sorted(levels))} without JSON", 'set format = "JSON"')
    return LoggingConfig(
        retention=retention,
        group=table.get("group", ""),
        format=table.get("format", ""),
        application_level=table.get("application-level", ""),
        system_level=table.get("system-level", ""),
    )


def _url(value: bool | Values) -> UrlConfig | None:  # noqa: FBT001 - as it is written
    if value is False:
        return None
    table: Values = {} if value is True else value
    cors = table.get("cors")
    return UrlConfig(table.get("auth", "iam"), table.get("invoke-mode", "buffered"), _cors(cors) if cors else None)


def _cors(table: Values) -> Cors:
    lists = {name: tuple(table.get(name, ())) for name in ("origins", "methods", "headers", "expose")}
    return Cors(**lists, max_age=table.get("max-age"), credentials=table.get("credentials", False))


def _permission(name: str, table: Values) -> Permission:
    return Permission(
        name=name,
        principal=table["principal"],
        action=table.get("action", "lambda:InvokeFunction"),
        source_arn=table.get("source-arn", ""),
        source_account=table.get("source-account", ""),
        organization=table.get("organization", ""),
    )


def _asynchronous(table: Values) -> AsyncConfig:
    return AsyncConfig(
        table.get("retries"), table.get("max-age"), table.get("on-success", ""), table.get("on-failure", "")
    )


def _references(environment: Values) -> tuple[Reference, ...]:
    found = []
    for variable, value in environment.items():
        if isinstance(value, Mapping):
            service = "ssm" if "ssm" in value else "secret"
            found.append(Reference(variable, service, value.get(service, ""), value.get("field", "")))
    return tuple(found)


def _vpc(table: Values) -> Vpc:
    return Vpc(tuple(table["subnets"]), tuple(table["security-groups"]), table.get("ipv6", False))


def _rollout(table: Values) -> Rollout:
    smoke = table.get("smoke-event")
    return Rollout(
        strategy=table.get("strategy", "all-at-once"),
        step=table.get("step", 10),
        interval=table.get("interval", 60),
        smoke_event="" if smoke is None else json.dumps(smoke),
        max_errors=table.get("max-errors", 0),
        alarms=tuple(table.get("alarms", ())),
    )


def _check(found: FunctionDeployment, values: Values, where: str, problems: Problems) -> None:
    """What one key says and another makes impossible."""
    needs_alias = {
        "provisioned-concurrency": found.provisioned_concurrency is not None,
        "rollout": "rollout" in values,
    }
    for key, stated in needs_alias.items():
        if stated and not found.alias:
            problems.add(f"{where}.{key}", "works on published versions only", 'set alias = "live"')
    image = values.get("package") == "image"
    if found.code_signing and image:
        problems.add(f"{where}.code-signing", "container images can't be signed like this", "remove it")
    if values.get("snap-start", False):
        _check_snap_start(found, values, f"{where}.snap-start", problems, image=image)
    reserved, provisioned = found.reserved_concurrency, found.provisioned_concurrency
    if reserved is not None and provisioned is not None and provisioned > reserved:
        problems.add(f"{where}.provisioned-concurrency", f"{provisioned} is more than the {reserved} reserved")
    if len(found.tags) > number("tags", "most") - 6:
        problems.add(f"{where}.tags", "too many: lading's own need six of the 50", "remove some")


def _check_snap_start(
    found: FunctionDeployment, values: Values, where: str, problems: Problems, *, image: bool
) -> None:
    """Source: Lambda developer guide, "Improving startup performance with Lambda SnapStart"."""
    obstacles = {
        f"runtime {values.get('runtime')}": values.get("runtime") in ("python3.9", "python3.10", "python3.11"),
        "provisioned concurrency": found.provisioned_concurrency is not None,
        "file systems": bool(found.file_systems),
        "more than 512 MB of /tmp": values.get("ephemeral-storage", 512) > 512,
    }
    for obstacle, there in obstacles.items():
        if there:
            problems.add(where, f"does not work with {obstacle}", "remove one of the two")
