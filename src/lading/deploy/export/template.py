"""CloudFormation resources of a project: what the formats that are templates have in common. Plain values, no text.

Source: AWS CloudFormation template reference, resource types of Lambda, IAM, Logs and Events.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lading.deploy.export.portable import (
    ACCOUNT,
    PARTITION,
    REGION,
    Names,
    Portable,
    differing,
    has_marks,
    identifier,
    pieces,
    variables_of,
)
from lading.deploy.grants import MadeRole, made_roles
from lading.deploy.kinds import asynchronous, mapping, notification, permission, rule, schedule, url
from lading.deploy.kinds.function import log_group, wanted_configuration
from lading.deploy.kinds.kind import rest_of
from lading.deploy.kinds.role import POLICY
from lading.deploy.unit import Unit

USUAL = {"TracingConfig": {"Mode": "PassThrough"}, "EphemeralStorage": {"Size": 512}, "SnapStart": {"ApplyOn": "None"}}
_EMPTY_CONFIGURATION = {
    "Environment": {"Variables": {}},
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": [], "Ipv6AllowedForDualStack": False},
    "DeadLetterConfig": {"TargetArn": ""},
}
_PSEUDO = {ACCOUNT: "${AWS::AccountId}", REGION: "${AWS::Region}", PARTITION: "${AWS::Partition}"}
BUCKET = "ArtifactBucket"


@dataclass
class Template:
    """A template while it is written."""

    portable: Portable
    parameters: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    names: Names = field(default_factory=lambda: Names(identifier))

    def add(self, name: str, kind: str, properties: Mapping[str, Any], **more: Any) -> None:
        self.resources[name] = {"Type": kind, **more, "Properties": properties}

    def secret(self, unit: Unit, variable: str) -> dict[str, str]:
        """A parameter for a value that must not stand in a file."""
        name = self.names(unit.subject.scope, variable)
        text = f"{variable} of {unit.name}: not exported, since its name is that of a secret"
        self.parameters[name] = {"Type": "String", "NoEcho": True, "Description": text}
        return {"Ref": name}

    def image(self, unit: Unit) -> dict[str, str]:
        name = self.names(unit.subject.scope, "ImageUri")
        text = f"Repository and digest of {unit.package.path.name}: …@sha256:{unit.package.digest}"
        self.parameters[name] = {"Type": "String", "Description": text}
        return {"Ref": name}


def render(value: Any) -> Any:
    """With marks as CloudFormation's pseudo parameters."""
    if isinstance(value, str) and has_marks(value):
        text = "".join(_PSEUDO[piece] if mark else piece.replace("${", "${!") for mark, piece in pieces(value))
        return {"Fn::Sub": text}
    if isinstance(value, Mapping):
        return {key: render(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [render(inner) for inner in value]
    return value


def configuration(template: Template, unit: Unit) -> dict[str, Any]:
    """What `AWS::Lambda::Function` has of a configuration, role, code and layers apart; only what AWS would not take anyway."""
    found = differing(wanted_configuration(unit), USUAL | _EMPTY_CONFIGURATION)
    found.pop("Role", None)
    if "KMSKeyArn" in found:
        found["KmsKeyArn"] = found.pop("KMSKeyArn")
    variables = environment(template, unit)
    found.pop("Environment", None)
    if variables:
        found["Environment"] = {"Variables": variables}
    found["LoggingConfig"] = {**found["LoggingConfig"], "LogGroup": {"Ref": log_group_id(template, unit)}}
    return found


def environment(template: Template, unit: Unit) -> dict[str, Any]:
    """Values that AWS keeps are read by CloudFormation when it deploys."""
    variables = variables_of(unit)
    found: dict[str, Any] = dict(variables.plain)
    found |= {name: template.secret(unit, name) for name in variables.secret}
    for name, one in variables.kept.items():
        if one.service == "ssm":
            found[name] = f"{{{{resolve:ssm:{one.name}}}}}"
            template.notes.append(
                f"{unit.subject.scope}: CloudFormation reads {one.name} only if it is no SecureString"
            )
        else:
            inner = f":SecretString:{one.field}" if one.field else ""
            found[name] = f"{{{{resolve:secretsmanager:{one.name}{inner}}}}}"
    return dict(sorted(found.items()))


def log_group_id(template: Template, unit: Unit) -> str:
    return template.names(log_group(unit), "LogGroup")


def add_log_groups(template: Template) -> None:
    """One for all functions that share it, with the longest retention asked for."""
    asked: dict[str, list[tuple[Unit, int | None]]] = {}
    for unit in template.portable.units:
        asked.setdefault(log_group(unit), []).append((unit, unit.wish.logging.retention))
    for group, users in asked.items():
        days = [retention for _, retention in users]
        more = {} if None in days else {"RetentionInDays": max(day for day in days if day is not None)}
        template.add(log_group_id(template, users[0][0]), "AWS::Logs::LogGroup", {"LogGroupName": group, **more})


def made_role(unit: Unit, service: str) -> MadeRole | None:
    """The one that the service assumes; None where a role is stated, or none is needed."""
    return next((role for role in made_roles(unit) if role.service == service), None)


def managed_arns(unit: Unit, role: MadeRole) -> list[str]:
    return sorted(unit.place.managed(policy) for policy in role.policies)


def add_role(template: Template, unit: Unit) -> Any:
    """The execution role's ARN: stated, or of a role that the template makes."""
    role = made_role(unit, "lambda")
    return unit.wish.role.arn if role is None else _add_role(template, unit, role, unit.wish.role.name)


def _add_role(template: Template, unit: Unit, role: MadeRole, name: str = "") -> Any:
    """Without `name` CloudFormation gives one."""
    own = template.names(unit.subject.scope, *(() if role.service == "lambda" else (role.service,)), "Role")
    managed, boundary = managed_arns(unit, role), unit.wish.role.boundary
    properties = {
        **({"RoleName": name} if name else {}),
        "AssumeRolePolicyDocument": role.trust,
        **({"ManagedPolicyArns": managed} if managed else {}),
        **({"Policies": [{"PolicyName": POLICY, "PolicyDocument": role.document}]} if role.document else {}),
        **({"PermissionsBoundary": boundary} if boundary else {}),
    }
    template.add(own, "AWS::IAM::Role", properties)
    return {"Fn::GetAtt": [own, "Arn"]}


def layers_of(template: Template, unit: Unit) -> list[Any]:
    """In order; the project's own by their resource, whose reference is the version's ARN."""
    return [one.arn or {"Ref": template.names(one.name, "Layer")} for one in unit.config.layers]


def add_belonging(template: Template, unit: Unit, target: Any, *, url_too: bool = True) -> None:
    """Permissions, mappings, rules: everything that points at `target`, the ARN of the function or its alias."""
    for one in _belonging(template, unit, target, url_too=url_too):
        template.add(*one)
    _add_schedules(template, unit, target)
    if notification.wanted(unit):
        template.notes.append(
            f"{unit.subject.scope}: notifications of a bucket that the template doesn't make can't be in it; "
            "the permission is: set them on the bucket"
        )


def _belonging(
    template: Template, unit: Unit, target: Any, *, url_too: bool
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    scope = unit.subject.scope
    for statements in permission.wanted(unit).values():
        for identity, statement in statements.items():
            if url_too or not identity.startswith(f"{permission.MARK}url"):
                name = template.names(scope, identity.removeprefix(permission.MARK), "Permission")
                yield name, "AWS::Lambda::Permission", {"FunctionName": target, **statement}
    for number, wish in enumerate(mapping.wanted(unit).values(), 1):
        yield template.names(scope, f"Source{number}"), "AWS::Lambda::EventSourceMapping", _mapping(wish, target)
    wanted = rule.wanted(unit)
    for key, wish in wanted.items():
        if not key.startswith("rule:"):
            continue
        bus, _, own = rest_of(key).rpartition("/")
        pattern = {"EventPattern": json.loads(wish["EventPattern"])} if "EventPattern" in wish else {}
        bus_name = {} if bus == "default" else {"EventBusName": bus}
        ends = {**wanted[f"target:{rest_of(key)}"], "Arn": target}
        properties = {"Name": own, **bus_name, **wish, **pattern, "Targets": [ends]}
        yield template.names(scope, own.removeprefix(unit.name), "Rule"), "AWS::Events::Rule", properties


def _add_schedules(template: Template, unit: Unit, target: Any) -> None:
    role = made_role(unit, "scheduler")
    made = _add_role(template, unit, role) if role is not None else None
    for key, wish in schedule.wanted(unit).items():
        own = rest_of(key)
        given = made if role is not None and wish["RoleArn"].endswith(f"/{role.name}") else wish["RoleArn"]
        name = template.names(unit.subject.scope, own.removeprefix(unit.name), "Schedule")
        template.add(name, "AWS::Scheduler::Schedule", schedule.parameters(own, wish, given, target))


def _mapping(wish: Mapping[str, Any], target: Any) -> dict[str, Any]:
    source = dict(wish["source"])
    if "SelfManagedEventSource" in source:
        servers = source["SelfManagedEventSource"]["Endpoints"]["KAFKA_BOOTSTRAP_SERVERS"]
        source["SelfManagedEventSource"] = {"Endpoints": {"KafkaBootstrapServers": servers}}
    return {"FunctionName": target, **source, **wish["fixed"], **differing(wish["fields"], {})}


def url_properties(unit: Unit) -> dict[str, Any] | None:
    """AuthType, InvokeMode and Cors of the URL; None where none is wanted."""
    wish = next(iter(url.wanted(unit).values()), None)
    return differing(wish, {}) if wish else None


def async_properties(unit: Unit) -> dict[str, Any] | None:
    """Retries, age and destinations; None where nothing is wanted."""
    wish = next(iter(asynchronous.wanted(unit).values()), None)
    if wish is None:
        return None
    numbers = {key: wish[key] for key in ("MaximumRetryAttempts", "MaximumEventAgeInSeconds") if wish[key] is not None}
    ends = {end: {"Destination": wish[end]} for end in ("OnSuccess", "OnFailure") if wish[end]}
    return {**numbers, **({"DestinationConfig": ends} if ends else {})}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
