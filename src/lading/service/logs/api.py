"""CloudWatch Logs' API over the contract and the store."""

from __future__ import annotations

import asyncio

from lading.service.contract.eventstream import MEDIA_TYPE
from lading.service.contract.http import Response, StreamedResponse
from lading.service.control.call import Parameters
from lading.service.control.control import Origin
from lading.service.control.refusal import not_here
from lading.service.front.described import DescribedApi
from lading.service.logs.keeper import LogKeeper
from lading.service.logs.live import live_tail, read_wanted
from lading.service.logs.operations import OPERATIONS
from lading.service.logs.subscriptions import Subscriptions

BODY_LIMIT = 2 * 1024 * 1024
"""Bytes of a request: a batch of PutLogEvents has at most 1 MiB."""
LIVE_TAIL = "StartLiveTail"


class LogsApi(DescribedApi):
    """The front's `Api` for the service `logs`."""

    def __init__(self, keeper: LogKeeper, subscriptions: Subscriptions) -> None:
        super().__init__("logs", BODY_LIMIT)
        self._operations = OPERATIONS | subscriptions.operations
        self._keeper = keeper

    async def _run(self, operation: str, parameters: Parameters, origin: Origin) -> Response:
        if operation == LIVE_TAIL:
            return await self._live_tail(origin, parameters)
        run = self._operations.get(operation)
        if run is None:
            raise not_here(operation)
        await self._keeper.flush()
        return self._write(operation, await asyncio.to_thread(run, self._keeper.store, origin.scope, parameters))

    async def _live_tail(self, origin: Origin, parameters: Parameters) -> StreamedResponse:
        store, shape = self._keeper.store, self._service.operation(LIVE_TAIL).output_shape.members["responseStream"]
        await self._keeper.flush()
        wanted = await asyncio.to_thread(read_wanted, store, origin.scope, parameters)
        return StreamedResponse(200, {"Content-Type": MEDIA_TYPE}, live_tail(store, wanted, shape, parameters))
