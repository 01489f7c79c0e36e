"""What the APIs of one service after the other have in common: their model's words, a bound on bodies, errors as answers."""

from __future__ import annotations

import functools

from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest, HttpResponse, Response
from lading.service.contract.parse import parse
from lading.service.contract.serialize import serialize, serialize_error
from lading.service.contract.service import Service, load_service
from lading.service.contract.validate import validate
from lading.service.control.call import Parameters, Result
from lading.service.control.control import Origin


class DescribedApi:
    """An `Api` by botocore's model of a service; `run` is what each has of its own. `limit`: bytes of a request's body."""

    def __init__(self, service: str, limit: int) -> None:
        self._name = service
        self._limit = limit

    @functools.cached_property
    def _service(self) -> Service:
        """Loaded when the first request comes: few services are asked for each time."""
        return load_service(self._name)

    def body_limit(self, request: HttpRequest) -> int:
        return self._limit

    def too_large(self, request: HttpRequest, limit: int) -> ApiError:
        return ApiError("InvalidParameterException", f"Request must be smaller than {limit} bytes")

    def refuse(self, error: ApiError, request: HttpRequest) -> HttpResponse:
        return serialize_error(self._service, error)

    def operation_of(self, request: HttpRequest) -> str:
        return self._service.name_of(request)

    async def answer(self, request: HttpRequest, origin: Origin) -> Response:
        try:
            operation, parameters = self._read(request)
            return await self._run(operation, parameters, origin)
        except ApiError as error:
            return self.refuse(error, request)

    async def _run(self, operation: str, parameters: Parameters, origin: Origin) -> Response:
        """Raises ApiError."""
        raise NotImplementedError

    def _read(self, request: HttpRequest) -> tuple[str, Parameters]:
        """The operation and its parameters, checked. Raises ApiError."""
        operation, parameters = parse(self._service, request)
        validate(self._service.operation(operation).input_shape, parameters, {})
        return operation, parameters

    def _write(self, operation: str, result: Result) -> HttpResponse:
        return serialize(self._service, operation, result)
