"""Reads and checks requests, those whose body is a blob once for each head: of an invoke all but the event is as in the last."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lading.service.contract.http import HttpRequest
from lading.service.contract.layout import layout
from lading.service.contract.parse import parse
from lading.service.contract.service import REMEMBERED, REST_JSON, Service
from lading.service.contract.validate import Bounds, limits, validate

HEADS = 1024
"""That are remembered: clients choose them, so their number and size are bounded."""


@dataclass(frozen=True)
class _Bare:
    """An operation of whose body nothing has to be read: the headers it knows, and the member that the body is."""

    headers: tuple[str, ...]
    payload: str


class RequestReader:
    """The typed, checked parameters of a service's requests. `unchecked`: operation → members left to others."""

    def __init__(
        self,
        service: Service,
        bounds: Mapping[str, Bounds] | None = None,
        unchecked: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self._service = service
        self._bounds = bounds or {}
        self._unchecked = unchecked or {}
        self._bare = functools.cache(self._find_bare)
        self._known = functools.lru_cache(HEADS)(self._read_head)

    def read(self, request: HttpRequest) -> tuple[str, dict[str, Any]]:
        """The operation and its parameters. Raises ApiError."""
        operation, _ = self._service.route(request)
        bare = self._bare(operation)
        if bare is None:
            return self._read(request)
        values = tuple(map(request.headers.get, bare.headers))
        if len(request.path) + len(request.raw_query) + sum(map(len, filter(None, values))) > REMEMBERED:
            return self._read(request)
        head = self._known(operation, request.method, request.path, request.query, values)
        return operation, {**head, bare.payload: request.body} if request.body else {**head}

    def _read(self, request: HttpRequest) -> tuple[str, dict[str, Any]]:
        operation, parameters = parse(self._service, request)
        shape = self._service.operation(operation).input_shape
        validate(shape, parameters, self._bounds, unchecked=self._unchecked.get(operation, frozenset()))
        return operation, parameters

    def _read_head(
        self, operation: str, method: str, path: str, query: tuple[tuple[str, str], ...], values: tuple[str | None, ...]
    ) -> dict[str, Any]:
        bare = self._bare(operation)
        assert bare is not None, "only of these a head is all"
        headers = {name: value for name, value in zip(bare.headers, values, strict=True) if value is not None}
        return self._read(HttpRequest(method, path, query, headers))[1]

    def _find_bare(self, operation: str) -> _Bare | None:
        shape = self._service.operation(operation).input_shape
        payload = layout(shape).payload if shape is not None and self._service.protocol == REST_JSON else None
        if payload is None or payload.shape.type_name != "blob" or payload.required:
            return None
        if limits(payload.shape, self._bounds) != (None, None):
            return None
        headers = tuple(member.header for member in layout(shape).located if member.location == "header")
        return _Bare(headers, payload.name)
