"""Terraform's configuration for the provider hashicorp/aws: local artifacts with their digests as `source_code_hash`.

Source: the provider's documentation of each resource.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lading.deploy.export.hcl import Block, Expression, write
from lading.deploy.export.portable import Exported, Portable, variables_of
from lading.deploy.export.template import USUAL, made_role
from lading.deploy.export.terraform_file import Configuration, Target
from lading.deploy.export.terraform_roles import add_role
from lading.deploy.export.terraform_triggers import Pointed, add_notifications, add_triggers
from lading.deploy.kinds.function import log_group, wanted_configuration
from lading.deploy.unit import Unit

FILE = "main.tf"


def export(portable: Portable, folder: Path) -> Exported:
    """`folder` is where main.tf will lie: artifacts are named relative to it."""
    made = Configuration(portable, folder)
    provider = Block("required_providers", (), {"aws": {"source": "hashicorp/aws", "version": ">= 6.0"}})
    made.blocks += [
        Block("terraform", (), {"required_version": ">= 1.5"}, (provider,)),
        *(Block("data", (kind, "current")) for kind in ("aws_caller_identity", "aws_region", "aws_partition")),
    ]
    _add_layers(made)
    _add_log_groups(made)
    pointed = []
    for unit in portable.units:
        target = _add_function(made, unit)
        pointed.append(Pointed(unit, target, add_triggers(made, unit, target)))
    add_notifications(made, pointed)
    return Exported({FILE: write(made.blocks)}, tuple(made.notes))


def _add_layers(made: Configuration) -> None:
    for layer in made.portable.layers:
        package = made.portable.packages[layer.name]
        attributes = {
            "layer_name": made.portable.units[0].place.name(layer.name) if made.portable.units else layer.name,
            "description": layer.description or None,
            **made.code(package),
            "compatible_runtimes": [layer.target.runtime.name],
            "compatible_architectures": [layer.target.architecture.value],
        }
        made.resource("aws_lambda_layer_version", made.names(layer.name, "layer"), attributes)


def _add_log_groups(made: Configuration) -> None:
    asked: dict[str, list[int | None]] = {}
    for unit in made.portable.units:
        asked.setdefault(log_group(unit), []).append(unit.wish.logging.retention)
    for group, days in asked.items():
        retention = None if None in days else max(day for day in days if day is not None)
        attributes = {"name": group, "retention_in_days": retention}
        made.resource("aws_cloudwatch_log_group", made.names(group, "logs"), attributes)


def _environment(made: Configuration, unit: Unit) -> tuple[Block, ...]:
    variables = variables_of(unit)
    found: dict[str, Any] = dict(variables.plain)
    for variable in variables.secret:
        name = made.names(unit.subject.scope, variable)
        text = f"{variable} of {unit.name}: not exported, since its name is that of a secret"
        made.blocks.append(
            Block("variable", (name,), {"type": Expression("string"), "sensitive": True, "description": text})
        )
        found[variable] = Expression(f"var.{name}")
    for variable, one in variables.kept.items():
        name = made.names(unit.subject.scope, variable)
        if one.service == "ssm":
            made.blocks.append(Block("data", ("aws_ssm_parameter", name), {"name": one.name}))
            found[variable] = Expression(f"data.aws_ssm_parameter.{name}.value")
            continue
        made.blocks.append(Block("data", ("aws_secretsmanager_secret_version", name), {"secret_id": one.name}))
        text = f"data.aws_secretsmanager_secret_version.{name}.secret_string"
        found[variable] = Expression(f"jsondecode({text})[{json.dumps(one.field)}]" if one.field else text)
    return (Block("environment", (), {"variables": dict(sorted(found.items()))}),) if found else ()


def _add_function(made: Configuration, unit: Unit) -> Target:
    scope, wish, config = unit.subject.scope, unit.wish, unit.config
    own = made_role(unit, "lambda")
    role, first = add_role(made, unit, own) if own is not None else (wish.role.arn, [])
    group = Expression(f"aws_cloudwatch_log_group.{made.names(log_group(unit), 'logs')}")
    layers = [
        one.arn or Expression(f"aws_lambda_layer_version.{made.names(one.name, 'layer')}.arn") for one in config.layers
    ]
    image = unit.package.image
    attributes: dict[str, Any] = {
        "function_name": unit.name,
        "description": config.description or None,
        "role": role,
        **_code(made, unit),
        "handler": None if image else config.handler,
        "runtime": None if image else config.target.runtime.name,
        "architectures": [config.target.architecture.value],
        "memory_size": config.memory,
        "timeout": config.timeout,
        "layers": layers or None,
        "publish": True if wish.publish or wish.alias else None,
        "reserved_concurrent_executions": wish.reserved_concurrency,
        "kms_key_arn": wish.kms_key or None,
        "code_signing_config_arn": wish.code_signing or None,
        "tags": dict(wish.tags) or None,
        "depends_on": [*first, group],
    }
    blocks = (*_environment(made, unit), *_settings(unit, group))
    function = made.resource("aws_lambda_function", made.names(scope), attributes, *blocks)
    if wish.rollout.strategy != "all-at-once":
        made.notes.append(f"{scope}: its {wish.rollout.strategy} roll-out is not exported: Terraform moves at once")
    if not wish.alias:
        return Target(function, Expression(f"{function}.arn"))
    more = {
        "name": wish.alias,
        "function_name": Expression(f"{function}.function_name"),
        "function_version": Expression(f"{function}.version"),
    }
    alias = made.resource("aws_lambda_alias", made.names(scope, wish.alias), more)
    return Target(function, Expression(f"{alias}.arn"), Expression(f"{alias}.name"))


def _code(made: Configuration, unit: Unit) -> dict[str, Any]:
    package = unit.package
    if not package.image:
        return {"package_type": "Zip", **made.code(package)}
    name = made.names(unit.subject.scope, "image")
    text = f"Repository and digest of {package.path.name}: …@sha256:{package.digest}"
    made.blocks.append(Block("variable", (name,), {"type": Expression("string"), "description": text}))
    return {"package_type": "Image", "image_uri": Expression(f"var.{name}")}


def _settings(unit: Unit, group: Expression) -> list[Block]:
    """Blocks of what AWS would not take anyway."""
    wanted = wanted_configuration(unit)
    logging = wanted["LoggingConfig"]
    levels = {
        name: logging.get(key)
        for name, key in (("application_log_level", "ApplicationLogLevel"), ("system_log_level", "SystemLogLevel"))
    }
    found = [
        Block(
            "logging_config",
            (),
            {"log_format": logging["LogFormat"], "log_group": Expression(f"{group.text}.name"), **levels},
        )
    ]
    vpc, letters = wanted["VpcConfig"], wanted["DeadLetterConfig"]["TargetArn"]
    if vpc["SubnetIds"]:
        attributes = {
            "subnet_ids": vpc["SubnetIds"],
            "security_group_ids": vpc["SecurityGroupIds"],
            "ipv6_allowed_for_dual_stack": vpc["Ipv6AllowedForDualStack"] or None,
        }
        found.append(Block("vpc_config", (), attributes))
    if letters:
        found.append(Block("dead_letter_config", (), {"target_arn": letters}))
    for key, kind, inner, name in (
        ("TracingConfig", "tracing_config", "Mode", "mode"),
        ("EphemeralStorage", "ephemeral_storage", "Size", "size"),
        ("SnapStart", "snap_start", "ApplyOn", "apply_on"),
    ):
        if wanted[key] != USUAL[key]:
            found.append(Block(kind, (), {name: wanted[key][inner]}))
    for one in wanted["FileSystemConfigs"]:
        found.append(Block("file_system_config", (), {"arn": one["Arn"], "local_mount_path": one["LocalMountPath"]}))
    return found
