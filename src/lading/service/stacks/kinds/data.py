"""DynamoDB tables, Kinesis streams, parameters, secrets, keys, image repositories.

Source: CloudFormation Template Reference, the types of AWS::DynamoDB, Kinesis, SSM, SecretsManager, KMS and ECR.
"""

from __future__ import annotations

import json
from typing import Any

from lading.service.stacks.kinds.kind import (
    Properties,
    ResourceError,
    Wanted,
    arguments,
    changed,
    gone_is_well,
    tag_list,
    tag_map,
)
from lading.service.stacks.records import Made
from lading.service.stacks.site import Site

_TABLE = (
    "AttributeDefinitions", "BillingMode", "DeletionProtectionEnabled", "GlobalSecondaryIndexes", "KeySchema",
    "LocalSecondaryIndexes", "OnDemandThroughput", "ProvisionedThroughput", "TableClass",
)  # fmt: skip
_TABLE_ASIDE = ("SSESpecification", "StreamSpecification")


class Tables:
    """Identity: the table's name."""

    known = frozenset(
        {*_TABLE, *_TABLE_ASIDE, "TableName", "Tags", "TimeToLiveSpecification", "PointInTimeRecoverySpecification"}
    )
    fixed = frozenset({"KeySchema", "LocalSecondaryIndexes", "TableName"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        name = wanted.name("TableName", 255)
        given = arguments(site, "dynamodb", "CreateTable", wanted, _TABLE)
        site.call(
            "dynamodb",
            "create_table",
            TableName=name,
            **given,
            **_aside(wanted.properties),
            Tags=tag_list(site, wanted) or None,
        )
        wanted.begun(_described_table(site, name))
        self._after(site, name, {}, wanted)
        return _described_table(site, name)

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        new, name = wanted.properties, made.identity
        plain = (
            "BillingMode",
            "DeletionProtectionEnabled",
            "OnDemandThroughput",
            "ProvisionedThroughput",
            "TableClass",
        )
        given = arguments(site, "dynamodb", "UpdateTable", wanted, [key for key in plain if changed(old, new, key)])
        aside = {key: value for key, value in _aside(new).items() if changed(old, new, key)}
        if "StreamSpecification" in old and "StreamSpecification" not in new:
            aside["StreamSpecification"] = {"StreamEnabled": False}
        if given or aside:
            site.call("dynamodb", "update_table", TableName=name, **given, **aside)
        self._indexes(site, name, old, wanted)
        self._after(site, name, old, wanted)
        return _described_table(site, name)

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        gone_is_well(lambda: site.call("dynamodb", "delete_table", TableName=made.identity))

    def _indexes(self, site: Site, name: str, old: Properties, wanted: Wanted) -> None:
        """One a call, as DynamoDB takes them."""
        if not changed(old, wanted.properties, "GlobalSecondaryIndexes"):
            return
        before = {one["IndexName"]: one for one in old.get("GlobalSecondaryIndexes") or []}
        given = arguments(site, "dynamodb", "CreateTable", wanted, ("AttributeDefinitions", "GlobalSecondaryIndexes"))
        after = {one["IndexName"]: one for one in given.get("GlobalSecondaryIndexes", [])}
        plain = {one["IndexName"]: one for one in wanted.properties.get("GlobalSecondaryIndexes") or []}
        steps: list[dict[str, Any]] = [
            {"Delete": {"IndexName": one}} for one in before if before[one] != plain.get(one)
        ]
        steps += [{"Create": index} for one, index in after.items() if before.get(one) != plain[one]]
        for step in steps:
            definitions = given.get("AttributeDefinitions")
            site.call(
                "dynamodb",
                "update_table",
                TableName=name,
                AttributeDefinitions=definitions,
                GlobalSecondaryIndexUpdates=[step],
            )

    def _after(self, site: Site, name: str, old: Properties, wanted: Wanted) -> None:
        new = wanted.properties
        if changed(old, new, "TimeToLiveSpecification"):
            before = old.get("TimeToLiveSpecification") or {}
            wished = new.get("TimeToLiveSpecification") or {**before, "Enabled": False}
            api = wanted.with_properties({"TimeToLiveSpecification": wished})
            given = arguments(site, "dynamodb", "UpdateTimeToLive", api, ["TimeToLiveSpecification"])
            if before.get("Enabled") or given["TimeToLiveSpecification"].get("Enabled"):
                site.call("dynamodb", "update_time_to_live", TableName=name, **given)
        if changed(old, new, "PointInTimeRecoverySpecification"):
            wished = new.get("PointInTimeRecoverySpecification") or {"PointInTimeRecoveryEnabled": False}
            api = wanted.with_properties({"PointInTimeRecoverySpecification": wished})
            given = arguments(site, "dynamodb", "UpdateContinuousBackups", api, ["PointInTimeRecoverySpecification"])
            site.call("dynamodb", "update_continuous_backups", TableName=name, **given)


def _aside(properties: Properties) -> dict[str, Any]:
    """What CloudFormation spells otherwise than the API."""
    found: dict[str, Any] = {}
    if stream := properties.get("StreamSpecification"):
        found["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": stream.get("StreamViewType")}
    if sse := properties.get("SSESpecification"):
        found["SSESpecification"] = {
            ("Enabled" if key == "SSEEnabled" else key): (
                str(value).lower() == "true" if key == "SSEEnabled" else value
            )
            for key, value in sse.items()
        }
    return found


def _described_table(site: Site, name: str) -> Made:
    table = site.call("dynamodb", "describe_table", TableName=name)["Table"]
    attributes = {"Arn": table["TableArn"]}
    if table.get("LatestStreamArn"):
        attributes["StreamArn"] = table["LatestStreamArn"]
    return Made(name, attributes)


class Streams:
    """Identity: the stream's name."""

    known = frozenset({"Name", "RetentionPeriodHours", "ShardCount", "StreamModeDetails", "Tags"})
    fixed = frozenset({"Name"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        name = wanted.name("Name", 128)
        given = arguments(site, "kinesis", "CreateStream", wanted, ("ShardCount", "StreamModeDetails"))
        site.call("kinesis", "create_stream", StreamName=name, **({} if given else {"ShardCount": 1}), **given)
        made = Made(name, {"Arn": site.arn("kinesis", f"stream/{name}")})
        wanted.begun(made)
        if tags := tag_map(site, wanted):
            site.call("kinesis", "add_tags_to_stream", StreamName=name, Tags=tags)
        self._retain(site, name, 24, wanted)
        return made

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        if changed(old, wanted.properties, "ShardCount"):
            api = wanted.with_properties({"TargetShardCount": wanted.properties.get("ShardCount", 1)})
            given = arguments(site, "kinesis", "UpdateShardCount", api, ["TargetShardCount"])
            site.call("kinesis", "update_shard_count", StreamName=made.identity, ScalingType="UNIFORM_SCALING", **given)
        if changed(old, wanted.properties, "StreamModeDetails"):
            mode = wanted.properties.get("StreamModeDetails", {"StreamMode": "PROVISIONED"})
            arn = made.attributes["Arn"]
            site.call("kinesis", "update_stream_mode", StreamARN=arn, StreamModeDetails=mode)
        self._retain(site, made.identity, int(old.get("RetentionPeriodHours", 24)), wanted)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        gone_is_well(
            lambda: site.call("kinesis", "delete_stream", StreamName=made.identity, EnforceConsumerDeletion=True)
        )

    def _retain(self, site: Site, name: str, hours: int, wanted: Wanted) -> None:
        wished = int(wanted.properties.get("RetentionPeriodHours", 24))
        if wished != hours:
            verb = "increase" if wished > hours else "decrease"
            site.call("kinesis", f"{verb}_stream_retention_period", StreamName=name, RetentionPeriodHours=wished)


_PARAMETER = ("AllowedPattern", "DataType", "Description", "Policies", "Tier", "Type", "Value")


class Parameters:
    """SSM's. Identity: the parameter's name."""

    known = frozenset({*_PARAMETER, "Name", "Tags"})
    fixed = frozenset({"Name", "DataType"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        name = wanted.name("Name", 512)
        tags = tag_list(site, wanted)
        return self._put(site, name, wanted, Tags=tags or None)

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        return self._put(site, made.identity, wanted, Overwrite=True)

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        gone_is_well(lambda: site.call("ssm", "delete_parameter", Name=made.identity))

    def _put(self, site: Site, name: str, wanted: Wanted, **more: Any) -> Made:
        given = arguments(site, "ssm", "PutParameter", wanted, _PARAMETER)
        site.call("ssm", "put_parameter", Name=name, **given, **more)
        return Made(name, {"Type": given.get("Type"), "Value": given.get("Value")})


_SECRET = ("Description", "KmsKeyId", "SecretString")


class Secrets:
    """Identity: the secret's ARN."""

    known = frozenset({*_SECRET, "GenerateSecretString", "Name", "Tags"})
    fixed = frozenset({"Name"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        given = arguments(site, "secretsmanager", "CreateSecret", wanted, _SECRET)
        text = given.pop("SecretString", None) or self._generated(site, wanted)
        tags = tag_list(site, wanted) or None
        name = wanted.name("Name", 512)
        arn = site.call("secretsmanager", "create_secret", Name=name, SecretString=text, Tags=tags, **given)["ARN"]
        return Made(arn, {"Id": arn})

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        given = arguments(site, "secretsmanager", "UpdateSecret", wanted, _SECRET)
        if changed(old, wanted.properties, "GenerateSecretString") and "SecretString" not in given:
            given["SecretString"] = self._generated(site, wanted)
        if given:
            site.call("secretsmanager", "update_secret", SecretId=made.identity, **given)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        force = {"ForceDeleteWithoutRecovery": True}
        gone_is_well(lambda: site.call("secretsmanager", "delete_secret", SecretId=made.identity, **force))

    def _generated(self, site: Site, wanted: Wanted) -> str | None:
        wished = wanted.properties.get("GenerateSecretString")
        if wished is None:
            return None
        template, key = wished.get("SecretStringTemplate"), wished.get("GenerateStringKey")
        plain = {
            name: value for name, value in wished.items() if name not in ("SecretStringTemplate", "GenerateStringKey")
        }
        api = wanted.with_properties(plain)
        given = arguments(site, "secretsmanager", "GetRandomPassword", api, plain)
        password = str(site.call("secretsmanager", "get_random_password", **given)["RandomPassword"])
        if bool(template) != bool(key):
            raise ResourceError("SecretStringTemplate and GenerateStringKey go together")
        return json.dumps({**json.loads(template), key: password}) if template else password


_KEY = ("Description", "KeySpec", "KeyUsage", "MultiRegion", "Origin")


class Keys:
    """KMS's. Identity: the key's id."""

    known = frozenset({*_KEY, "Enabled", "EnableKeyRotation", "KeyPolicy", "PendingWindowInDays", "Tags"})
    fixed = frozenset({"KeySpec", "KeyUsage", "MultiRegion", "Origin"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        given = arguments(site, "kms", "CreateKey", wanted, _KEY)
        policy = wanted.properties.get("KeyPolicy")
        tags = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in tag_list(site, wanted)]
        document = json.dumps(policy) if policy else None
        key = site.call("kms", "create_key", Policy=document, Tags=tags or None, **given)["KeyMetadata"]
        made = Made(key["KeyId"], {"Arn": key["Arn"], "KeyId": key["KeyId"]})
        wanted.begun(made)
        self._switch(site, made.identity, {}, wanted.properties)
        return made

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        new, key = wanted.properties, made.identity
        if changed(old, new, "KeyPolicy") and new.get("KeyPolicy"):
            site.call("kms", "put_key_policy", KeyId=key, PolicyName="default", Policy=json.dumps(new["KeyPolicy"]))
        if changed(old, new, "Description"):
            site.call("kms", "update_key_description", KeyId=key, Description=new.get("Description", ""))
        self._switch(site, key, old, new)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        days = int(properties.get("PendingWindowInDays", 30))
        gone_is_well(lambda: site.call("kms", "schedule_key_deletion", KeyId=made.identity, PendingWindowInDays=days))

    def _switch(self, site: Site, key: str, old: Properties, new: Properties) -> None:
        switches = (("EnableKeyRotation", "false", "key_rotation"), ("Enabled", "true", "key"))
        for name, default, what in switches:
            before, after = str(old.get(name, default)).lower(), str(new.get(name, default)).lower()
            if before != after:
                site.call("kms", f"{'enable' if after == 'true' else 'disable'}_{what}", KeyId=key)


class KeyAliases:
    """Identity: the alias's name."""

    known = frozenset({"AliasName", "TargetKeyId"})
    fixed = frozenset({"AliasName"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        site.call("kms", "create_alias", **wanted.properties)
        return Made(str(wanted.properties["AliasName"]))

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        site.call("kms", "update_alias", **wanted.properties)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        gone_is_well(lambda: site.call("kms", "delete_alias", AliasName=made.identity))


_REPOSITORY = ("EncryptionConfiguration", "ImageScanningConfiguration", "ImageTagMutability")


class Repositories:
    """ECR's, in this service's registry. Identity: the repository's name."""

    known = frozenset(
        {*_REPOSITORY, "EmptyOnDelete", "LifecyclePolicy", "RepositoryName", "RepositoryPolicyText", "Tags"}
    )
    fixed = frozenset({"RepositoryName", "EncryptionConfiguration"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        name = wanted.name("RepositoryName", 256, lower=True)
        given = _lowered({key: wanted.properties[key] for key in _REPOSITORY if key in wanted.properties})
        made = site.call(
            "ecr",
            "create_repository",
            repositoryName=name,
            tags=tag_list(site, wanted) or None,
            **arguments(site, "ecr", "CreateRepository", wanted.with_properties(given), given),
        )["repository"]
        found = Made(name, {"Arn": made["repositoryArn"], "RepositoryUri": made["repositoryUri"]})
        wanted.begun(found)
        self._policies(site, name, {}, wanted.properties)
        return found

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        new, name = wanted.properties, made.identity
        if changed(old, new, "ImageTagMutability"):
            mutability = new.get("ImageTagMutability", "MUTABLE")
            site.call("ecr", "put_image_tag_mutability", repositoryName=name, imageTagMutability=mutability)
        if changed(old, new, "ImageScanningConfiguration"):
            given = _lowered(
                {"ImageScanningConfiguration": new.get("ImageScanningConfiguration", {"ScanOnPush": False})}
            )
            scanning = arguments(site, "ecr", "PutImageScanningConfiguration", wanted.with_properties(given), given)
            site.call("ecr", "put_image_scanning_configuration", repositoryName=name, **scanning)
        self._policies(site, name, old, new)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        force = str(properties.get("EmptyOnDelete", False)).lower() == "true"
        gone_is_well(lambda: site.call("ecr", "delete_repository", repositoryName=made.identity, force=force))

    def _policies(self, site: Site, name: str, old: Properties, new: Properties) -> None:
        if changed(old, new, "RepositoryPolicyText"):
            if policy := new.get("RepositoryPolicyText"):
                text = policy if isinstance(policy, str) else json.dumps(policy)
                site.call("ecr", "set_repository_policy", repositoryName=name, policyText=text)
            else:
                site.call("ecr", "delete_repository_policy", repositoryName=name)
        if changed(old, new, "LifecyclePolicy"):
            if rules := (new.get("LifecyclePolicy") or {}).get("LifecyclePolicyText"):
                site.call("ecr", "put_lifecycle_policy", repositoryName=name, lifecyclePolicyText=rules)
            else:
                site.call("ecr", "delete_lifecycle_policy", repositoryName=name)


def _lowered(value: Any) -> Any:
    """With the names as ECR's API spells them."""
    if isinstance(value, dict):
        return {key[:1].lower() + key[1:]: _lowered(item) for key, item in value.items()}
    return value
