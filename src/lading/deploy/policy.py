"""The least that whoever deploys a project must be allowed to do, as an IAM policy. Pure; from the project alone.

A test compares it with the calls that a deployment really makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lading.deploy.grants import made_roles
from lading.deploy.kinds.function import log_group
from lading.deploy.place import Place
from lading.deploy.unit import Package, Subject, Unit
from lading.model.deployment import FunctionDeployment
from lading.model.project import FunctionConfig, Project

Grant = tuple[str, Sequence[str], Sequence[str]]
"""What it is for, actions, resources."""


def deployer_policy(project: Project, place: Place) -> dict[str, Any]:
    """A policy document. `place` may have "*" for account and region."""
    units = [_unit(config, place) for config in project.functions]
    grants = [*_project_grants(project, place)]
    for unit in units:
        grants += _function_grants(unit)
    merged: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name, actions, resources in grants:
        known = merged.setdefault((name, tuple(sorted(actions))), [])
        known += [one for one in resources if one not in known]
    statements = [
        {"Sid": _sid(name, number), "Effect": "Allow", "Action": list(actions), "Resource": sorted(resources)}
        for number, ((name, actions), resources) in enumerate(merged.items())
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _sid(name: str, number: int) -> str:
    return f"{name}{number}"


def _unit(config: FunctionConfig, place: Place) -> Unit:
    subject = Subject(config.name, place.name(config.name), place)
    return Unit(subject, config, Package(config.source.root, "", 0, 0, image=config.package == "image"))


def _project_grants(project: Project, place: Place) -> Iterator[Grant]:
    prefix = f"arn:{place.partition}"
    yield "Read", ["sts:GetCallerIdentity", "tag:GetResources", "iam:ListRoles", "lambda:GetAccountSettings"], ["*"]
    # The one action without which a deployment works: it lets a plan tell what would be denied.
    yield "Foresee", ["iam:SimulatePrincipalPolicy"], ["*"]
    if project.layers:
        names = [
            f"{prefix}:lambda:{place.region}:{place.account}:layer:{place.name(one.name)}" for one in project.layers
        ]
        yield "Layers", ["lambda:ListLayers"], ["*"]
        yield "Layers", ["lambda:PublishLayerVersion", "lambda:ListLayerVersions"], names
        versions = [f"{name}:*" for name in names]
        yield "Layers", ["lambda:GetLayerVersion", "lambda:DeleteLayerVersion"], versions
    bucket = f"{prefix}:s3:::{place.bucket}"
    about = ["s3:CreateBucket", "s3:DeleteBucket", "s3:ListBucket", "s3:GetBucketTagging", "s3:PutBucketTagging"]
    yield "Bucket", [*about, "s3:PutBucketPublicAccessBlock", "s3:PutLifecycleConfiguration"], [bucket]
    yield "Bucket", ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"], [f"{bucket}/{place.project}/{place.stage}/*"]
    yield from _image_grants(project, place)


def _image_grants(project: Project, place: Place) -> Iterator[Grant]:
    if not any(config.package == "image" for config in project.functions):
        return
    from lading.deploy.kinds.package import repository_name

    repository = place.repository_arn(repository_name(place))
    yield "Images", ["ecr:GetAuthorizationToken"], ["*"]
    yield "Images", [
        "ecr:CreateRepository", "ecr:DescribeRepositories", "ecr:DeleteRepository", "ecr:ListTagsForResource",
        "ecr:TagResource", "ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart",
        "ecr:CompleteLayerUpload", "ecr:PutImage", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer",
        "ecr:SetRepositoryPolicy", "ecr:GetRepositoryPolicy",
        "ecr:DescribeImages", "ecr:BatchDeleteImage",
    ], [repository]  # fmt: skip


def _function_grants(unit: Unit) -> Iterator[Grant]:
    place, wish = unit.place, unit.wish
    arn = place.function_arn(unit.name)
    yield "Functions", [
        "lambda:CreateFunction", "lambda:GetFunction", "lambda:GetFunctionConfiguration", "lambda:UpdateFunctionCode",
        "lambda:UpdateFunctionConfiguration", "lambda:DeleteFunction", "lambda:TagResource", "lambda:UntagResource",
        "lambda:PutFunctionConcurrency", "lambda:DeleteFunctionConcurrency",
    ], [arn]  # fmt: skip
    group = f"arn:{place.partition}:logs:{place.region}:{place.account}:log-group"
    yield "Logs", ["logs:DescribeLogGroups"], [f"{group}:*"]
    yield "Logs", [
        "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:PutRetentionPolicy", "logs:DeleteRetentionPolicy",
        "logs:TagResource", "logs:ListTagsForResource",
    ], [f"{group}:{log_group(unit)}", f"{group}:{log_group(unit)}:*"]  # fmt: skip
    yield from _role_grants(unit)
    yield from _looked_at_grants(unit)
    yield from _version_grants(wish, arn)
    if unit.package.image and place.deployment.keep_images is not None:
        yield "Images", ["lambda:ListVersionsByFunction"], [arn]
    yield from _belonging_grants(unit, arn)


def _role_grants(unit: Unit) -> Iterator[Grant]:
    if unit.wish.role.arn:
        yield "Roles", ["iam:GetRole", "iam:PassRole"], [unit.role]
    made = [unit.place.role_arn(role.name) for role in made_roles(unit)]
    if made:
        yield "Roles", [
            "iam:CreateRole", "iam:GetRole", "iam:DeleteRole", "iam:TagRole", "iam:PassRole", "iam:PutRolePolicy",
            "iam:GetRolePolicy", "iam:DeleteRolePolicy", "iam:AttachRolePolicy", "iam:DetachRolePolicy",
            "iam:ListAttachedRolePolicies", "iam:UpdateAssumeRolePolicy", "iam:PutRolePermissionsBoundary",
            "iam:DeleteRolePermissionsBoundary",
        ], made  # fmt: skip
    stated = [one.settings["role"] for one in unit.wish.triggers if one.kind == "scheduler" and "role" in one.settings]
    if stated:
        yield "Roles", ["iam:PassRole"], stated


def _looked_at_grants(unit: Unit) -> Iterator[Grant]:
    """What Lambda looks at as the caller when a function is made or changed. Source: Lambda developer guide, the pages on VPC,
    file systems, layers, and encryption of environment variables."""
    wish = unit.wish
    if wish.vpc is not None:
        about = ("SecurityGroups", "Subnets", "Vpcs")
        yield "Network", [*(f"ec2:Describe{name}" for name in about), "ec2:GetSecurityGroupsForVpc"], ["*"]
    if wish.file_systems:
        yield "Files", ["elasticfilesystem:DescribeMountTargets"], ["*"]
    if wish.kms_key:
        yield "Key", ["kms:CreateGrant", "kms:Encrypt", "kms:Decrypt"], [wish.kms_key]
    strange = [one.arn for one in unit.config.layers if one.arn]
    if strange:
        yield "Layers", ["lambda:GetLayerVersion"], strange


def _version_grants(wish: FunctionDeployment, arn: str) -> Iterator[Grant]:
    if wish.publish:
        yield "Versions", ["lambda:PublishVersion", "lambda:ListVersionsByFunction", "lambda:ListAliases"], [arn]
        yield "Versions", ["lambda:DeleteFunction", "lambda:GetFunctionConfiguration"], [f"{arn}:*"]
    if wish.alias:
        yield "Aliases", [
            "lambda:CreateAlias", "lambda:GetAlias", "lambda:UpdateAlias", "lambda:DeleteAlias",
        ], [arn, f"{arn}:{wish.alias}"]  # fmt: skip
    if wish.rollout.smoke_event:
        yield "Rollout", ["lambda:InvokeFunction"], [f"{arn}:*"]
    if wish.rollout.strategy != "all-at-once":
        yield "Rollout", ["cloudwatch:GetMetricStatistics", "cloudwatch:DescribeAlarms"], ["*"]


def _belonging_grants(unit: Unit, arn: str) -> Iterator[Grant]:
    wish, place = unit.wish, unit.place
    both = [arn, f"{arn}:{wish.alias}"] if wish.alias else [arn]
    kinds = {trigger.kind for trigger in wish.triggers}
    if wish.url is not None:
        names = ("Create", "Get", "Update", "Delete")
        yield "Urls", [f"lambda:{name}FunctionUrlConfig" for name in names], both
    if wish.permissions or (wish.url and wish.url.auth == "none") or kinds & {"schedule", "rule", "s3"}:
        yield "Permissions", ["lambda:GetPolicy", "lambda:AddPermission", "lambda:RemovePermission"], both
    if wish.asynchronous is not None:
        yield "Async", [f"lambda:{name}FunctionEventInvokeConfig" for name in ("Get", "Put", "Delete")], both
    if wish.provisioned_concurrency is not None:
        yield "Provisioned", [f"lambda:{name}ProvisionedConcurrencyConfig" for name in ("Get", "Put", "Delete")], both
    if wish.code_signing:
        yield "Signing", [f"lambda:{name}FunctionCodeSigningConfig" for name in ("Get", "Put", "Delete")], [arn]
        yield "Signing", ["lambda:GetCodeSigningConfig"], [wish.code_signing]
    if kinds & {"sqs", "kinesis", "dynamodb", "kafka"}:
        # Lambda has no names for mappings before they are made.
        yield "Mappings", [f"lambda:{name}EventSourceMapping" for name in ("Create", "Update", "Delete")], ["*"]
        yield "Mappings", ["lambda:ListEventSourceMappings"], ["*"]
    yield from _outside_grants(unit, place)


def _outside_grants(unit: Unit, place: Place) -> Iterator[Grant]:
    for trigger in unit.wish.triggers:
        if trigger.kind in ("schedule", "rule"):
            rule = place.rule_arn(place.rule_name(unit.name, trigger.name), trigger.settings.get("bus", "default"))
            yield "Rules", [
                "events:DescribeRule", "events:ListTargetsByRule", "events:PutRule", "events:PutTargets",
                "events:RemoveTargets", "events:DeleteRule", "events:TagResource",
            ], [rule]  # fmt: skip
        elif trigger.kind == "scheduler":
            names = ("Create", "Get", "Update", "Delete")
            schedule = place.schedule_arn(place.rule_name(unit.name, trigger.name))
            yield "Schedules", [f"scheduler:{name}Schedule" for name in names], [schedule]
        elif trigger.kind == "sqs":
            yield "Queues", ["sqs:GetQueueUrl", "sqs:GetQueueAttributes"], [trigger.settings["source"]]
        elif trigger.kind == "s3":
            bucket = f"arn:{place.partition}:s3:::{trigger.settings['bucket']}"
            yield "Notifications", ["s3:GetBucketNotification", "s3:PutBucketNotification"], [bucket]
    for one in unit.wish.references:
        service = "ssm" if one.service == "ssm" else "secretsmanager"
        action = "ssm:GetParameters" if service == "ssm" else "secretsmanager:GetSecretValue"
        name = one.name if one.name.startswith("arn:") else _value_arn(place, service, one.name)
        yield "Values", [action], [name]


def _value_arn(place: Place, service: str, name: str) -> str:
    """A parameter's name joins its ARN with one slash; a secret's ARN ends with six letters of AWS's."""
    start = f"arn:{place.partition}:{service}:{place.region}:{place.account}"
    return f"{start}:parameter/{name.lstrip('/')}" if service == "ssm" else f"{start}:secret:{name}-??????"
