"""The environment variables that say which function this is; what is the same for all functions comes from the sandbox."""

from __future__ import annotations

from collections.abc import Mapping

from lading.service.pool.function import SNAP_START, FunctionVersion

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "ASIALADINGLOCALACCESS",
    "AWS_SECRET_ACCESS_KEY": "lading-local-secret-access-key",
    "AWS_SESSION_TOKEN": "lading-local-session-token",
}
"""Of nobody: a function here has no role unless whoever starts it gives its credentials in the environment."""
_NOT_FOR_EXTENSIONS = (
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_AWS_XRAY_DAEMON_ADDRESS",
    "_AWS_XRAY_DAEMON_PORT",
    "_HANDLER",
)


def function_variables(
    function: FunctionVersion, log_stream: str, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """AWS's variables for one environment, those that whoever serves it gives, then the function's own. Recorded on
    python3.13, January 2026."""
    variables = {
        **CREDENTIALS,
        **(given or {}),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.spec.memory),
        "AWS_LAMBDA_INITIALIZATION_TYPE": function.initialization_type,
        "AWS_LAMBDA_LOG_GROUP_NAME": function.group,
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_REGION": function.region,
        "AWS_DEFAULT_REGION": function.region,
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1:2000",
        "_AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1",
        "_AWS_XRAY_DAEMON_PORT": "2000",
    }
    if function.initialization_type == SNAP_START:
        del variables["AWS_LAMBDA_LOG_GROUP_NAME"], variables["AWS_LAMBDA_LOG_STREAM_NAME"]
    if function.log_format == "JSON":
        variables["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        variables["AWS_LAMBDA_LOG_LEVEL"] = "INFO"
    return {**variables, **function.spec.environment}


def extension_variables(variables: dict[str, str]) -> dict[str, str]:
    """What an external extension sees of all variables of the runtime process (Extensions API reference)."""
    return {name: value for name, value in variables.items() if name not in _NOT_FOR_EXTENSIONS}
