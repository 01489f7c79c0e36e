"""Aliases, with weights for a second version."""

from __future__ import annotations

from lading.service.control.call import (
    Call,
    Operation,
    Parameters,
    Result,
    check_revision,
    given,
    limit_of,
    new_revision,
    page,
    read_marker,
)
from lading.service.control.facts import facts
from lading.service.control.names import LATEST
from lading.service.control.refusal import alias_not_found, conflict, function_not_found, invalid, not_found


def create_alias(call: Call, parameters: Parameters) -> Result:
    name, alias = call.reference(parameters, action="CreateAlias").name, parameters["Name"]
    version = parameters["FunctionVersion"]
    arn = call.scope.function_arn(name, alias)
    if call.version(name, version) is None:
        raise function_not_found(call.scope.function_arn(name, version))
    weights = _weights(call, name, version, parameters.get("RoutingConfig", {}))
    if call.state.get(call.key("alias", name, alias)) is not None:
        raise conflict(f"Alias already exists: {arn}")
    document = {
        "AliasArn": arn,
        "Name": alias,
        "FunctionVersion": version,
        "Description": parameters.get("Description", ""),
        "RevisionId": new_revision(),
        "_weights": weights,
    }
    call.state.put(call.key("alias", name, alias), document)
    return _shown(document)


def _shown(document: Result) -> Result:
    weights = document["_weights"]
    return document | ({"RoutingConfig": {"AdditionalVersionWeights": weights}} if weights else {})


def _weights(call: Call, name: str, version: str, routing: Parameters) -> dict[str, float]:
    """The weights of a routing configuration. Raises ApiError for those that Lambda refuses."""
    weights: dict[str, float] = routing.get("AdditionalVersionWeights", {})
    if not weights:
        return {}
    if len(weights) > facts()["aliases_per_routing"]:
        raise invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
    if version == LATEST:
        raise invalid("$LATEST is not supported for an alias pointing to more than 1 version")
    for other in weights:
        if other == version:
            raise invalid(
                f"Invalid function version {other}. Function version {other} is already included in routing configuration."
            )
        if call.version(name, other) is None:
            raise function_not_found(call.scope.function_arn(name, other))
    return weights


def get_alias(call: Call, parameters: Parameters) -> Result:
    name = call.reference(parameters, action="GetAlias").name
    document = call.state.get(call.key("alias", name, parameters["Name"]))
    if document is None:
        raise alias_not_found(call.scope.function_arn(name, parameters["Name"]))
    return _shown(document)


def list_aliases(call: Call, parameters: Parameters) -> Result:
    """By name."""
    name = call.reference(parameters, action="ListAliases").name
    call.function(name)
    limit = limit_of(parameters, 50)
    wanted = parameters.get("FunctionVersion")
    records = [
        record
        for record in call.state.list_by_name(call.key("alias", name), after=read_marker(parameters))
        if wanted is None or wanted == record.document["FunctionVersion"]
    ]
    found, marker = page(records, limit, lambda record: record.key.name)
    return {"Aliases": [_shown(record.document) for record in found], "NextMarker": marker}


def update_alias(call: Call, parameters: Parameters) -> Result:
    name, alias = call.reference(parameters, action="UpdateAlias").name, parameters["Name"]
    old = call.state.get(call.key("alias", name, alias))
    if old is None:
        raise not_found(f"Alias not found: {call.scope.function_arn(name, alias)}")
    check_revision(parameters.get("RevisionId"), old["RevisionId"])
    new = old | given(parameters, "FunctionVersion", "Description") | {"RevisionId": new_revision()}
    if call.version(name, new["FunctionVersion"]) is None:
        raise function_not_found(call.scope.function_arn(name, new["FunctionVersion"]))
    routing = parameters.get("RoutingConfig", {"AdditionalVersionWeights": old["_weights"]})
    new["_weights"] = _weights(call, name, new["FunctionVersion"], routing)
    call.state.put(call.key("alias", name, alias), new)
    return _shown(new)


def delete_alias(call: Call, parameters: Parameters) -> Result:
    """With what hangs on it but its URL, which then answers Forbidden; one that isn't there is deleted already."""
    name, alias = call.reference(parameters, action="DeleteAlias").name, parameters["Name"]
    for kind in ("alias", "event-invoke", "provisioned", "policy"):
        call.state.delete(call.key(kind, name, alias))
    return {}


OPERATIONS: dict[str, Operation] = {
    "CreateAlias": create_alias,
    "GetAlias": get_alias,
    "ListAliases": list_aliases,
    "UpdateAlias": update_alias,
    "DeleteAlias": delete_alias,
}
