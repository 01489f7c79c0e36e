"""The service's own routes for whoever operates it: events, metrics, environments, the clock, and forced cold starts.

Answered on loopback only, where no signatures are required; elsewhere refused: they are not part of AWS's API.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass

from lading.service.clock import Clock
from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest, HttpResponse, Response, StreamedResponse
from lading.service.control.overview import FunctionLine
from lading.service.events import Event, EventStream
from lading.service.front.own import OwnRoutes
from lading.service.front.plain import json_answer, plain_error
from lading.service.metrics import Metrics
from lading.service.queue.dispatch import Queue

ROUTES = (
    "/_lading/events", "/_lading/metrics", "/_lading/functions", "/_lading/environments", "/_lading/clock", "/_lading/expire",
)  # fmt: skip
BEHIND = 10_000
"""Events that a slow reader may be behind; then its stream ends."""


@dataclass(frozen=True)
class Controls:
    """What can be looked at and driven."""

    clock: Clock
    events: EventStream
    metrics: Metrics
    queue: Queue | None
    expire: Callable[[str], None]
    """Ends the environments of a function, by its ARN."""
    functions: Callable[[], list[FunctionLine]]
    """All there are. Blocks."""
    images: Callable[[], str]
    """Metrics of lazy images. Blocks."""


class OperationRoutes:
    """Answers below /_lading/: these, and those of `OwnRoutes`."""

    def __init__(self, own: OwnRoutes, controls: Controls, *, local: bool) -> None:
        self._own = own
        self._controls = controls
        self._local = local

    async def answer(self, request: HttpRequest) -> Response:
        if request.path not in ROUTES:
            return await self._own.answer(request)
        try:
            if not self._local:
                raise ApiError("AccessDenied", "the service is operated from loopback without keys only", status=403)
            return await self._answer(request, dict(request.query))
        except ApiError as error:
            return plain_error(error)

    async def _answer(self, request: HttpRequest, query: dict[str, str]) -> Response:
        changing = request.path == "/_lading/expire" or (request.path == "/_lading/clock" and bool(query))
        if request.method != ("POST" if changing else "GET"):
            raise ApiError("MethodNotAllowed", f"{request.method} is not allowed here", status=405)
        controls = self._controls
        if request.path == "/_lading/events":
            headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
            return StreamedResponse(200, headers, follow(controls.events, _number(query, "since", -1)))
        if request.path == "/_lading/metrics":
            queued = await controls.queue.count() if controls.queue else 0
            text = controls.metrics.text(queued=queued) + await asyncio.to_thread(controls.images)
            return HttpResponse(200, {"Content-Type": "text/plain; version=0.0.4"}, text.encode())
        if request.path == "/_lading/functions":
            return json_answer([asdict(line) for line in await asyncio.to_thread(controls.functions)])
        if request.path == "/_lading/environments":
            return json_answer([asdict(live) for live in controls.metrics.environments])
        if request.path == "/_lading/expire":
            controls.expire(query.get("function", ""))
            return json_answer({"expired": query.get("function", "")})
        return self._drive(query)

    def _drive(self, query: dict[str, str]) -> HttpResponse:
        clock = self._controls.clock
        try:
            if "speed" in query:
                clock.accelerate(_number(query, "speed", 1))
            if "step" in query:
                clock.step(_number(query, "step", 0))
        except ValueError as error:
            raise ApiError("InvalidParameterValueException", str(error)) from None
        return json_answer({"now": clock.now(), "speed": clock.speed})


async def follow(events: EventStream, since: float) -> AsyncIterator[bytes]:
    """The stream as server-sent events: kept ones from a number on (none for -1), then new ones as they come."""
    waiting: asyncio.Queue[Event | None] = asyncio.Queue()

    def add(event: Event) -> None:
        waiting.put_nowait(event if waiting.qsize() < BEHIND else None)

    end = events.follow(add)
    try:
        yield b": lading\n\n"
        if since >= 0:
            for number, event in events.since(int(since)):
                yield encode(event, number)
        while (new := await waiting.get()) is not None:
            yield encode(new)
    finally:
        end()


def encode(event: Event, number: int | None = None) -> bytes:
    identity = "" if number is None else f"id: {number}\n"
    return f"{identity}event: {type(event).__name__}\ndata: {json.dumps(asdict(event))}\n\n".encode()


def _number(query: dict[str, str], name: str, default: float) -> float:
    try:
        return float(query.get(name, default))
    except ValueError:
        raise ApiError("InvalidParameterValueException", f"{name} is not a number: {query[name][:50]}") from None
