"""What belongs to functions: versions, aliases, permissions, layers, URLs, event source mappings, invoke and signing configs.

Source: CloudFormation Template Reference, the types of AWS::Lambda.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lading.service.stacks.kinds.functions import put_runtime, retag, wait_until_ready
from lading.service.stacks.kinds.kind import (
    Kind,
    Properties,
    ResourceError,
    Wanted,
    arguments,
    changed,
    gone_is_well,
    random_text,
    tag_map,
)
from lading.service.stacks.records import Made
from lading.service.stacks.site import PATIENCE, Site

_PAUSE = 0.05


class Fixed:
    """A Kind whose every change is another resource."""

    known: frozenset[str] = frozenset()

    @property
    def fixed(self) -> frozenset[str]:
        return self.known

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        """Nothing of its own changed; its stack's tags may have."""
        return made


class Versions(Fixed):
    """Identity: the version's ARN."""

    known = frozenset({"FunctionName", "CodeSha256", "Description", "ProvisionedConcurrencyConfig", "RuntimePolicy"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        function = wanted.properties.get("FunctionName")
        parameters = arguments(site, "lambda", "PublishVersion", wanted, ("FunctionName", "CodeSha256", "Description"))
        before = _versions(site, function)
        made = site.call("lambda", "publish_version", **parameters)
        version = str(made["Version"])
        if version in before:
            raise ResourceError(
                f"A version for this Lambda function exists ( {version} ). Modify the function to create a new version."
            )
        found = Made(made["FunctionArn"], {"Version": version, "FunctionArn": made["FunctionArn"]})
        wanted.begun(found)
        wait_until_ready(site, str(function), version)
        if policy := wanted.properties.get("RuntimePolicy"):
            put_runtime(site, str(function), version, wanted, policy)
        _provision(site, str(function), version, wanted)
        return found

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        name, _, version = made.identity.rpartition(":")
        gone_is_well(lambda: site.call("lambda", "delete_function", FunctionName=name, Qualifier=version))


def _versions(site: Site, function: Any) -> set[str]:
    found: set[str] = set()
    marker = None
    while True:
        page = site.call("lambda", "list_versions_by_function", FunctionName=function, Marker=marker)
        found |= {one["Version"] for one in page["Versions"]}
        marker = page.get("NextMarker")
        if not marker:
            return found


def _provision(site: Site, function: str, qualifier: str, wanted: Wanted) -> None:
    config = wanted.properties.get("ProvisionedConcurrencyConfig")
    if not config:
        gone_is_well(
            lambda: site.call(
                "lambda", "delete_provisioned_concurrency_config", FunctionName=function, Qualifier=qualifier
            )
        )
        return
    api = wanted.with_properties(config)
    given = arguments(site, "lambda", "PutProvisionedConcurrencyConfig", api, ["ProvisionedConcurrentExecutions"])
    site.call("lambda", "put_provisioned_concurrency_config", FunctionName=function, Qualifier=qualifier, **given)

    def look() -> dict[str, Any]:
        return site.call("lambda", "get_provisioned_concurrency_config", FunctionName=function, Qualifier=qualifier)

    found = _until(site, look, lambda seen: seen["Status"] != "IN_PROGRESS", f"{function}:{qualifier}")
    if found["Status"] == "FAILED":
        raise ResourceError(str(found.get("StatusReason", "provisioned concurrency failed")))


def _until(site: Site, look: Callable[[], Any], done: Callable[[Any], bool], what: str) -> Any:
    waited = 0.0
    while not done(found := look()):
        if waited > PATIENCE:
            raise ResourceError(f"{what} is not ready after {PATIENCE:.0f} seconds")
        site.pause(_PAUSE)
        waited += _PAUSE
    return found


class Aliases:
    """Identity: the alias's ARN."""

    known = frozenset(
        {"FunctionName", "Name", "FunctionVersion", "Description", "RoutingConfig", "ProvisionedConcurrencyConfig"}
    )
    fixed = frozenset({"FunctionName", "Name"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        parameters = arguments(
            site, "lambda", "CreateAlias", wanted, ("FunctionName", "Name", "FunctionVersion", "Description")
        )
        made = site.call("lambda", "create_alias", **parameters, RoutingConfig=_weights(wanted) or None)
        found = Made(made["AliasArn"], {"AliasArn": made["AliasArn"]})
        wanted.begun(found)
        if wanted.properties.get("ProvisionedConcurrencyConfig"):
            _provision(site, wanted.properties["FunctionName"], wanted.properties["Name"], wanted)
        return found

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        new = wanted.properties
        parameters = arguments(
            site, "lambda", "UpdateAlias", wanted, ("FunctionName", "Name", "FunctionVersion", "Description")
        )
        if "Description" in old and "Description" not in new:
            parameters["Description"] = ""
        site.call("lambda", "update_alias", **parameters, RoutingConfig=_weights(wanted))
        if changed(old, new, "ProvisionedConcurrencyConfig"):
            _provision(site, new["FunctionName"], new["Name"], wanted)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        function, _, name = made.identity.rpartition(":")
        gone_is_well(lambda: site.call("lambda", "delete_alias", FunctionName=function, Name=name))


def _weights(wanted: Wanted) -> dict[str, Any]:
    given = (wanted.properties.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or []
    try:
        return (
            {"AdditionalVersionWeights": {str(one["FunctionVersion"]): float(one["FunctionWeight"]) for one in given}}
            if given
            else {}
        )
    except (TypeError, KeyError, ValueError):
        raise ResourceError(
            "AdditionalVersionWeights is a list of objects with FunctionVersion and FunctionWeight"
        ) from None


_STATEMENT = ("Action", "EventSourceToken", "FunctionName", "FunctionUrlAuthType", "InvokedViaFunctionUrl", "Principal",
              "PrincipalOrgID", "SourceAccount", "SourceArn")  # fmt: skip


class Permissions(Fixed):
    """Identity: the statement's."""

    known = frozenset(_STATEMENT)

    def create(self, site: Site, wanted: Wanted) -> Made:
        identity = f"{wanted.stack[:40]}-{wanted.logical[:40]}-{random_text(12)}"
        given = arguments(site, "lambda", "AddPermission", wanted, _STATEMENT)
        site.call("lambda", "add_permission", StatementId=identity, **given)
        return Made(identity, {"Id": identity})

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        function = properties["FunctionName"]
        gone_is_well(lambda: site.call("lambda", "remove_permission", FunctionName=function, StatementId=made.identity))


class Layers(Fixed):
    """Identity: the layer version's ARN."""

    known = frozenset(
        {"CompatibleArchitectures", "CompatibleRuntimes", "Content", "Description", "LayerName", "LicenseInfo"}
    )

    def create(self, site: Site, wanted: Wanted) -> Made:
        given = arguments(site, "lambda", "PublishLayerVersion", wanted, self.known - {"LayerName"})
        made = site.call("lambda", "publish_layer_version", LayerName=wanted.name("LayerName", 140), **given)
        return Made(made["LayerVersionArn"], {"LayerVersionArn": made["LayerVersionArn"]})

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        layer, _, version = made.identity.rpartition(":")
        site.call("lambda", "delete_layer_version", LayerName=layer, VersionNumber=int(version))


class LayerPermissions(Fixed):
    """Identity: the layer version's ARN and the statement's id."""

    known = frozenset({"Action", "LayerVersionArn", "OrganizationId", "Principal"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        statement = f"{wanted.logical[:60]}-{random_text(12)}"
        arn = str(wanted.properties.get("LayerVersionArn", ""))
        layer, _, version = arn.rpartition(":")
        if not version.isdigit():
            raise ResourceError(f"LayerVersionArn is no ARN of a layer version: {arn[:200]!r}")
        given = arguments(
            site, "lambda", "AddLayerVersionPermission", wanted, ("Action", "OrganizationId", "Principal")
        )
        site.call(
            "lambda",
            "add_layer_version_permission",
            LayerName=layer,
            VersionNumber=int(version),
            StatementId=statement,
            **given,
        )
        return Made(f"{arn}#{statement}", {"Id": f"{arn}#{statement}"})

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        arn, _, statement = made.identity.partition("#")
        layer, _, version = arn.rpartition(":")
        call = "remove_layer_version_permission"
        gone_is_well(
            lambda: site.call("lambda", call, LayerName=layer, VersionNumber=int(version), StatementId=statement)
        )


_URL = ("AuthType", "Cors", "InvokeMode")


class Urls:
    """Identity: the ARN of the function or alias, which is what Ref gives."""

    known = frozenset({*_URL, "Qualifier", "TargetFunctionArn"})
    fixed = frozenset({"Qualifier", "TargetFunctionArn"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        given = arguments(site, "lambda", "CreateFunctionUrlConfig", wanted, (*_URL, "Qualifier"))
        function = wanted.properties.get("TargetFunctionArn")
        made = site.call("lambda", "create_function_url_config", FunctionName=function, **given)
        arn = made["FunctionArn"]
        return Made(arn, {"FunctionUrl": made["FunctionUrl"], "FunctionArn": arn})

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        given = arguments(site, "lambda", "UpdateFunctionUrlConfig", wanted, (*_URL, "Qualifier"))
        cleared: dict[str, Any] = {"Cors": {}} if "Cors" in old else {}
        function = wanted.properties.get("TargetFunctionArn")
        site.call(
            "lambda",
            "update_function_url_config",
            FunctionName=function,
            **{**cleared, "InvokeMode": "BUFFERED", **given},
        )
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        function, qualifier = properties.get("TargetFunctionArn"), properties.get("Qualifier")
        gone_is_well(
            lambda: site.call("lambda", "delete_function_url_config", FunctionName=function, Qualifier=qualifier)
        )


_SOURCE_MADE = frozenset({
    "AmazonManagedKafkaEventSourceConfig", "EventSourceArn", "SelfManagedEventSource", "SelfManagedKafkaEventSourceConfig",
    "StartingPosition", "StartingPositionTimestamp", "Queues", "Topics",
})  # fmt: skip
_SOURCE_SET = frozenset({
    "BatchSize", "BisectBatchOnFunctionError", "DestinationConfig", "DocumentDBEventSourceConfig", "Enabled", "FilterCriteria",
    "FunctionName", "FunctionResponseTypes", "KmsKeyArn", "LoggingConfig", "MaximumBatchingWindowInSeconds",
    "MaximumRecordAgeInSeconds", "MaximumRetryAttempts", "MetricsConfig", "ParallelizationFactor", "ProvisionedPollerConfig",
    "ScalingConfig", "SourceAccessConfigurations", "TumblingWindowInSeconds",
})  # fmt: skip
_SOURCE_CLEARED: dict[str, Any] = {
    "DestinationConfig": {}, "FilterCriteria": {}, "FunctionResponseTypes": [], "ScalingConfig": {},
    "MaximumBatchingWindowInSeconds": 0, "MaximumRetryAttempts": -1, "MaximumRecordAgeInSeconds": -1,
    "BisectBatchOnFunctionError": False, "ParallelizationFactor": 1, "TumblingWindowInSeconds": 0, "Enabled": True,
}  # fmt: skip
"""What UpdateEventSourceMapping is told where a property was given and is no more."""


class EventSources:
    """Identity: the mapping's UUID."""

    known = _SOURCE_MADE | _SOURCE_SET | {"Tags"}
    fixed = _SOURCE_MADE

    def create(self, site: Site, wanted: Wanted) -> Made:
        api = _spelled(wanted)
        given = arguments(site, "lambda", "CreateEventSourceMapping", api, api.properties.keys() - {"Tags"})
        made = site.call("lambda", "create_event_source_mapping", **given, Tags=tag_map(site, wanted) or None)
        found = Made(made["UUID"], {"Id": made["UUID"], "EventSourceMappingArn": made["EventSourceMappingArn"]})
        wanted.begun(found)
        self._settled(site, made["UUID"])
        return found

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        api = _spelled(wanted)
        given = arguments(
            site, "lambda", "UpdateEventSourceMapping", api, api.properties.keys() - _SOURCE_MADE - {"Tags"}
        )
        cleared = {
            name: value for name, value in _SOURCE_CLEARED.items() if name in old and name not in wanted.properties
        }
        self._settled(site, made.identity)
        site.call("lambda", "update_event_source_mapping", UUID=made.identity, **cleared, **given)
        self._settled(site, made.identity)
        retag(site, made.attributes["EventSourceMappingArn"], wanted)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        def delete() -> None:
            self._settled(site, made.identity)
            site.call("lambda", "delete_event_source_mapping", UUID=made.identity)
            self._settled(site, made.identity)  # until a look finds nothing

        gone_is_well(delete)

    def _settled(self, site: Site, uuid: str) -> None:
        states = ("Enabled", "Disabled")
        _until(
            site,
            lambda: site.call("lambda", "get_event_source_mapping", UUID=uuid)["State"],
            lambda state: state in states,
            f"event source mapping {uuid}",
        )


def _spelled(wanted: Wanted) -> Wanted:
    properties = {"KMSKeyArn" if name == "KmsKeyArn" else name: value for name, value in wanted.properties.items()}
    return wanted.with_properties(properties)


class InvokeConfigs:
    """Identity: one of its own; AWS's is, too."""

    known = frozenset(
        {"FunctionName", "Qualifier", "DestinationConfig", "MaximumEventAgeInSeconds", "MaximumRetryAttempts"}
    )
    fixed = frozenset({"FunctionName", "Qualifier"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        self._put(site, wanted)
        return Made(f"{wanted.stack}-{wanted.logical}-{random_text(12)}")

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        self._put(site, wanted)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        name, qualifier = properties.get("FunctionName"), properties.get("Qualifier")
        gone_is_well(
            lambda: site.call("lambda", "delete_function_event_invoke_config", FunctionName=name, Qualifier=qualifier)
        )

    def _put(self, site: Site, wanted: Wanted) -> None:
        given = arguments(site, "lambda", "PutFunctionEventInvokeConfig", wanted, wanted.properties)
        site.call("lambda", "put_function_event_invoke_config", **given)


class SigningConfigs:
    """Identity: its ARN."""

    known = frozenset({"AllowedPublishers", "CodeSigningPolicies", "Description", "Tags"})
    fixed: frozenset[str] = frozenset()

    def create(self, site: Site, wanted: Wanted) -> Made:
        given = arguments(site, "lambda", "CreateCodeSigningConfig", wanted, wanted.properties.keys() - {"Tags"})
        made = site.call("lambda", "create_code_signing_config", **given, Tags=tag_map(site, wanted) or None)[
            "CodeSigningConfig"
        ]
        arn = made["CodeSigningConfigArn"]
        return Made(arn, {"CodeSigningConfigArn": arn, "CodeSigningConfigId": made["CodeSigningConfigId"]})

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        given = arguments(site, "lambda", "UpdateCodeSigningConfig", wanted, wanted.properties.keys() - {"Tags"})
        site.call("lambda", "update_code_signing_config", CodeSigningConfigArn=made.identity, **given)
        retag(site, made.identity, wanted)
        return made

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        gone_is_well(lambda: site.call("lambda", "delete_code_signing_config", CodeSigningConfigArn=made.identity))


def lambda_kinds() -> dict[str, Kind]:
    """But for functions themselves."""
    return {
        "AWS::Lambda::Version": Versions(),
        "AWS::Lambda::Alias": Aliases(),
        "AWS::Lambda::Permission": Permissions(),
        "AWS::Lambda::LayerVersion": Layers(),
        "AWS::Lambda::LayerVersionPermission": LayerPermissions(),
        "AWS::Lambda::Url": Urls(),
        "AWS::Lambda::EventSourceMapping": EventSources(),
        "AWS::Lambda::EventInvokeConfig": InvokeConfigs(),
        "AWS::Lambda::CodeSigningConfig": SigningConfigs(),
    }
