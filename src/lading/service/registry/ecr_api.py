"""ECR's API over the contract and the registry."""

from __future__ import annotations

import re

from lading.errors import LadingError
from lading.service.contract.errors import ApiError, ConstraintError
from lading.service.contract.http import HttpRequest, Response
from lading.service.control.control import Origin
from lading.service.control.refusal import not_here
from lading.service.front.described import DescribedApi
from lading.service.registry import ecr_images, ecr_layers, ecr_repositories
from lading.service.registry.access import Logins
from lading.service.registry.ecr_call import EcrCall
from lading.service.registry.refusals import invalid
from lading.service.registry.registry import LocalRegistry

BODY_LIMIT = 32 * 1024 * 1024
"""Bytes of a request: a layer's part of at most 20,971,520 in base64."""
OPERATIONS = {**ecr_repositories.OPERATIONS, **ecr_images.OPERATIONS, **ecr_layers.OPERATIONS}
_VIOLATION = re.compile(r"Value.*? at '([^']+)' failed to satisfy constraint: Member (.*)", re.DOTALL)


class EcrApi(DescribedApi):
    """The front's `Api` for the service `ecr`."""

    def __init__(self, registry: LocalRegistry, logins: Logins) -> None:
        super().__init__("ecr", BODY_LIMIT)
        self._registry = registry
        self._logins = logins

    async def answer(self, request: HttpRequest, origin: Origin) -> Response:
        """All of it beside the loop: a layer's part is large."""
        try:
            response = await self._registry.run(lambda: self._answer(request, origin))
        except ConstraintError as error:
            return self.refuse(in_ecrs_words(error), request)
        except ApiError as error:
            return self.refuse(error, request)
        if "Delete" in (request.header("x-amz-target") or ""):
            self._registry.something_deleted()
        return response

    def _answer(self, request: HttpRequest, origin: Origin) -> Response:
        operation, parameters = self._read(request)
        run = OPERATIONS.get(operation)
        if run is None:
            raise not_here(operation)
        call = EcrCall(origin.scope, self._registry, self._logins, origin.endpoint)
        try:
            return self._write(operation, run(call, parameters))
        except ApiError:
            raise
        except LadingError as error:
            raise ApiError("ServerException", error.message, status=500) from error


def in_ecrs_words(error: ConstraintError) -> ApiError:
    """ECR tells of the first violation, under a code and in words of its own."""
    match = _VIOLATION.fullmatch(error.violations[0])
    if match is None:
        return invalid(error.violations[0])
    constraint = re.sub(r"regular expression pattern: (.*)", r"regular expression '\1'", match[2], flags=re.DOTALL)
    return invalid(f"Invalid parameter at '{match[1]}' failed to satisfy constraint: '{constraint}'")
