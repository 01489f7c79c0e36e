"""A service model, loaded once: its operations, and which one a request asks for. Knows no operation by name."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from lading.service.contract.errors import UnknownOperationError

if TYPE_CHECKING:
    from lading.service.contract.http import HttpRequest

REST_JSON, JSON, QUERY = "rest-json", "json", "query"
REMEMBERED = 300
"""Characters of a path whose route is remembered: clients choose them, so what they cost is bounded."""


@dataclass(frozen=True)
class Route:
    """One operation's place in HTTP: its path's segments ("{Name}" is a label), and the query that must be there."""

    operation: str
    segments: tuple[str, ...]
    query: tuple[tuple[str, str], ...]

    def match(self, segments: tuple[str, ...], query: tuple[tuple[str, str], ...]) -> dict[str, str] | None:
        """The labels, decoded; None when the path or the constant query is another."""
        labels: dict[str, str] = {}
        for mine, theirs in zip(self.segments, segments, strict=True):
            if mine.startswith("{"):
                labels[mine[1:-1]] = unquote(theirs)
            elif mine != theirs:
                return None
        return labels if all(pair in query for pair in self.query) else None


class Service:
    """The model of one AWS service. Raises ValueError for a protocol that the contract doesn't speak."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name: str = model.service_name
        self.protocol: str = next((p for p in model.metadata.get("protocols", [model.protocol]) if p in _PROTOCOLS), "")
        if not self.protocol:
            raise ValueError(f"{self.name} speaks {model.protocol}, not one of {', '.join(_PROTOCOLS)}")
        self._operations = {name: model.operation_model(name) for name in model.operation_names}
        self._routes: dict[tuple[str, int], list[Route]] = defaultdict(list)
        for name, operation in self._operations.items():
            http = operation.http
            path, _, query = http["requestUri"].partition("?")
            route = Route(name, _segments(path), tuple(parse_qsl(query, keep_blank_values=True)))
            self._routes[http["method"], len(route.segments)].append(route)
        for routes in self._routes.values():
            routes.sort(key=lambda route: (-len(route.query), sum(part.startswith("{") for part in route.segments)))
        self._known = functools.lru_cache(1024)(self._find)
        """Asked three times for each request, and clients ask for the same paths again and again."""

    @property
    def operations(self) -> list[str]:
        return list(self.model.operation_names)

    def operation(self, name: str) -> Any:
        """botocore's OperationModel. The name must be one of `operations`."""
        return self._operations[name]

    @functools.cached_property
    def error_shapes(self) -> Mapping[str, Any]:
        """Modelled errors by code."""
        shapes = (self.model.shape_for(name) for name in self.model.shape_names)
        return {shape.name: shape for shape in shapes if shape.metadata.get("exception")}

    def route(self, request: HttpRequest) -> tuple[str, Mapping[str, str]]:
        """The operation a request asks for, and its path labels. Raises UnknownOperationError."""
        if self.protocol == JSON:
            return self._route_target(request.header("x-amz-target") or ""), {}
        if request.query or len(request.path) > REMEMBERED:
            return self._find(request.method, request.path, request.query)
        return self._known(request.method, request.path)

    def _find(self, method: str, path: str, query: tuple[tuple[str, str], ...] = ()) -> tuple[str, Mapping[str, str]]:
        segments = _segments(path)
        for route in self._routes.get((method, len(segments)), ()):
            labels = route.match(segments, query)
            if labels is not None:
                return route.operation, labels
        raise UnknownOperationError(f"{method} {path[:200]}")

    def name_of(self, request: HttpRequest) -> str:
        """The operation that a request asks for; "" for none."""
        try:
            return self.route(request)[0]
        except UnknownOperationError:
            return ""

    def _route_target(self, target: str) -> str:
        prefix, _, name = target.rpartition(".")
        if prefix != self.model.metadata.get("targetPrefix") or name not in self.model.operation_names:
            raise UnknownOperationError(target[:200] or "no X-Amz-Target")
        return name

    def shapes(self, *, root: Any) -> Iterator[Any]:
        """Every shape below `root`, once each."""
        seen: set[str] = set()
        todo = [root]
        while todo:
            shape = todo.pop()
            if shape.name in seen:
                continue
            seen.add(shape.name)
            yield shape
            todo.extend(_children(shape))


_PROTOCOLS = (REST_JSON, JSON, QUERY)


def _segments(path: str) -> tuple[str, ...]:
    """Without a trailing slash: older clients send `/2015-03-31/functions/`."""
    return tuple(path.strip("/").split("/"))


def _children(shape: Any) -> list[Any]:
    if shape.type_name == "structure":
        return list(shape.members.values())
    if shape.type_name == "list":
        return [shape.member]
    return [shape.key, shape.value] if shape.type_name == "map" else []


@functools.cache
def load_service(name: str) -> Service:
    """The service that botocore calls `name` ("lambda", "logs")."""
    from botocore.model import ServiceModel

    return Service(ServiceModel(_loader().load_service_model(name, "service-2"), name))


@functools.cache
def _loader() -> Any:
    """One for all: it looks through the folders of every service once, which takes longer than to read a model."""
    from botocore.loaders import Loader

    return Loader()
