"""How asynchronous invocations of a function, version or alias are retried, and where their records go."""

from __future__ import annotations

import datetime as dt

from lading.service.control.call import Call, Operation, Parameters, Result, given, limit_of, page, read_marker
from lading.service.control.names import LATEST, FunctionReference, is_version, read_reference
from lading.service.control.refusal import invalid, not_found

SETTINGS = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
_SERVICES = ("lambda", "sqs", "sns", "events", "s3")


def _target(call: Call, parameters: Parameters, action: str) -> FunctionReference:
    reference = call.reference(parameters, action=action)
    return FunctionReference(reference.name, reference.qualifier or LATEST)


def _existing(call: Call, parameters: Parameters, action: str) -> FunctionReference:
    """Raises ApiError unless the function, version or alias is there."""
    reference = _target(call, parameters, action)
    qualifier = str(reference.qualifier)
    if qualifier == LATEST or is_version(qualifier):
        found = call.version(reference.name, qualifier)
    else:
        found = call.state.get(call.key("alias", reference.name, qualifier))
    if found is None:
        raise not_found("The function doesn't exist.")
    return reference


def _missing(call: Call, reference: FunctionReference) -> Exception:
    arn = call.scope.function_arn(reference.name, reference.qualifier)
    return not_found(f"The function {arn} doesn't have an EventInvokeConfig")


def _check_destinations(call: Call, name: str, config: Parameters) -> None:
    for side in ("OnSuccess", "OnFailure"):
        arn = config.get(side, {}).get("Destination")
        if not arn:
            continue
        service = arn.split(":")[2] if arn.startswith("arn:") else ""
        if service not in _SERVICES:
            raise invalid(f"The provided destination config {destination_text(config)} is invalid.")
        if service != "lambda":
            continue
        target = read_reference(call.scope, arn)
        if target.name == name:
            raise invalid("You can't specify the function as a destination for itself.")
        if call.version(target.name, LATEST) is None:
            raise invalid(f"The destination ARN {arn} is invalid.")


def destination_text(config: Parameters) -> str:
    """A destination config as AWS's message prints it."""

    def side(name: str) -> str:
        value = config.get(name, {}).get("Destination")
        return f"{name}(destination={value})" if value else "null"

    return f"DestinationConfig(onSuccess={side('OnSuccess')}, onFailure={side('OnFailure')})"


def _put(call: Call, reference: FunctionReference, settings: Result) -> Result:
    document = settings | {"LastModified": call.now()}
    destinations = document.get("DestinationConfig", {})
    document["DestinationConfig"] = {"OnSuccess": {}, "OnFailure": {}} | destinations
    call.state.put(call.key("event-invoke", reference.name, str(reference.qualifier)), document)
    return _shown(call, reference, document)


def _shown(call: Call, reference: FunctionReference, document: Result) -> Result:
    return document | {
        "FunctionArn": call.scope.function_arn(reference.name, reference.qualifier),
        "LastModified": dt.datetime.fromtimestamp(document["LastModified"], dt.UTC),
    }


def put_function_event_invoke_config(call: Call, parameters: Parameters) -> Result:
    """Replaces what was there."""
    settings = given(parameters, *SETTINGS)
    if not settings:
        raise invalid("You must specify at least one of error handling or destination setting.")
    reference = _existing(call, parameters, "PutFunctionEventInvokeConfig")
    _check_destinations(call, reference.name, settings.get("DestinationConfig", {}))
    return _put(call, reference, settings)


def update_function_event_invoke_config(call: Call, parameters: Parameters) -> Result:
    """Changes what is given."""
    settings = given(parameters, *SETTINGS)
    if not settings:
        raise invalid("You must specify at least one of error handling or destination setting.")
    reference = _existing(call, parameters, "UpdateFunctionEventInvokeConfig")
    old = call.state.get(call.key("event-invoke", reference.name, str(reference.qualifier)))
    if old is None:
        raise _missing(call, reference)
    if "DestinationConfig" in settings:
        _check_destinations(call, reference.name, settings["DestinationConfig"])
        settings["DestinationConfig"] = old["DestinationConfig"] | settings["DestinationConfig"]
    return _put(call, reference, old | settings)


def get_function_event_invoke_config(call: Call, parameters: Parameters) -> Result:
    reference = _target(call, parameters, "GetFunctionEventInvokeConfig")
    found = call.state.get(call.key("event-invoke", reference.name, str(reference.qualifier)))
    if found is None:
        raise _missing(call, reference)
    return _shown(call, reference, found)


def delete_function_event_invoke_config(call: Call, parameters: Parameters) -> Result:
    reference = _target(call, parameters, "DeleteFunctionEventInvokeConfig")
    key = call.key("event-invoke", reference.name, str(reference.qualifier))
    if call.state.get(key) is None:
        raise _missing(call, reference)
    call.state.delete(key)
    return {}


def list_function_event_invoke_configs(call: Call, parameters: Parameters) -> Result:
    name = call.reference(parameters, action="ListFunctionEventInvokeConfigs").name
    if call.version(name, LATEST) is None:
        raise not_found("The function doesn't exist.")
    limit = limit_of(parameters, 50)
    records = call.state.list_by_name(call.key("event-invoke", name), after=read_marker(parameters), limit=limit + 1)
    found, marker = page(records, limit, lambda record: record.key.name)
    configs = [_shown(call, FunctionReference(name, record.key.name), record.document) for record in found]
    return {"FunctionEventInvokeConfigs": configs, "NextMarker": marker}


OPERATIONS: dict[str, Operation] = {
    "PutFunctionEventInvokeConfig": put_function_event_invoke_config,
    "UpdateFunctionEventInvokeConfig": update_function_event_invoke_config,
    "GetFunctionEventInvokeConfig": get_function_event_invoke_config,
    "DeleteFunctionEventInvokeConfig": delete_function_event_invoke_config,
    "ListFunctionEventInvokeConfigs": list_function_event_invoke_configs,
}
