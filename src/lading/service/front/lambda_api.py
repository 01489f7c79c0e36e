"""Lambda's API over the contract and the control plane."""

from __future__ import annotations

import asyncio

from lading.service.contract.bounds import bounds_in_force, left_to_control
from lading.service.contract.errors import ApiError
from lading.service.contract.heads import RequestReader
from lading.service.contract.http import HttpRequest, Response
from lading.service.control.call import Parameters
from lading.service.control.control import Control, Origin
from lading.service.control.invocation import Invoker
from lading.service.front.described import DescribedApi
from lading.service.front.invoke import OPERATIONS as INVOKES
from lading.service.front.invoke import Accept, Invocations

SERVICE = "lambda"
CODE_LIMIT = 70_167_211
"""Bytes of a request with a package (AWS's own message for CreateFunction)."""
INVOKE_LIMIT = 6_291_456
OTHER_LIMIT = 1_048_576
_WITH_CODE = frozenset({"CreateFunction", "UpdateFunctionCode", "PublishLayerVersion"})
BIG = 262_144
"""Bytes from which a body is parsed beside the event loop."""


class LambdaApi(DescribedApi):
    """Requests → operations of the control plane → responses."""

    def __init__(self, control: Control, invoker: Invoker | None = None, accept: Accept | None = None) -> None:
        super().__init__(SERVICE, OTHER_LIMIT)
        self._control = control
        self._invocations = Invocations(self._service, control, invoker, accept)
        self._reader = RequestReader(self._service, bounds_in_force(SERVICE), left_to_control(SERVICE))

    def body_limit(self, request: HttpRequest) -> int:
        operation, _ = self._service.route(request)
        if operation in INVOKES:
            return INVOKE_LIMIT
        return CODE_LIMIT if operation in _WITH_CODE else OTHER_LIMIT

    def too_large(self, request: HttpRequest, limit: int) -> ApiError:
        operation, _ = self._service.route(request)
        if operation in INVOKES:
            message = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
            return ApiError("RequestTooLargeException", message)
        message = f"Request must be smaller than {limit} bytes for the {operation} operation"
        return ApiError("RequestEntityTooLargeException", message, status=413)

    async def answer(self, request: HttpRequest, origin: Origin) -> Response:
        try:
            if len(request.body) < BIG:
                operation, parameters = self._read(request)
            else:
                operation, parameters = await asyncio.to_thread(self._read, request)
            if operation in INVOKES:
                return await self._invocations.answer(operation, parameters, request, origin)
            result = await self._control.call(operation, parameters, origin)
            return self._write(operation, result)
        except ApiError as error:
            return self.refuse(error, request)

    def _read(self, request: HttpRequest) -> tuple[str, Parameters]:
        return self._reader.read(request)
