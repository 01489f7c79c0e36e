"""Reserved and provisioned concurrency, and the account's settings with what is really used."""

from __future__ import annotations

from lading.service.contract.errors import ApiError
from lading.service.control.call import Call, Operation, Parameters, Result, limit_of, page, read_marker
from lading.service.control.configuration import has_snapshot
from lading.service.control.facts import facts
from lading.service.control.names import LATEST, FunctionReference, is_version
from lading.service.control.packages import MAXIMUM_UNZIPPED, MAXIMUM_ZIPPED
from lading.service.control.refusal import alias_not_found, conflict, function_not_found, invalid


def unreserved(call: Call, *, without: str = "") -> int:
    """What no function has reserved or provisioned, one function's share left out."""
    taken = 0
    for record in call.state.list_by_name(call.key("function")):
        if record.key.name == without:
            continue
        reserved = record.document.get("reserved")
        taken += provisioned_total(call, record.key.name) if reserved is None else reserved
    return int(facts()["concurrency"]) - taken


def provisioned_total(call: Call, name: str, *, without: str = "") -> int:
    """Over a function's versions and aliases, one qualifier left out."""
    records = call.state.list_by_name(call.key("provisioned", name))
    return sum(r.document["RequestedProvisionedConcurrentExecutions"] for r in records if r.key.name != without)


def _unqualified(call: Call, parameters: Parameters, action: str) -> str:
    reference = call.reference(parameters, action=action)
    if reference.qualifier is not None:
        raise invalid(
            "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
            "Please specify either a function name or an unqualified function ARN."
        )
    if call.version(reference.name, LATEST) is None:
        missing = call.scope.function_arn(reference.name, LATEST if action == "PutFunctionConcurrency" else None)
        raise function_not_found(missing)
    return reference.name


def put_function_concurrency(call: Call, parameters: Parameters) -> Result:
    name = _unqualified(call, parameters, "PutFunctionConcurrency")
    wanted = parameters["ReservedConcurrentExecutions"]
    least = facts()["unreserved_concurrency"]
    if unreserved(call, without=name) - wanted < least:
        raise invalid(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
            f"its minimum value of [{least}]."
        )
    provisioned = provisioned_total(call, name)
    if wanted < provisioned:
        raise invalid(
            f" ReservedConcurrentExecutions  {wanted} should not be lower than function's total provisioned "
            f"concurrency [{provisioned}]."
        )
    call.state.put(call.key("function", name=name), call.function(name) | {"reserved": wanted})
    return {"ReservedConcurrentExecutions": wanted}


def get_function_concurrency(call: Call, parameters: Parameters) -> Result:
    name = _unqualified(call, parameters, "GetFunctionConcurrency")
    return {"ReservedConcurrentExecutions": call.function(name).get("reserved")}


def delete_function_concurrency(call: Call, parameters: Parameters) -> Result:
    name = _unqualified(call, parameters, "DeleteFunctionConcurrency")
    function = call.function(name)
    function.pop("reserved", None)
    call.state.put(call.key("function", name=name), function)
    return {}


def _published(call: Call, parameters: Parameters, action: str, refusal: str) -> FunctionReference:
    """The version or alias that provisioned concurrency is about. Raises ApiError when it isn't one that exists."""
    reference = call.reference(parameters, action=action)
    name, qualifier = reference.name, reference.qualifier or LATEST
    if qualifier == LATEST:
        raise invalid(refusal)
    if is_version(qualifier):
        if call.version(name, qualifier) is None:
            raise function_not_found(call.scope.function_arn(name, qualifier))
    elif call.state.get(call.key("alias", name, qualifier)) is None:
        raise alias_not_found(call.scope.function_arn(name, qualifier))
    return FunctionReference(name, qualifier)


_NOT_PUBLISHED = "The function resource provided must be an alias or a published version."


def put_provisioned_concurrency_config(call: Call, parameters: Parameters) -> Result:
    """Kept as IN_PROGRESS: whoever runs environments writes what is really there (service/provisioning.py)."""
    refusal = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    reference = _published(call, parameters, "PutProvisionedConcurrencyConfig", refusal)
    name, qualifier = reference.name, str(reference.qualifier)
    _check_no_snapshot(call, reference)
    _check_free(call, name, qualifier)
    wanted = parameters["ProvisionedConcurrentExecutions"]
    _check_amount(call, name, qualifier, wanted)
    document = {
        "RequestedProvisionedConcurrentExecutions": wanted,
        "AvailableProvisionedConcurrentExecutions": 0,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
        "LastModified": call.timestamp(),
    }
    call.state.put(call.key("provisioned", name, qualifier), document)
    return document


def _check_no_snapshot(call: Call, reference: FunctionReference) -> None:
    """ "SnapStart does not support provisioned concurrency" (Lambda SnapStart, "Supported features and limitations")."""
    if has_snapshot(call.resolve(reference)[1]):
        raise invalid("Provisioned Concurrency Configs cannot be applied to SnapStart enabled function versions.")


def _check_free(call: Call, name: str, qualifier: str) -> None:
    """A version can be provisioned by itself or through one alias, not both."""
    alias = call.state.get(call.key("alias", name, qualifier))
    if alias is not None:
        if alias["_weights"]:
            raise invalid("Alias with weights can not be used with Provisioned Concurrency")
        if call.state.get(call.key("provisioned", name, alias["FunctionVersion"])) is not None:
            raise conflict(
                "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
            )
        return
    for record in call.state.list_by_name(call.key("provisioned", name)):
        other = call.state.get(call.key("alias", name, record.key.name))
        if other is not None and other["FunctionVersion"] == qualifier:
            raise conflict("Version is pointed by a Provisioned Concurrency alias")


def _check_amount(call: Call, name: str, qualifier: str, wanted: int) -> None:
    reserved = call.function(name).get("reserved")
    others = provisioned_total(call, name, without=qualifier)
    if reserved is not None:
        if others + wanted > reserved:
            raise invalid(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
            )
        return
    free, least = unreserved(call, without=name) - others, facts()["unreserved_concurrency"]
    if wanted > free:
        raise invalid(
            f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{free}]."
        )
    if free - wanted < least:
        raise invalid(
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
            f"minimum value of [{least}]."
        )


def get_provisioned_concurrency_config(call: Call, parameters: Parameters) -> Result:
    reference = _published(call, parameters, "GetProvisionedConcurrencyConfig", _NOT_PUBLISHED)
    found = call.state.get(call.key("provisioned", reference.name, str(reference.qualifier)))
    if found is None:
        message = "No Provisioned Concurrency Config found for this function"
        raise ApiError("ProvisionedConcurrencyConfigNotFoundException", message)
    return found


def delete_provisioned_concurrency_config(call: Call, parameters: Parameters) -> Result:
    reference = _published(call, parameters, "DeleteProvisionedConcurrencyConfig", _NOT_PUBLISHED)
    call.state.delete(call.key("provisioned", reference.name, str(reference.qualifier)))
    return {}


def list_provisioned_concurrency_configs(call: Call, parameters: Parameters) -> Result:
    name = call.reference(parameters, action="ListProvisionedConcurrencyConfigs").name
    call.function(name)
    limit = limit_of(parameters, 50)
    records = call.state.list_by_name(call.key("provisioned", name), after=read_marker(parameters), limit=limit + 1)
    found, marker = page(records, limit, lambda record: record.key.name)
    configs = [record.document | {"FunctionArn": call.scope.function_arn(name, record.key.name)} for record in found]
    return {"ProvisionedConcurrencyConfigs": configs, "NextMarker": marker}


def get_account_settings(call: Call, parameters: Parameters) -> Result:
    stored = call.state.sum(call.key("version"), "$.CodeSize")
    stored += call.state.sum(call.key("layer-version"), "$.Content.CodeSize")
    return {
        "AccountLimit": {
            "TotalCodeSize": facts()["code_storage"],
            "CodeSizeUnzipped": MAXIMUM_UNZIPPED,
            "CodeSizeZipped": MAXIMUM_ZIPPED,
            "ConcurrentExecutions": facts()["concurrency"],
            "UnreservedConcurrentExecutions": unreserved(call),
        },
        "AccountUsage": {"TotalCodeSize": stored, "FunctionCount": call.state.count(call.key("function"))},
    }


OPERATIONS: dict[str, Operation] = {
    "PutFunctionConcurrency": put_function_concurrency,
    "GetFunctionConcurrency": get_function_concurrency,
    "DeleteFunctionConcurrency": delete_function_concurrency,
    "PutProvisionedConcurrencyConfig": put_provisioned_concurrency_config,
    "GetProvisionedConcurrencyConfig": get_provisioned_concurrency_config,
    "DeleteProvisionedConcurrencyConfig": delete_provisioned_concurrency_config,
    "ListProvisionedConcurrencyConfigs": list_provisioned_concurrency_configs,
    "GetAccountSettings": get_account_settings,
}
