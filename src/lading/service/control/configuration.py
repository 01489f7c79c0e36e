"""A function's configuration: made from a request, changed by one, fingerprinted and shown. Reads layers, writes nothing.

What is kept is the API's own FunctionConfiguration; members that begin with an underscore are the service's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from lading.errors import ConfigError
from lading.model.quotas import quotas
from lading.model.target import find_target
from lading.service.control.call import Call, Parameters, Result, given
from lading.service.control.facts import facts
from lading.service.control.images import is_image, set_config
from lading.service.control.layers import find_layer_version
from lading.service.control.names import LATEST, read_layer_arn
from lading.service.control.packages import MAXIMUM_UNZIPPED
from lading.service.control.refusal import invalid, not_here

PLAIN = ("Runtime", "Role", "Handler", "Description", "Timeout", "MemorySize")
"""Members that a request gives as they are kept."""
NOT_YET = ("FileSystemConfigs", "TenancyConfig", "CapacityProviderConfig", "DurableConfig", "RuntimeConfig",
           "AcceleratorConfig", "PublishTo")  # fmt: skip
TRANSIENT = ("State", "StateReason", "StateReasonCode", "LastUpdateStatus", "LastUpdateStatusReason",
             "LastUpdateStatusReasonCode", "RuntimeVersionConfig")  # fmt: skip
"""Members that lists leave out."""
_VOLATILE = {*TRANSIENT, "RevisionId", "LastModified", "Version", "_fingerprint", "_serving"}


def first_configuration(call: Call, name: str, parameters: Parameters) -> Result:
    """Of a new function, without its code. Raises ApiError for values that Lambda refuses."""
    configuration: Result = {
        "FunctionName": name,
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "Version": LATEST,
        "TracingConfig": {"Mode": "PassThrough"},
        "PackageType": parameters.get("PackageType", "Zip"),
        "Architectures": parameters.get("Architectures", ["x86_64"]),
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
    }
    return changed_configuration(call, configuration, parameters)


def changed_configuration(call: Call, old: Result, parameters: Parameters) -> Result:
    """The old one with what a request changes. Raises ApiError for values that Lambda refuses."""
    for member in NOT_YET:
        if parameters.get(member):
            raise not_here(member)
    new = old | given(parameters, *PLAIN)
    if "Role" in parameters and call.outside is not None:
        call.outside.check_role(call.scope, parameters["Role"])
    if "Runtime" in parameters:
        check_runtime(parameters["Runtime"], new["Architectures"][0])
        new["RuntimeVersionConfig"] = {"RuntimeVersionArn": runtime_version(call, parameters["Runtime"])}
    for member, change in _CHANGES.items():
        if member in parameters:
            change(call, new, parameters[member])
    _check_snapstart(new)
    return new


def check_runtime(runtime: str, architecture: str) -> None:
    """Raises ApiError for a runtime that AWS doesn't take, or takes and lading can't run."""
    if runtime in facts()["refused_runtimes"]:
        raise invalid(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. "
            "We recommend you use a supported runtime while creating or updating functions."
        )
    try:
        find_target(runtime, architecture)
    except ConfigError as error:
        if runtime in facts()["creatable_runtimes"]:
            raise not_here(f"the runtime {runtime}", error.hint) from None
        known = ", ".join(facts()["creatable_runtimes"])
        raise invalid(
            f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
            f"[{known}] or be a valid ARN"
        ) from None


def runtime_version(call: Call, runtime: str) -> str:
    """An ARN of AWS's form; the same for the same runtime, as nothing here ever updates one."""
    identity = hashlib.sha256(f"lading {runtime}".encode()).hexdigest()
    return f"arn:{call.scope.partition}:lambda:{call.scope.region}::runtime:{identity}"


def _environment(call: Call, new: Result, value: Any) -> None:
    variables = value.get("Variables")
    if not variables:
        new.pop("Environment", None)
        return
    reserved = [name for name in variables if name in quotas().reserved_variables]
    refusal = (
        "Lambda was unable to configure your environment variables because the environment variables you have provided"
    )
    if reserved:
        raise invalid(
            f"{refusal} contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = json.dumps(variables, ensure_ascii=False, separators=(",", ":"))
    if len(measured.encode()) > quotas().environment_bytes:
        raise invalid(f"{refusal} exceeded the 4KB limit. String measured: {measured}")
    new["Environment"] = {"Variables": variables}


def _vpc(call: Call, new: Result, value: Any) -> None:
    if value.get("SubnetIds") or value.get("SecurityGroupIds"):
        raise not_here("VpcConfig with subnets or security groups")
    new["VpcConfig"] = {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": "", "Ipv6AllowedForDualStack": False}


def _dead_letters(call: Call, new: Result, value: Any) -> None:
    target = value.get("TargetArn")
    if not target:
        new.pop("DeadLetterConfig", None)
        return
    if target.split(":")[2] not in ("sqs", "sns"):
        raise invalid(
            f"The target of a dead-letter queue must be an Amazon SQS queue or an Amazon SNS topic, not {target}"
        )
    new["DeadLetterConfig"] = {"TargetArn": target}


def _key(call: Call, new: Result, value: str) -> None:
    if value:
        new["KMSKeyArn"] = value
    else:
        new.pop("KMSKeyArn", None)


def _tracing(call: Call, new: Result, value: Any) -> None:
    new["TracingConfig"] = {"Mode": value.get("Mode", "PassThrough")}


def _storage(call: Call, new: Result, value: Any) -> None:
    new["EphemeralStorage"] = value


def _snapstart(call: Call, new: Result, value: Any) -> None:
    new["SnapStart"] = {"ApplyOn": value.get("ApplyOn", "None"), "OptimizationStatus": "Off"}


def _check_snapstart(new: Result) -> None:
    if new["SnapStart"]["ApplyOn"] == "None":
        return
    if not is_image(new) and new["Runtime"] not in facts()["snapstart_runtimes"]:
        raise invalid(f"{new['Runtime']} is not supported for SnapStart enabled functions.")
    if new["EphemeralStorage"]["Size"] > facts()["snapstart_storage"]:
        raise invalid("SnapStart is not supported for functions with more than 512 MB of ephemeral storage.")


def has_snapshot(configuration: Result) -> bool:
    """Whether environments of this version are restored from a snapshot: of published versions only, never of $LATEST."""
    applied: bool = configuration["SnapStart"]["ApplyOn"] == "PublishedVersions"
    return applied and configuration["Version"] != LATEST


def _logging(call: Call, new: Result, value: Any) -> None:
    old = new["LoggingConfig"]
    style = value.get("LogFormat", old["LogFormat"])
    logging = {"LogFormat": style, "LogGroup": value.get("LogGroup", old["LogGroup"])}
    levels = given(value, "ApplicationLogLevel", "SystemLogLevel")
    if style == "Text" and levels:
        raise invalid(f"{' and '.join(levels)} can only be set when LogFormat is JSON.")
    if style == "JSON":
        kept = given(old, "ApplicationLogLevel", "SystemLogLevel")
        logging |= {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"} | kept | levels
    new["LoggingConfig"] = logging


def _layers(call: Call, new: Result, arns: list[str]) -> None:
    if len(arns) > quotas().layers:
        raise invalid(f"Cannot reference more than {quotas().layers} layers.")
    seen: dict[str, str] = {}
    layers: list[Result] = []
    own = []
    for arn in arns:
        layer = arn.rpartition(":")[0]
        if layer in seen:
            raise invalid(
                "Two different versions of the same layer are not allowed to be referenced in the same function. "
                f"{seen[layer]} and {arn} are versions of the same layer."
            )
        seen[layer] = arn
        found = _layer(call, new, arn)
        layers.append({"Arn": arn, "CodeSize": found["Content"]["CodeSize"]})
        own.append({"digest": found["_digest"], "unzipped": found["_unzipped"]})
    if sum(entry["unzipped"] for entry in own) > MAXIMUM_UNZIPPED:
        raise invalid(f"Layers consume more than the available size of {MAXIMUM_UNZIPPED} bytes")
    for member, content in (("Layers", layers), ("_layers", own)):
        if content:
            new[member] = content
        else:
            new.pop(member, None)


def _layer(call: Call, new: Result, arn: str) -> Result:
    reference = read_layer_arn(arn)
    if reference.region != call.scope.region:
        raise invalid(
            "Layers are not in the same region as the function. "
            f"Layers are expected to be in region {call.scope.region}."
        )
    found = find_layer_version(call, reference)
    if found is None:
        raise invalid(f"Layer version {arn} does not exist.")
    _check_architecture(new, found)
    return found


def _check_architecture(new: Result, layer: Result) -> None:
    fits = layer.get("CompatibleArchitectures")
    if fits and new["Architectures"][0] not in fits:
        arn = layer["LayerVersionArn"]
        raise invalid(f"Layer version {arn} is not compatible with the architecture {new['Architectures'][0]}.")


def check_layers_fit(call: Call, new: Result) -> None:
    """Raises ApiError for layers of another architecture than the function's new one; deleted ones are let be."""
    for layer in new.get("Layers", ()):
        found = find_layer_version(call, read_layer_arn(layer["Arn"]))
        if found is not None:
            _check_architecture(new, found)


_CHANGES: dict[str, Callable[[Call, Result, Any], None]] = {
    "Environment": _environment,
    "VpcConfig": _vpc,
    "DeadLetterConfig": _dead_letters,
    "KMSKeyArn": _key,
    "TracingConfig": _tracing,
    "EphemeralStorage": _storage,
    "SnapStart": _snapstart,
    "LoggingConfig": _logging,
    "Layers": _layers,
    "ImageConfig": lambda call, new, value: set_config(new, value),
}


def check_unzipped(configuration: Result) -> None:
    """Raises ApiError when code and layers together are too big; the message quotes what the layers leave."""
    left = MAXIMUM_UNZIPPED - sum(layer["unzipped"] for layer in configuration.get("_layers", ()))
    if configuration["_unzipped"] > left:
        raise invalid(f"Unzipped size must be smaller than {left} bytes")


def fingerprint(configuration: Result) -> str:
    """Equal for configurations between which publishing makes no new version."""
    stable = {name: value for name, value in configuration.items() if name not in _VOLATILE}
    return hashlib.sha256(json.dumps(stable, sort_keys=True).encode()).hexdigest()


def shown(call: Call, configuration: Result, qualifier: str | None = None) -> Result:
    """As GetFunctionConfiguration gives it, under the qualifier it was asked for."""
    return configuration | {"FunctionArn": call.scope.function_arn(configuration["FunctionName"], qualifier)}


def listed(call: Call, configuration: Result, qualifier: str | None = None) -> Result:
    """As lists give it: without states."""
    whole = shown(call, configuration, qualifier)
    return {name: value for name, value in whole.items() if name not in TRANSIENT}
