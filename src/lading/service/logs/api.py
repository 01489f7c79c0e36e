"""CloudWatch Logs' API over the contract and the store."""

from __future__ import annotations

import asyncio

from lading.service.contract.errors import ApiError
from lading.service.contract.eventstream import MEDIA_TYPE
from lading.service.contract.http import HttpRequest, HttpResponse, Response, StreamedResponse
from lading.service.contract.parse import parse
from lading.service.contract.serialize import serialize, serialize_error
from lading.service.contract.service import load_service
from lading.service.contract.validate import validate
from lading.service.control.call import Parameters
from lading.service.control.control import Origin
from lading.service.control.refusal import not_here
from lading.service.logs.keeper import LogKeeper
from lading.service.logs.live import live_tail, read_wanted
from lading.service.logs.operations import OPERATIONS

BODY_LIMIT = 2 * 1024 * 1024
"""Bytes of a request: a batch of PutLogEvents has at most 1 MiB."""
LIVE_TAIL = "StartLiveTail"


class LogsApi:
    """The front's `Api` for the service `logs`."""

    def __init__(self, keeper: LogKeeper) -> None:
        self._keeper = keeper
        self._service = load_service("logs")

    def body_limit(self, request: HttpRequest) -> tuple[int, ApiError]:
        return BODY_LIMIT, ApiError("InvalidParameterException", f"Request must be smaller than {BODY_LIMIT} bytes")

    def refuse(self, error: ApiError) -> HttpResponse:
        return serialize_error(self._service, error)

    def operation_of(self, request: HttpRequest) -> str:
        return self._service.name_of(request)

    async def answer(self, request: HttpRequest, origin: Origin) -> Response:
        try:
            operation, parameters = parse(self._service, request)
            validate(self._service.operation(operation).input_shape, parameters, {})
            if operation == LIVE_TAIL:
                return await self._live_tail(origin, parameters)
            run = OPERATIONS.get(operation)
            if run is None:
                raise not_here(operation)
            await self._keeper.flush()
            result = await asyncio.to_thread(run, self._keeper.store, origin.scope, parameters)
            return serialize(self._service, operation, result)
        except ApiError as error:
            return serialize_error(self._service, error)

    async def _live_tail(self, origin: Origin, parameters: Parameters) -> StreamedResponse:
        store, shape = self._keeper.store, self._service.operation(LIVE_TAIL).output_shape.members["responseStream"]
        await self._keeper.flush()
        wanted = await asyncio.to_thread(read_wanted, store, origin.scope, parameters)
        return StreamedResponse(200, {"Content-Type": MEDIA_TYPE}, live_tail(store, wanted, shape, parameters))
