"""Layers: publish, get, list and delete their versions."""

from __future__ import annotations

from lading.service.control.call import (
    Call,
    Operation,
    Parameters,
    Result,
    encode_marker,
    given,
    limit_of,
    marker_number,
    page,
    read_marker,
)
from lading.service.control.names import LayerReference, layer_name, other_account, read_layer_arn
from lading.service.control.packages import Package
from lading.service.control.refusal import invalid, no_resource, not_here
from lading.service.state import Key
from lading.service.state.database import LAST

DESCRIBED = ("Description", "LicenseInfo", "CompatibleRuntimes", "CompatibleArchitectures")


def find_layer_version(call: Call, reference: LayerReference) -> Result | None:
    """A layer version of this region, of any account: its policy decides whether others may use it."""
    key = Key(reference.account, reference.region, "layer-version", reference.name, str(reference.version))
    found = call.state.get(key)
    if found is None or reference.account == call.scope.account or _shared(call, key):
        return found
    raise other_account(call.scope, "GetLayerVersion", found["LayerVersionArn"])


def _shared(call: Call, key: Key) -> bool:
    policy = call.state.get(Key(key.account, key.region, "layer-policy", key.parent, key.name))
    principals = [statement["Principal"] for statement in policy["Statement"]] if policy else []
    mine = f"arn:{call.scope.partition}:iam::{call.scope.account}:root"
    return any(principal in ("*", {"AWS": mine}) for principal in principals)


def uploaded(call: Call, content: Parameters) -> Package:
    """The package of a request's Code or Content. Raises ApiError when there is none or more than one."""
    others = [name for name in ("S3Bucket", "S3Key", "S3ObjectVersion", "ImageUri") if name in content]
    if "ZipFile" in content:
        if others:
            raise invalid("Please do not provide other FunctionCode parameters when providing a ZipFile.")
        return call.packages.add(content["ZipFile"])
    if "S3Bucket" in content or "S3Key" in content:
        return _from_bucket(call, content)
    if "ImageUri" in content:
        raise not_here("a container image (ImageUri)", "send a zip (ZipFile)")
    raise invalid("Please provide a source for function code.")


def _from_bucket(call: Call, content: Parameters) -> Package:
    if "S3Bucket" not in content or "S3Key" not in content:
        raise invalid("Please provide both S3Bucket and S3Key.")
    if call.outside is None:
        raise not_here("code from S3", "this service was started without neighbours; send the zip itself (ZipFile)")
    zipped = call.outside.fetch_object(
        call.scope, content["S3Bucket"], content["S3Key"], content.get("S3ObjectVersion")
    )
    return call.packages.add(zipped, uploaded=False)


def publish_layer_version(call: Call, parameters: Parameters) -> Result:
    name = layer_name(call.scope, parameters["LayerName"], action="PublishLayerVersion")
    if "ZipFile" in parameters["Content"] and not parameters["Content"]["ZipFile"]:
        raise invalid("Uploaded file must be a non-empty zip")
    package = uploaded(call, parameters["Content"])
    layer = call.state.get(call.key("layer", name=name)) or {"next": 1}
    number = layer["next"]
    arn = call.scope.arn(f"layer:{name}")
    version: Result = {
        "Content": {"CodeSha256": package.code_sha256, "CodeSize": package.size},
        "LayerArn": arn,
        "LayerVersionArn": f"{arn}:{number}",
        "Description": "",
        "CreatedDate": call.timestamp(),
        "Version": number,
        "_digest": package.digest,
        "_unzipped": package.unzipped,
    } | given(parameters, *DESCRIBED)
    call.state.put(call.key("layer", name=name), {"next": number + 1})
    call.state.put(call.key("layer-version", name, str(number)), version, position=number)
    return _shown(call, version)


def _shown(call: Call, version: Result) -> Result:
    content = version["Content"] | {"Location": call.location(version["_digest"])}
    return version | {"Content": content}


def get_layer_version(call: Call, parameters: Parameters) -> Result:
    number = version_number(parameters)
    name = layer_name(call.scope, parameters["LayerName"], action="GetLayerVersion")
    return _found(call, LayerReference(call.scope.region, call.scope.account, name, number))


def get_layer_version_by_arn(call: Call, parameters: Parameters) -> Result:
    return _found(call, read_layer_arn(parameters["Arn"]))


def _found(call: Call, reference: LayerReference) -> Result:
    version = find_layer_version(call, reference)
    if version is None:
        raise no_resource()
    return _shown(call, version)


def version_number(parameters: Parameters) -> int:
    number = int(parameters["VersionNumber"])
    if number < 1:
        raise invalid("Layer Version Cannot be less than 1")
    return number


def delete_layer_version(call: Call, parameters: Parameters) -> Result:
    number = version_number(parameters)
    name = layer_name(call.scope, parameters["LayerName"], action="DeleteLayerVersion")
    call.state.delete(call.key("layer-version", name, str(number)))
    call.state.delete(call.key("layer-policy", name, str(number)))
    return {}


def list_layer_versions(call: Call, parameters: Parameters) -> Result:
    """Newest first."""
    name = layer_name(call.scope, parameters["LayerName"], action="ListLayerVersions")
    limit = limit_of(parameters, 50)
    before = marker_number(parameters, LAST)
    records = call.state.list_newest(call.key("layer-version", name), before=before)
    fitting = [record for record in records if fits(record.document, parameters)][: limit + 1]
    found, marker = page(fitting, limit, lambda record: str(record.position))
    return {"LayerVersions": [item(record.document) for record in found], "NextMarker": marker}


def item(version: Result) -> Result:
    return given(version, "LayerVersionArn", "Version", "CreatedDate", *DESCRIBED)


def fits(version: Result, parameters: Parameters) -> bool:
    """Whether a version has the runtime and architecture a list is asked for."""
    runtime, architecture = parameters.get("CompatibleRuntime"), parameters.get("CompatibleArchitecture")
    return (runtime is None or runtime in version.get("CompatibleRuntimes", ())) and (
        architecture is None or architecture in version.get("CompatibleArchitectures", ())
    )


def list_layers(call: Call, parameters: Parameters) -> Result:
    """Each layer with the newest version that fits; layers without any are left out."""
    limit = limit_of(parameters, 50)
    layers: list[Result] = []
    marker = None
    for layer in call.state.list_by_name(call.key("layer"), after=read_marker(parameters)):
        name = layer.key.name
        versions = call.state.list_newest(call.key("layer-version", name))
        newest = next((record.document for record in versions if fits(record.document, parameters)), None)
        if newest is None:
            continue
        if len(layers) == limit:
            marker = encode_marker(layers[-1]["LayerName"])
            break
        layers.append({"LayerName": name, "LayerArn": newest["LayerArn"], "LatestMatchingVersion": item(newest)})
    return {"Layers": layers, "NextMarker": marker}


OPERATIONS: dict[str, Operation] = {
    "PublishLayerVersion": publish_layer_version,
    "GetLayerVersion": get_layer_version,
    "GetLayerVersionByArn": get_layer_version_by_arn,
    "DeleteLayerVersion": delete_layer_version,
    "ListLayerVersions": list_layer_versions,
    "ListLayers": list_layers,
}
