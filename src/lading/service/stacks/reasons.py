"""Why a resource failed, as a stack's events tell it."""

from __future__ import annotations

import logging
import uuid

from lading.service.contract.errors import ApiError
from lading.service.stacks.kinds.kind import ResourceError, code_of

log = logging.getLogger("lading.service")


def reason_of(error: Exception) -> str:
    """Why a resource failed, as the stack's events tell it (resource handlers' messages, as AWS's answers have them)."""
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError):
        answer = error.response.get("ResponseMetadata", {})
        about = error.response.get("Error", {})
        status = int(answer.get("HTTPStatusCode", 400))
        where = f"Service: {about.get('Service', '')}, Status Code: {status}, Request ID: {answer.get('RequestId', '')}"
        code = _handler_code(code_of(error), status)
        text = f"{about.get('Message', error)} ({where})"
        return f'Resource handler returned message: "{text}" (RequestToken: {uuid.uuid4()}, HandlerErrorCode: {code})'
    if isinstance(error, ResourceError | ApiError):
        return str(error)
    if isinstance(error, BotoCoreError | KeyError | TypeError | ValueError | AttributeError):
        log.warning("a resource's properties could not be used", exc_info=error)
        return f"Properties can't be used: {type(error).__name__}: {error}"
    log.error("a resource failed", exc_info=error)
    return f"Internal Failure: {type(error).__name__}: {error}"


def _handler_code(code: str, status: int) -> str:
    if "AlreadyExist" in code or code in ("ResourceConflictException", "BucketAlreadyOwnedByYou"):
        return "AlreadyExists"
    if status == 404 or "NotFound" in code or "NoSuch" in code:
        return "NotFound"
    if "AccessDenied" in code:
        return "AccessDenied"
    return "GeneralServiceException" if status >= 500 else "InvalidRequest"
