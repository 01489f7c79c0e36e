"""Functions: create, get, list, update code and configuration, delete."""

from __future__ import annotations

from lading.model.quotas import quotas
from lading.service.contract.errors import ConstraintError
from lading.service.control.call import (
    Call,
    Operation,
    Parameters,
    Result,
    check_revision,
    limit_of,
    new_revision,
    page,
    read_marker,
)
from lading.service.control.configuration import (
    changed_configuration,
    check_layers_fit,
    check_unzipped,
    first_configuration,
    listed,
    shown,
)
from lading.service.control.images import (
    check_change,
    check_code,
    check_creation,
    is_image,
    pinned,
    set_image,
    shown_code,
)
from lading.service.control.layers import uploaded
from lading.service.control.names import LATEST, is_version, read_reference
from lading.service.control.packages import Package
from lading.service.control.refusal import conflict, function_not_found, invalid, not_here
from lading.service.control.signing import attach_signing, check_signing
from lading.service.control.tags import check_tags
from lading.service.control.versions import publish

CREATING = {"StateReason": "The function is being created.", "StateReasonCode": "Creating"}
UPDATING = {
    "LastUpdateStatus": "InProgress",
    "LastUpdateStatusReason": "The function is being created.",
    "LastUpdateStatusReasonCode": "Creating",
}
BELONGINGS = ("version", "alias", "event-invoke", "url", "provisioned", "policy", "scaling", "runtime-management")
"""Kinds of records that go with their function."""


def create_function(call: Call, parameters: Parameters) -> Result:
    reference = read_reference(call.scope, parameters["FunctionName"], action="CreateFunction")
    name = reference.name
    _check_name(name)
    check_creation(parameters)
    check_tags(parameters.get("Tags", {}))
    configuration = first_configuration(call, name, parameters)
    if call.state.get(call.key("function", name=name)) is not None:
        raise conflict(f"Function already exist: {name}")
    if is_image(parameters):
        uri = parameters["Code"]["ImageUri"]
        set_image(configuration, pinned(call.images, parameters, uri, (call.scope, call.endpoint)))
    else:
        _set_code(configuration, uploaded(call, parameters["Code"]))
    configuration |= {"LastModified": call.timestamp(), "RevisionId": new_revision(), "State": "Pending", **CREATING}
    call.state.put(call.key("function", name=name), {"next": 1, "tags": parameters.get("Tags", {})})
    if "CodeSigningConfigArn" in parameters:
        attach_signing(call, name, parameters["CodeSigningConfigArn"])
        check_signing(call, name)
    call.put_version(configuration)
    call.later(call.key("version", name, LATEST))
    if parameters.get("Publish"):
        return shown(call, publish(call, configuration))
    return shown(call, configuration)


def _check_name(name: str) -> None:
    longest = quotas().function_name
    if len(name) > longest:
        constraint = f"Member must have length less than or equal to {longest}"
        violation = f"Value '{name}' at 'functionName' failed to satisfy constraint: {constraint}"
        raise ConstraintError([violation], code="InvalidParameterValueException")


def _set_code(configuration: Result, package: Package) -> None:
    configuration |= {
        "CodeSha256": package.code_sha256,
        "CodeSize": package.size,
        "_digest": package.digest,
        "_unzipped": package.unzipped,
    }
    check_unzipped(configuration)


def get_function(call: Call, parameters: Parameters) -> Result:
    reference = call.reference(parameters)
    _, configuration = call.resolve(reference)
    function = call.function(reference.name)
    result: Result = {
        "Configuration": shown(call, configuration, reference.qualifier),
        "Code": {"RepositoryType": "S3", "Location": call.location(configuration["_digest"])},
    }
    if is_image(configuration):
        result["Code"] = shown_code(configuration)
    if function["tags"]:
        result["Tags"] = function["tags"]
    if function.get("reserved") is not None:
        result["Concurrency"] = {"ReservedConcurrentExecutions": function["reserved"]}
    return result


def get_function_configuration(call: Call, parameters: Parameters) -> Result:
    reference = call.reference(parameters, action="GetFunctionConfiguration")
    _, configuration = call.resolve(reference)
    return shown(call, configuration, reference.qualifier)


def list_functions(call: Call, parameters: Parameters) -> Result:
    """By name; with FunctionVersion=ALL every version, each under its qualified ARN."""
    if parameters.get("FunctionVersion") == "ALL":
        return _list_all_versions(call, parameters)
    limit = limit_of(parameters, 50)
    names = call.state.list_by_name(call.key("function"), after=read_marker(parameters), limit=limit + 1)
    found, marker = page(names, limit, lambda record: record.key.name)
    configurations = [call.version(record.key.name, LATEST) for record in found]
    return {"Functions": [listed(call, one) for one in configurations if one is not None], "NextMarker": marker}


def _list_all_versions(call: Call, parameters: Parameters) -> Result:
    limit = limit_of(parameters, 50)
    name, _, position = read_marker(parameters).partition(":")
    if position and not position.isdigit():
        raise invalid(f"Invalid marker: {parameters['Marker'][:100]}")
    key = call.key("version", name)
    records = call.state.list_kind(key, after=int(position) if position else -1, limit=limit + 1)
    found, marker = page(records, limit, lambda record: f"{record.key.parent}:{record.position}")
    functions = [listed(call, record.document, record.document["Version"]) for record in found]
    return {"Functions": functions, "NextMarker": marker}


def updatable(call: Call, name: str) -> Result:
    """The $LATEST that may be changed now. Raises ApiError while a change is under way."""
    configuration = call.version(name, LATEST)
    if configuration is None:
        raise function_not_found(call.scope.function_arn(name))
    if configuration["State"] == "Pending":
        raise conflict(
            "The operation cannot be performed at this time. The function is currently in the following state: Pending"
        )
    if configuration.get("LastUpdateStatus") == "InProgress":
        raise conflict(
            "The operation cannot be performed at this time. "
            f"An update is in progress for resource: {call.scope.function_arn(name)}"
        )
    return configuration


def _own_name(call: Call, parameters: Parameters, action: str) -> str:
    """The name of the function that an update is about; a qualifier other than $LATEST is refused."""
    reference = read_reference(call.scope, parameters["FunctionName"], action=action)
    if reference.qualifier not in (None, LATEST):
        raise invalid("This operation is permitted on Lambda functions only. Aliases and versions do not support this "
                      "operation. Please specify either a function name or an unqualified function ARN.")  # fmt: skip
    return reference.name


def update_function_code(call: Call, parameters: Parameters) -> Result:
    name = _own_name(call, parameters, "UpdateFunctionCode")
    old = updatable(call, name)
    check_revision(parameters.get("RevisionId"), old["RevisionId"])
    check_code(old, parameters)
    if parameters.get("PublishTo"):
        raise not_here("PublishTo")
    check_signing(call, name)
    new = _successor(old) | {"Architectures": parameters.get("Architectures", old["Architectures"])}
    check_layers_fit(call, new)
    if is_image(old):
        set_image(new, pinned(call.images, parameters, parameters["ImageUri"], (call.scope, call.endpoint)))
    else:
        _set_code(new, uploaded(call, parameters))
    if parameters.get("DryRun"):
        return shown(call, new)
    return _store_update(call, new, parameters)


def _successor(old: Result) -> Result:
    """What an update changes. It keeps, as `_serving`, what runs until the update is successful: the old one, or what that
    kept when its own update failed."""
    if old["State"] != "Active" or "_serving" in old:
        return old
    return old | {"_serving": old}


def _store_update(call: Call, new: Result, parameters: Parameters) -> Result:
    new |= {"LastModified": call.timestamp(), "RevisionId": new_revision(), **UPDATING}
    call.put_version(new)
    call.later(call.key("version", new["FunctionName"], LATEST))
    if parameters.get("Publish"):
        version = publish(call, new)
        return shown(call, version, version["Version"])
    return shown(call, new)


def update_function_configuration(call: Call, parameters: Parameters) -> Result:
    name = _own_name(call, parameters, "UpdateFunctionConfiguration")
    old = updatable(call, name)
    check_revision(parameters.get("RevisionId"), old["RevisionId"])
    check_change(old, parameters)
    new = changed_configuration(call, _successor(old), parameters)
    check_unzipped(new)
    return _store_update(call, new, {})


def delete_function(call: Call, parameters: Parameters) -> Result:
    reference = call.reference(parameters, action="DeleteFunction")
    if reference.qualifier is not None:
        return _delete_version(call, reference.name, reference.qualifier)
    call.function(reference.name)
    call.state.delete(call.key("function", name=reference.name))
    for kind in BELONGINGS:
        call.state.delete_children(call.key(kind, reference.name))
    return {"StatusCode": 204}


def _delete_version(call: Call, name: str, qualifier: str) -> Result:
    if qualifier == LATEST:
        call.function(name)
        raise invalid("$LATEST version cannot be deleted without deleting the function.")
    if not is_version(qualifier):
        if qualifier.startswith("$"):
            raise function_not_found(call.scope.function_arn(name))
        raise invalid("Deletion of aliases is not currently supported.")
    call.function(name)
    users = [
        record.key.name
        for record in call.state.list_by_name(call.key("alias", name))
        if qualifier in (record.document["FunctionVersion"], *record.document["_weights"])
    ]
    if users:
        raise conflict(f"Version {qualifier} is being used by alias {', '.join(users)}")
    if call.version(name, qualifier) is None:
        raise function_not_found(call.scope.function_arn(name))
    for kind in ("version", "event-invoke", "provisioned", "policy"):
        call.state.delete(call.key(kind, name, qualifier))
    return {"StatusCode": 204}


OPERATIONS: dict[str, Operation] = {
    "CreateFunction": create_function,
    "GetFunction": get_function,
    "GetFunctionConfiguration": get_function_configuration,
    "ListFunctions": list_functions,
    "UpdateFunctionCode": update_function_code,
    "UpdateFunctionConfiguration": update_function_configuration,
    "DeleteFunction": delete_function,
}
