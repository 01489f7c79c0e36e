"""What a client gets instead of a result: an AWS error code, its message, and where the model doesn't say, a status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lading.errors import LadingError


class ApiError(LadingError):
    """An error of an AWS API. `code` is the shape's name ("ResourceNotFoundException"); status and body come from the
    service model where it knows the code, else `status` (400) and a bare `message` as AWS's front end answers."""

    def __init__(self, code: str, message: str, *, status: int = 400, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.fields = dict(fields or {})
        """Further members of the error's shape, e.g. {"Reason": …}."""


class SerializationError(ApiError):
    """The body or a parameter isn't of the type that the model asks for."""

    def __init__(self, message: str) -> None:
        super().__init__("SerializationException", message)


class UnknownOperationError(ApiError):
    """No operation of the service has this method and path, or this target."""

    def __init__(self, what: str) -> None:
        super().__init__("UnknownOperationException", f"Unable to determine service/operation name: {what}", status=404)


class ConstraintError(ApiError):
    """Parameters break constraints of the model: all of them in one message, in AWS's wording."""

    def __init__(self, violations: list[str], *, code: str = "ValidationException") -> None:
        count = len(violations)
        noun = "error" if count == 1 else "errors"
        super().__init__(code, f"{count} validation {noun} detected: {'; '.join(violations)}")
        self.violations = violations
