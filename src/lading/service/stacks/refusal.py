"""CloudFormation's errors, in AWS's words where recorded answers of public clients' issues and tests have them."""

from __future__ import annotations

from lading.service.contract.errors import ApiError

SERVICE = "cloudformation"
"""As requests are signed for it, and as botocore's model is called."""


def invalid(message: str) -> ApiError:
    return ApiError("ValidationError", message)


def template_error(message: str) -> ApiError:
    return invalid(f"Template format error: {message}")


def no_stack(name: str) -> ApiError:
    return invalid(f"Stack with id {name} does not exist")


def wrong_state(name: str, status: str, verb: str) -> ApiError:
    return invalid(f"Stack:{name} is in {status} state and can not be {verb}.")
