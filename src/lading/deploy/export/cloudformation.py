"""A CloudFormation template. Code is taken from a bucket, under keys that hold each artifact's digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lading.deploy.export.portable import Exported, Portable
from lading.deploy.export.template import (
    BUCKET,
    Template,
    add_belonging,
    add_log_groups,
    add_role,
    async_properties,
    configuration,
    layers_of,
    render,
    tag_list,
    url_properties,
)
from lading.deploy.unit import Package, Unit

FILE = "template.yaml"


def export(portable: Portable, folder: Path) -> Exported:
    """`folder` is where the files will lie: artifacts are named relative to it."""
    template = build_template(portable)
    text = write_template(template, metadata=artifacts(portable, folder))
    names = [one for name, one in portable.packages.items() if not one.image]
    uploads = [f"aws s3 cp {package.path} s3://BUCKET/{object_key(package)}" for package in names]
    if any(package.image for package in portable.packages.values()):
        template.notes.append("images are pushed with: lading push LAYOUT REPOSITORY")
    return Exported({FILE: text}, (*template.notes, *(f"before deploying: {line}" for line in uploads)))


def build_template(portable: Portable) -> Template:
    """The parameters and resources of a whole project."""
    template = Template(portable)
    if not all(package.image for package in portable.packages.values()):
        template.parameters[BUCKET] = {"Type": "String", "Description": "Bucket that the artifacts are in."}
    _add_layers(template)
    add_log_groups(template)
    for unit in portable.units:
        target = _add_function(template, unit)
        add_belonging(template, unit, target)
    return template


def write_template(template: Template, *, metadata: Mapping[str, Any], transform: str = "") -> str:
    """As YAML."""
    import yaml

    document = {
        "AWSTemplateFormatVersion": "2010-09-09",
        **({"Transform": transform} if transform else {}),
        "Description": f"{template.portable.project.deployment.project}, exported by lading",
        "Metadata": {"lading": metadata},
        **({"Parameters": template.parameters} if template.parameters else {}),
        "Resources": render(template.resources),
    }
    return str(yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True))


def artifacts(portable: Portable, folder: Path) -> dict[str, Any]:
    """What was built: path, digest, size by name."""
    return {
        name: {"path": relative(one.path, folder), "sha256": sha256_of(one), "size": one.size}
        for name, one in portable.packages.items()
    }


def relative(path: Path, folder: Path) -> str:
    """A path as seen from a folder, with slashes."""
    import os

    return Path(os.path.relpath(path, folder)).as_posix()


def sha256_of(package: Package) -> str:
    """Hex, of a zip or of an image's manifest."""
    import base64

    return package.digest if package.image else base64.b64decode(package.digest).hex()


def object_key(package: Package) -> str:
    """Another digest is another key, so CloudFormation sees that code changed."""
    return f"{package.path.stem}-{sha256_of(package)[:32]}{package.path.suffix}"


def _code(template: Template, name: str, package: Package) -> dict[str, Any]:
    key = template.names(name, "Key")
    template.parameters[key] = {
        "Type": "String",
        "Default": object_key(package),
        "Description": f"Key of {package.path.name} in the bucket.",
    }
    return {"S3Bucket": {"Ref": BUCKET}, "S3Key": {"Ref": key}}


def _add_layers(template: Template) -> None:
    for layer in template.portable.layers:
        package = template.portable.packages[layer.name]
        properties = {
            "LayerName": template.portable.units[0].place.name(layer.name) if template.portable.units else layer.name,
            **({"Description": layer.description} if layer.description else {}),
            "Content": _code(template, layer.name, package),
            "CompatibleRuntimes": [layer.target.runtime.name],
            "CompatibleArchitectures": [layer.target.architecture.value],
        }
        template.add(template.names(layer.name, "Layer"), "AWS::Lambda::LayerVersion", properties)


def _add_function(template: Template, unit: Unit) -> Any:
    """The function with its role, version, alias, URL and asynchronous settings; the ARN that triggers point at."""
    scope, wish = unit.subject.scope, unit.wish
    name = template.names(scope, "Function")
    layers = layers_of(template, unit)
    image = unit.package.image
    properties = {
        "FunctionName": unit.name,
        "Role": add_role(template, unit),
        "PackageType": "Image" if image else "Zip",
        "Architectures": [unit.config.target.architecture.value],
        "Code": {"ImageUri": template.image(unit)} if image else _code(template, scope, unit.package),
        **configuration(template, unit),
        **({"Layers": layers} if layers else {}),
        **({"CodeSigningConfigArn": wish.code_signing} if wish.code_signing else {}),
        **({"Tags": tag_list(wish.tags)} if wish.tags else {}),
    }
    if wish.reserved_concurrency is not None:
        properties["ReservedConcurrentExecutions"] = wish.reserved_concurrency
    template.add(name, "AWS::Lambda::Function", properties)
    target: Any = {"Fn::GetAtt": [name, "Arn"]}
    if wish.publish or wish.alias:
        target = _add_version(template, unit, name, properties) or target
    alias = {"Qualifier": wish.alias} if wish.alias else {}
    after = {"DependsOn": template.names(scope, "Alias")} if wish.alias else {}
    address = url_properties(unit)
    if address is not None:
        where = {"TargetFunctionArn": {"Fn::GetAtt": [name, "Arn"]}, **alias}
        template.add(template.names(scope, "Url"), "AWS::Lambda::Url", where | address, **after)
    asynchronous = async_properties(unit)
    if asynchronous is not None:
        where = {"FunctionName": {"Ref": name}, "Qualifier": wish.alias or "$LATEST"}
        kind = "AWS::Lambda::EventInvokeConfig"
        template.add(template.names(scope, "Async"), kind, where | asynchronous, **after)
    return target


def _add_version(template: Template, unit: Unit, function: str, properties: Mapping[str, Any]) -> Any:
    """A version under a name that changes with code and configuration, so that each change publishes one; the alias's ARN."""
    state = json.dumps([unit.package.digest, properties], sort_keys=True)
    digest = hashlib.sha256(state.encode()).hexdigest()[:10]
    version = f"{template.names(unit.subject.scope, 'Version')}{digest}"
    kept = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
    template.add(version, "AWS::Lambda::Version", {"FunctionName": {"Ref": function}}, **kept)
    wish = unit.wish
    if wish.rollout.strategy != "all-at-once":
        template.notes.append(f"{unit.subject.scope}: its {wish.rollout.strategy} roll-out is not exported")
    if not wish.alias:
        return None
    alias = template.names(unit.subject.scope, "Alias")
    number = wish.provisioned_concurrency
    provisioned = {"ProvisionedConcurrencyConfig": {"ProvisionedConcurrentExecutions": number}} if number else {}
    properties = {
        "FunctionName": {"Ref": function},
        "Name": wish.alias,
        "FunctionVersion": {"Fn::GetAtt": [version, "Version"]},
        **provisioned,
    }
    template.add(alias, "AWS::Lambda::Alias", properties)
    return {"Ref": alias}
