"""CloudFormation before anybody asks for it: what evaluates templates and knows every type is loaded by the first request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest, HttpResponse, Response
from lading.service.control.control import Origin
from lading.service.front.app import Api
from lading.service.front.plain import plain_error
from lading.service.neighbours.neighbours import Neighbours
from lading.service.stacks.refusal import SERVICE

if TYPE_CHECKING:
    from lading.service.stacks.api import StacksApi

BODY_LIMIT = 1_048_576


class StacksDoor:
    """The front's `Api` for the service `cloudformation`."""

    def __init__(
        self, own: Mapping[str, Api], neighbours: Neighbours, signer: Callable[[str], tuple[str, str]], inside: str
    ) -> None:
        """own: Lambda's, Logs' and ECR's. signer, inside: see `Services`."""
        self._own = own
        self._neighbours = neighbours
        self._signer = signer
        self._inside = inside
        self._loaded: StacksApi | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        if self._loaded is not None:
            await self._loaded.stacks.close()

    def body_limit(self, request: HttpRequest) -> int:
        return BODY_LIMIT

    def too_large(self, request: HttpRequest, limit: int) -> ApiError:
        return ApiError("RequestEntityTooLarge", f"Request must be smaller than {limit} bytes", status=413)

    def refuse(self, error: ApiError, request: HttpRequest) -> HttpResponse:
        return plain_error(error, request, SERVICE)

    def operation_of(self, request: HttpRequest) -> str:
        return self._loaded.operation_of(request) if self._loaded is not None else ""

    async def answer(self, request: HttpRequest, origin: Origin) -> Response:
        api = self._loaded
        if api is None:
            api = await asyncio.to_thread(self._load)
        return await api.answer(request, origin)

    def _load(self) -> StacksApi:
        from lading.service.stacks.api import StacksApi
        from lading.service.stacks.site import Services
        from lading.service.stacks.stacks import Stacks

        assert self._loop is not None, "the service has not begun"
        with self._lock:
            if self._loaded is None:
                services = Services(self._own, self._neighbours, self._signer, self._loop, self._inside)
                self._loaded = StacksApi(Stacks(services))
            return self._loaded
