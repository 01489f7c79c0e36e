"""Code signing configurations. Kept and attached; nothing here is signed, so one that enforces refuses every upload."""

from __future__ import annotations

import secrets

from lading.service.contract.errors import ApiError
from lading.service.control.call import Call, Operation, Parameters, Result, given, limit_of, page, read_marker
from lading.service.control.images import is_image, no_signing
from lading.service.control.names import LATEST, read_reference
from lading.service.control.refusal import conflict, not_found


def _identity(arn: str) -> str:
    return arn.rpartition(":")[2]


def _config(call: Call, arn: str) -> Result:
    found = call.state.get(call.key("code-signing-config", name=_identity(arn)))
    if found is None or found["CodeSigningConfigArn"] != arn:
        raise not_found(f"The Lambda code signing configuration {arn} can not be found.")
    return found


def create_code_signing_config(call: Call, parameters: Parameters) -> Result:
    identity = f"csc-{secrets.token_hex(9)[:17]}"
    config = {
        "CodeSigningConfigId": identity,
        "CodeSigningConfigArn": call.scope.arn(f"code-signing-config:{identity}"),
        "Description": parameters.get("Description", ""),
        "AllowedPublishers": parameters["AllowedPublishers"],
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"} | parameters.get("CodeSigningPolicies", {}),
        "LastModified": call.timestamp(),
        "tags": parameters.get("Tags", {}),
    }
    call.state.put(call.key("code-signing-config", name=identity), config)
    return {"CodeSigningConfig": config}


def get_code_signing_config(call: Call, parameters: Parameters) -> Result:
    return {"CodeSigningConfig": _config(call, parameters["CodeSigningConfigArn"])}


def update_code_signing_config(call: Call, parameters: Parameters) -> Result:
    old = _config(call, parameters["CodeSigningConfigArn"])
    changes = given(parameters, "Description", "AllowedPublishers", "CodeSigningPolicies")
    new = old | changes | ({"LastModified": call.timestamp()} if changes else {})
    call.state.put(call.key("code-signing-config", name=_identity(old["CodeSigningConfigArn"])), new)
    return {"CodeSigningConfig": new}


def delete_code_signing_config(call: Call, parameters: Parameters) -> Result:
    arn = _config(call, parameters["CodeSigningConfigArn"])["CodeSigningConfigArn"]
    users = _users(call, arn)
    if users:
        raise conflict(f"Cannot delete code signing configuration {arn}: it is used by {users[0]}")
    call.state.delete(call.key("code-signing-config", name=_identity(arn)))
    return {}


def list_code_signing_configs(call: Call, parameters: Parameters) -> Result:
    limit = limit_of(parameters, 10000)
    records = call.state.list_by_name(call.key("code-signing-config"), after=read_marker(parameters), limit=limit + 1)
    found, marker = page(records, limit, lambda record: record.key.name)
    return {"CodeSigningConfigs": [record.document for record in found], "NextMarker": marker}


def _users(call: Call, arn: str) -> list[str]:
    functions = call.state.list_by_name(call.key("function"))
    return [call.scope.function_arn(r.key.name) for r in functions if r.document.get("signing") == arn]


def list_functions_by_code_signing_config(call: Call, parameters: Parameters) -> Result:
    return {"FunctionArns": _users(call, _config(call, parameters["CodeSigningConfigArn"])["CodeSigningConfigArn"])}


def attach_signing(call: Call, name: str, arn: str) -> None:
    """Raises CodeSigningConfigNotFoundException for one that isn't there."""
    if call.state.get(call.key("code-signing-config", name=_identity(arn))) is None:
        raise ApiError(
            "CodeSigningConfigNotFoundException",
            "The code signing configuration cannot be found. "
            f"Check that the provided configuration is not deleted: {arn}.",
        )
    call.state.put(call.key("function", name=name), call.function(name) | {"signing": arn})


def check_signing(call: Call, name: str) -> None:
    """Raises CodeVerificationFailedException for unsigned code where the function's configuration enforces signing."""
    arn = call.function(name).get("signing")
    if arn and _config(call, arn)["CodeSigningPolicies"]["UntrustedArtifactOnDeployment"] == "Enforce":
        raise ApiError(
            "CodeVerificationFailedException",
            "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is "
            f"not configured to accept. Check the provided signature for {name}.",
        )


def _signable(call: Call, parameters: Parameters) -> str:
    """The function's name. Raises ApiError for an image."""
    name = read_reference(call.scope, parameters["FunctionName"]).name
    if is_image(call.version(name, LATEST) or {}):
        raise no_signing()
    return name


def put_function_code_signing_config(call: Call, parameters: Parameters) -> Result:
    name = _signable(call, parameters)
    attach_signing(call, name, parameters["CodeSigningConfigArn"])
    return {"CodeSigningConfigArn": parameters["CodeSigningConfigArn"], "FunctionName": name}


def get_function_code_signing_config(call: Call, parameters: Parameters) -> Result:
    name = _signable(call, parameters)
    arn = call.function(name).get("signing")
    return {"CodeSigningConfigArn": arn, "FunctionName": name} if arn else {}


def delete_function_code_signing_config(call: Call, parameters: Parameters) -> Result:
    name = read_reference(call.scope, parameters["FunctionName"]).name
    function = call.function(name)
    function.pop("signing", None)
    call.state.put(call.key("function", name=name), function)
    return {}


OPERATIONS: dict[str, Operation] = {
    "CreateCodeSigningConfig": create_code_signing_config,
    "GetCodeSigningConfig": get_code_signing_config,
    "UpdateCodeSigningConfig": update_code_signing_config,
    "DeleteCodeSigningConfig": delete_code_signing_config,
    "ListCodeSigningConfigs": list_code_signing_configs,
    "ListFunctionsByCodeSigningConfig": list_functions_by_code_signing_config,
    "PutFunctionCodeSigningConfig": put_function_code_signing_config,
    "GetFunctionCodeSigningConfig": get_function_code_signing_config,
    "DeleteFunctionCodeSigningConfig": delete_function_code_signing_config,
}
