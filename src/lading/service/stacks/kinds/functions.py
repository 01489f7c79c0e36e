"""AWS::Lambda::Function.

Source: CloudFormation Template Reference, "AWS::Lambda::Function": which property replaces, what Ref and GetAtt give.
"""

from __future__ import annotations

import io
import zipfile
from importlib.resources import files
from typing import Any

from lading.service.stacks.kinds.kind import (
    Properties,
    ResourceError,
    Wanted,
    arguments,
    changed,
    gone_is_well,
    tag_map,
)
from lading.service.stacks.records import Made
from lading.service.stacks.site import PATIENCE, Site

LONGEST_INLINE = 4 * 1024 * 1024
"""Characters of Code.ZipFile ("ZipFile", maximum)."""
_SHORTEST, _LONGEST = 0.02, 0.5
"""Seconds between looks at what is under way."""
_CONFIGURED: dict[str, Any] = {
    "DeadLetterConfig": {},
    "Description": "",
    "Environment": {},
    "EphemeralStorage": {"Size": 512},
    "FileSystemConfigs": [],
    "Handler": None,
    "ImageConfig": {},
    "KmsKeyArn": "",
    "Layers": [],
    "LoggingConfig": {"LogFormat": "Text"},
    "MemorySize": 128,
    "Role": None,
    "Runtime": None,
    "SnapStart": {"ApplyOn": "None"},
    "Timeout": 3,
    "TracingConfig": {"Mode": "PassThrough"},
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
}
"""What UpdateFunctionConfiguration sets, and what a property is when a template has it no more."""
_CREATED = (
    "Architectures",
    "CapacityProviderConfig",
    "CodeSigningConfigArn",
    "DurableConfig",
    "PackageType",
    "TenancyConfig",
)
_AFTER = ("FunctionName", "Code", "Tags", "ReservedConcurrentExecutions", "RecursiveLoop", "RuntimeManagementConfig")


def _named(properties: Properties) -> Properties:
    """With the API's spelling of the one property that CloudFormation spells otherwise."""
    return {"KMSKeyArn" if name == "KmsKeyArn" else name: value for name, value in properties.items()}


class Functions:
    """The Kind of functions. Its identity is the function's name."""

    known = frozenset({*_CONFIGURED, *_CREATED, *_AFTER})
    fixed = frozenset({"FunctionName", "PackageType", "TenancyConfig", "DurableConfig", "CapacityProviderConfig"})

    def create(self, site: Site, wanted: Wanted) -> Made:
        given = wanted.properties
        api = wanted.with_properties(_named(given))
        members = [name for name in api.properties if name in {*_named(_CONFIGURED), *_CREATED}]
        parameters = arguments(site, "lambda", "CreateFunction", api, members)
        name = wanted.name("FunctionName")
        code = _code(site, wanted)
        if "ImageUri" in code:
            parameters.setdefault("PackageType", "Image")
        made = site.call(
            "lambda", "create_function", FunctionName=name, Code=code, Tags=tag_map(site, wanted) or None, **parameters
        )
        found = Made(name, {"Arn": made["FunctionArn"]})
        wanted.begun(found)
        wait_until_ready(site, name)
        if "ReservedConcurrentExecutions" in given:
            self._reserve(site, name, wanted)
        self._settings(site, name, {}, wanted)
        return _described(site, name)

    def update(self, site: Site, made: Made, old: Properties, wanted: Wanted) -> Made:
        new, name = wanted.properties, made.identity
        if changed(old, new, "Code", "Architectures"):
            parameters = arguments(site, "lambda", "UpdateFunctionCode", wanted, ["Architectures"])
            site.call("lambda", "update_function_code", FunctionName=name, **_code(site, wanted), **parameters)
            wait_until_ready(site, name)
        if changed(old, new, *_CONFIGURED):
            wished = {
                key: new.get(key, default)
                for key, default in _CONFIGURED.items()
                if old.get(key) != new.get(key) and new.get(key, default) is not None
            }
            api = wanted.with_properties(_named(wished))
            parameters = arguments(site, "lambda", "UpdateFunctionConfiguration", api, api.properties)
            site.call("lambda", "update_function_configuration", FunctionName=name, **parameters)
            wait_until_ready(site, name)
        if changed(old, new, "ReservedConcurrentExecutions"):
            self._reserve(site, name, wanted)
        if changed(old, new, "CodeSigningConfigArn"):
            arn = new.get("CodeSigningConfigArn")
            if arn:
                site.call("lambda", "put_function_code_signing_config", FunctionName=name, CodeSigningConfigArn=arn)
            else:
                site.call("lambda", "delete_function_code_signing_config", FunctionName=name)
        self._settings(site, name, old, wanted)
        retag(site, made.attributes["Arn"], wanted)
        return _described(site, name)

    def delete(self, site: Site, made: Made, properties: Properties) -> None:
        gone_is_well(lambda: site.call("lambda", "delete_function", FunctionName=made.identity))

    def _reserve(self, site: Site, name: str, wanted: Wanted) -> None:
        given = arguments(site, "lambda", "PutFunctionConcurrency", wanted, ["ReservedConcurrentExecutions"])
        if given:
            site.call("lambda", "put_function_concurrency", FunctionName=name, **given)
        else:
            site.call("lambda", "delete_function_concurrency", FunctionName=name)

    def _settings(self, site: Site, name: str, old: Properties, wanted: Wanted) -> None:
        new = wanted.properties
        if changed(old, new, "RecursiveLoop"):
            loop = new.get("RecursiveLoop", "Terminate")
            site.call("lambda", "put_function_recursion_config", FunctionName=name, RecursiveLoop=loop)
        if changed(old, new, "RuntimeManagementConfig"):
            put_runtime(site, name, None, wanted, new.get("RuntimeManagementConfig", {"UpdateRuntimeOn": "Auto"}))


def put_runtime(site: Site, name: str, qualifier: str | None, wanted: Wanted, wished: Any) -> None:
    """How the runtime of a function or version is updated."""
    given = arguments(site, "lambda", "PutRuntimeManagementConfig", wanted.with_properties(wished), wished)
    site.call("lambda", "put_runtime_management_config", FunctionName=name, Qualifier=qualifier, **given)


def _described(site: Site, name: str) -> Made:
    found = site.call("lambda", "get_function_configuration", FunctionName=name)
    arn = str(found["FunctionArn"])
    snap = found.get("SnapStart") or {"ApplyOn": "None", "OptimizationStatus": "Off"}
    return Made(
        name,
        {"Arn": arn, "SnapStartResponse": snap, **{f"SnapStartResponse.{key}": value for key, value in snap.items()}},
    )


def _code(site: Site, wanted: Wanted) -> dict[str, Any]:
    given = wanted.properties.get("Code")
    if not isinstance(given, dict):
        raise ResourceError(
            f"Properties validation failed for resource {wanted.logical} with message: #: required key [Code] not found"
        )
    if "ZipFile" in given:
        return {"ZipFile": inline(str(given["ZipFile"]), str(wanted.properties.get("Runtime", "")))}
    return arguments(site, "lambda", "UpdateFunctionCode", wanted.with_properties(given), given)


def inline(source: str, runtime: str) -> bytes:
    """A package of one source file, as CloudFormation makes it: index.py or index.js, with the module cfnresponse."""
    if len(source) > LONGEST_INLINE:
        raise ResourceError(f"Code.ZipFile has more than {LONGEST_INLINE} characters")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        if runtime.startswith("nodejs"):
            _add(archive, "index.js", source)
        elif runtime.startswith("python"):
            _add(archive, "index.py", source)
            _add(
                archive,
                "cfnresponse.py",
                files("lading.service.stacks.kinds").joinpath("cfnresponse.py").read_text("utf-8"),
            )
        else:
            raise ResourceError(
                f"ZipFile can only be used when Runtime is set to either of nodejs, python, not {runtime or 'none'}"
            )
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o644 << 16
    archive.writestr(member, text, zipfile.ZIP_DEFLATED)


def wait_until_ready(site: Site, name: str, qualifier: str | None = None) -> None:
    """Until nothing is under way. Raises ResourceError for what failed."""
    waited, pause = 0.0, _SHORTEST
    while True:
        found = site.call("lambda", "get_function_configuration", FunctionName=name, Qualifier=qualifier)
        if found.get("State") == "Failed":
            raise ResourceError(
                f'Resource handler returned message: "{found.get("StateReason", "the function failed")}"'
            )
        if found.get("LastUpdateStatus") == "Failed":
            raise ResourceError(
                f'Resource handler returned message: "{found.get("LastUpdateStatusReason", "the update failed")}"'
            )
        if found.get("State") != "Pending" and found.get("LastUpdateStatus") != "InProgress":
            return
        if waited > PATIENCE:
            raise ResourceError(f"{name} is not ready after {PATIENCE:.0f} seconds")
        site.pause(pause)
        waited, pause = waited + pause, min(pause * 1.5, _LONGEST)


def retag(site: Site, arn: str, wanted: Wanted) -> None:
    """Brings the tags of one of Lambda's resources to what they are to be."""
    tags = tag_map(site, wanted)
    there = site.call("lambda", "list_tags", Resource=arn).get("Tags", {})
    if over := sorted(set(there) - set(tags)):
        site.call("lambda", "untag_resource", Resource=arn, TagKeys=over)
    if more := {key: value for key, value in tags.items() if there.get(key) != value}:
        site.call("lambda", "tag_resource", Resource=arn, Tags=more)
