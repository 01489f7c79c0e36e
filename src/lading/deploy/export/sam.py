"""A SAM template: functions and layers as SAM's own resources with local paths, which `sam deploy` uploads; the rest as they are.

Source: AWS SAM developer guide, "AWS::Serverless::Function", "AWS::Serverless::LayerVersion".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lading.deploy.export.cloudformation import FILE, artifacts, relative, write_template
from lading.deploy.export.portable import Exported, Portable
from lading.deploy.export.template import (
    Template,
    add_belonging,
    add_log_groups,
    async_properties,
    configuration,
    layers_of,
    made_role,
    managed_arns,
    url_properties,
)
from lading.deploy.unit import Unit

TRANSFORM = "AWS::Serverless-2016-10-31"
_STRATEGIES = {
    ("canary", 10, 300): "Canary10Percent5Minutes", ("canary", 10, 600): "Canary10Percent10Minutes",
    ("canary", 10, 900): "Canary10Percent15Minutes", ("canary", 10, 1800): "Canary10Percent30Minutes",
    ("linear", 10, 60): "Linear10PercentEvery1Minute", ("linear", 10, 120): "Linear10PercentEvery2Minutes",
    ("linear", 10, 180): "Linear10PercentEvery3Minutes", ("linear", 10, 600): "Linear10PercentEvery10Minutes",
}  # fmt: skip


def export(portable: Portable, folder: Path) -> Exported:
    """`folder` is where the template will lie."""
    template = Template(portable)
    for layer in portable.layers:
        properties = {
            "LayerName": portable.units[0].place.name(layer.name) if portable.units else layer.name,
            **({"Description": layer.description} if layer.description else {}),
            "ContentUri": relative(portable.packages[layer.name].path, folder),
            "CompatibleRuntimes": [layer.target.runtime.name],
            "CompatibleArchitectures": [layer.target.architecture.value],
        }
        template.add(template.names(layer.name, "Layer"), "AWS::Serverless::LayerVersion", properties)
    add_log_groups(template)
    for unit in portable.units:
        name = template.names(unit.subject.scope, "Function")
        template.add(name, "AWS::Serverless::Function", _function(template, unit, folder))
        target: Any = {"Ref": f"{name}.Alias"} if unit.wish.alias else {"Fn::GetAtt": [name, "Arn"]}
        # SAM makes an open URL's permissions itself.
        add_belonging(template, unit, target, url_too=False)
    text = write_template(template, metadata=artifacts(portable, folder), transform=TRANSFORM)
    return Exported({FILE: text}, tuple(template.notes))


def _function(template: Template, unit: Unit, folder: Path) -> dict[str, Any]:
    wish, image = unit.wish, unit.package.image
    found = configuration(template, unit)
    found["Tracing"] = found.pop("TracingConfig", {}).get("Mode")
    letters = found.pop("DeadLetterConfig", None)
    if letters is not None:
        kind = letters["TargetArn"].split(":")[2].upper()
        found["DeadLetterQueue"] = {"Type": kind, "TargetArn": letters["TargetArn"]}
    more = {
        "FunctionName": unit.name,
        "PackageType": "Image" if image else "Zip",
        "Architectures": [unit.config.target.architecture.value],
        **({"ImageUri": template.image(unit)} if image else {"CodeUri": relative(unit.package.path, folder)}),
        **_role(unit),
        "Layers": layers_of(template, unit),
        "ReservedConcurrentExecutions": wish.reserved_concurrency,
        "CodeSigningConfigArn": wish.code_signing,
        "Tags": dict(wish.tags),
        "AutoPublishAlias": wish.alias,
        "FunctionUrlConfig": url_properties(unit),
        "EventInvokeConfig": _asynchronous(unit),
        "DeploymentPreference": _preference(template, unit),
    }
    if wish.provisioned_concurrency is not None:
        more["ProvisionedConcurrencyConfig"] = {"ProvisionedConcurrentExecutions": wish.provisioned_concurrency}
    if wish.publish and not wish.alias:
        template.notes.append(f"{unit.subject.scope}: SAM publishes versions only for an alias: name one")
    return {key: value for key, value in {**more, **found}.items() if value not in (None, "", [], {})}


def _role(unit: Unit) -> dict[str, Any]:
    role = made_role(unit, "lambda")
    if role is None:
        return {"Role": unit.wish.role.arn}
    own = [role.document] if role.document else []
    boundary = {"PermissionsBoundary": unit.wish.role.boundary} if unit.wish.role.boundary else {}
    return {"Policies": [*managed_arns(unit, role), *own], **boundary}


def _asynchronous(unit: Unit) -> dict[str, Any] | None:
    """SAM wants to know what kind of thing a destination is."""
    found = async_properties(unit)
    if not found or "DestinationConfig" not in found:
        return found
    kinds = {"sqs": "SQS", "sns": "SNS", "lambda": "Lambda", "events": "EventBridge", "s3": "S3Bucket"}
    ends = {
        end: {"Type": kinds[one["Destination"].split(":")[2]], "Destination": one["Destination"]}
        for end, one in found["DestinationConfig"].items()
    }
    return {**found, "DestinationConfig": ends}


def _preference(template: Template, unit: Unit) -> dict[str, Any] | None:
    rollout = unit.wish.rollout
    if rollout.strategy == "all-at-once":
        return None
    kind = _STRATEGIES.get((rollout.strategy, rollout.step, rollout.interval))
    if kind is None:
        template.notes.append(
            f"{unit.subject.scope}: CodeDeploy has no {rollout.strategy} roll-out of {rollout.step} % every {rollout.interval} s"
        )
        return None
    return {"Type": kind, "Alarms": list(rollout.alarms)} if rollout.alarms else {"Type": kind}
