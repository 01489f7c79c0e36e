"""Runtime management, recursion and scaling of a function."""

from __future__ import annotations

from lading.service.control.call import Call, Operation, Parameters, Result
from lading.service.control.names import LATEST
from lading.service.control.refusal import function_not_found, invalid


def put_runtime_management_config(call: Call, parameters: Parameters) -> Result:
    reference = call.reference(parameters, action="PutRuntimeManagementConfig")
    version, _ = call.resolve(reference)
    manual = parameters["UpdateRuntimeOn"] == "Manual"
    if manual != ("RuntimeVersionArn" in parameters):
        need = "must be given" if manual else "can't be given"
        raise invalid(f"RuntimeVersionArn {need} when UpdateRuntimeOn is {parameters['UpdateRuntimeOn']}.")
    document = {"UpdateRuntimeOn": parameters["UpdateRuntimeOn"]}
    if manual:
        document["RuntimeVersionArn"] = parameters["RuntimeVersionArn"]
    call.state.put(call.key("runtime-management", reference.name, version), document)
    return document | {"FunctionArn": call.scope.function_arn(reference.name, reference.qualifier)}


def get_runtime_management_config(call: Call, parameters: Parameters) -> Result:
    reference = call.reference(parameters, action="GetRuntimeManagementConfig")
    version, _ = call.resolve(reference)
    found = call.state.get(call.key("runtime-management", reference.name, version)) or {"UpdateRuntimeOn": "Auto"}
    return found | {"FunctionArn": call.scope.function_arn(reference.name, reference.qualifier)}


def put_function_recursion_config(call: Call, parameters: Parameters) -> Result:
    name = call.reference(parameters, action="PutFunctionRecursionConfig").name
    function = call.function(name) | {"recursive": parameters["RecursiveLoop"]}
    call.state.put(call.key("function", name=name), function)
    return {"RecursiveLoop": parameters["RecursiveLoop"]}


def get_function_recursion_config(call: Call, parameters: Parameters) -> Result:
    name = call.reference(parameters, action="GetFunctionRecursionConfig").name
    return {"RecursiveLoop": call.function(name).get("recursive", "Terminate")}


def _scaled(call: Call, parameters: Parameters, action: str) -> tuple[str, str, Result]:
    reference = call.reference(parameters, action=action)
    qualifier = reference.qualifier or LATEST
    configuration = call.version(reference.name, qualifier)
    if configuration is None:
        raise function_not_found(call.scope.function_arn(reference.name, qualifier))
    return reference.name, qualifier, configuration


def put_function_scaling_config(call: Call, parameters: Parameters) -> Result:
    """Kept as requested; it is applied on capacity providers only, which no function here has yet."""
    name, qualifier, configuration = _scaled(call, parameters, "PutFunctionScalingConfig")
    config = parameters.get("FunctionScalingConfig", {})
    least, most = config.get("MinExecutionEnvironments"), config.get("MaxExecutionEnvironments")
    if least is not None and most is not None and least > most:
        raise invalid(f"MinExecutionEnvironments ({least}) can't be greater than MaxExecutionEnvironments ({most}).")
    call.state.put(call.key("scaling", name, qualifier), config)
    return {"FunctionState": configuration["State"]}


def get_function_scaling_config(call: Call, parameters: Parameters) -> Result:
    name, qualifier, _ = _scaled(call, parameters, "GetFunctionScalingConfig")
    return {
        "FunctionArn": call.scope.function_arn(name, qualifier),
        "RequestedFunctionScalingConfig": call.state.get(call.key("scaling", name, qualifier)),
    }


OPERATIONS: dict[str, Operation] = {
    "PutRuntimeManagementConfig": put_runtime_management_config,
    "GetRuntimeManagementConfig": get_runtime_management_config,
    "PutFunctionRecursionConfig": put_function_recursion_config,
    "GetFunctionRecursionConfig": get_function_recursion_config,
    "PutFunctionScalingConfig": put_function_scaling_config,
    "GetFunctionScalingConfig": get_function_scaling_config,
}
