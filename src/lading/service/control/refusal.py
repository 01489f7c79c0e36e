"""The errors that several families give, in AWS's words. Sources: recorded answers of AWS in public test suites."""

from __future__ import annotations

from lading.service.contract.errors import ApiError


def invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValueException", message)


def conflict(message: str) -> ApiError:
    return ApiError("ResourceConflictException", message)


def not_found(message: str) -> ApiError:
    return ApiError("ResourceNotFoundException", message)


def function_not_found(arn: str) -> ApiError:
    return not_found(f"Function not found: {arn}")


def alias_not_found(arn: str) -> ApiError:
    return not_found(f"Cannot find alias arn: {arn}")


def no_resource() -> ApiError:
    return not_found("The resource you requested does not exist.")


def stale_revision(where: str = "GetFunction/GetAlias") -> ApiError:
    message = "The Revision Id provided does not match the latest Revision Id. Call the {} API to retrieve the latest Revision Id"
    return ApiError("PreconditionFailedException", message.format(where))


def named(error: ApiError, operation: str) -> ApiError:
    """The same error; one of `not_here` says which operation it kept from being done."""
    if error.code != "NotImplementedException" or operation in error.message:
        return error
    return ApiError(error.code, f"{operation}: {error.message}", status=error.status)


def not_here(operation: str, reason: str = "") -> ApiError:
    """For what this service does not do (yet): never a fake success."""
    message = f"{operation} is not implemented by lading's local service"
    return ApiError("NotImplementedException", f"{message}{f': {reason}' if reason else ''}", status=501)
