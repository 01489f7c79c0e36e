"""The ASGI application: a request is let in, given an owner, read, and handed to the API it is for; the answer goes back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lading.service.access import PATH_SHOWN, Note, Served
from lading.service.contract.errors import ApiError
from lading.service.contract.http import CutStreamError, HttpRequest, HttpResponse, Response, StreamedResponse
from lading.service.contract.serialize import ERROR_TYPE
from lading.service.control.control import Origin
from lading.service.control.names import Scope
from lading.service.front.body import DisconnectedError, Receive, read_body
from lading.service.front.function_urls import BODY_LIMIT, FunctionUrls, url_identity
from lading.service.front.gate import Gate
from lading.service.front.keyring import DEFAULT_ACCOUNT, Keyring
from lading.service.front.plain import plain_error
from lading.service.front.sigv4 import Credential, read_credential, verify
from lading.service.front.turn import Turn
from lading.service.identity import request_id

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
DEFAULT_REGION = "us-east-1"
OWN = "/_lading/"
_INSTEAD = {
    "cloudformation": " without the services beside Lambda; serve with them, or use `lading deploy --endpoint-url URL`",
}
"""What to do without a service that deployment tools ask for."""
log = logging.getLogger("lading.service")


class Api(Protocol):
    """One AWS service behind the port."""

    def body_limit(self, request: HttpRequest) -> int:
        """Bytes a request of this method and path may have (its body isn't read yet)."""
        ...

    def too_large(self, request: HttpRequest, limit: int) -> ApiError:
        """What a larger one gets."""
        ...

    async def answer(self, request: HttpRequest, origin: Origin) -> Response:
        """Never raises ApiError: errors are answers too."""
        ...

    def refuse(self, error: ApiError, request: HttpRequest) -> HttpResponse: ...

    def operation_of(self, request: HttpRequest) -> str:
        """For the log; "" where it can't be told."""
        ...


class Routes(Protocol):
    """The service's own paths, below /_lading/."""

    async def answer(self, request: HttpRequest) -> Response: ...


@dataclass(frozen=True)
class Life:
    """What begins and ends with the server, on its loop, in order."""

    starting: Sequence[Callable[[], Awaitable[None]]] = ()
    closing: Sequence[Callable[[], Awaitable[None]]] = ()


@dataclass(frozen=True)
class Admission:
    """Who is let in, and as whom. `signed`: only with a signature of one of the keys."""

    gate: Gate
    keys: Keyring
    signed: bool = False


@dataclass(slots=True)
class _Exchange:
    """A request under way: at first its head, then all of it; what it is for, and whose it is."""

    identity: str
    request: HttpRequest
    function: str | None
    """Of a function URL: its identity."""
    credential: Credential | None
    service: str
    """"url", "lading", or an AWS service's name."""
    owner: Scope
    begun: float


class Front:
    """One port for every API, by the service that a request is signed for, named for, or shaped for."""

    def __init__(
        self,
        apis: Mapping[str, Api],
        own: Routes,
        urls: FunctionUrls,
        admission: Admission,
        life: Life | None = None,
        note: Note | None = None,
    ) -> None:
        self._apis = apis
        self._own = own
        self._urls = urls
        self._gate = admission.gate
        self._keys = admission.keys
        self._signed = admission.signed
        self._life = life or Life()
        self._note = note

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """ASGI's lifespan: the server begins and ends."""
        await receive()
        for start in self._life.starting:
            await start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for close in self._life.closing:
            await close()
        await send({"type": "lifespan.shutdown.complete"})

    async def exchange(self, turn: Turn) -> None:
        """One request, whose head was read, and its response."""
        exchange = self._begin(turn.head)
        response: Response
        try:
            response = await self._answer(exchange, turn)
        except DisconnectedError:
            return
        except Exception:
            log.exception("request %s failed", exchange.identity)
            message = f"an internal error; request {exchange.identity}"
            response = plain_error(ApiError("InternalFailure", message, status=500))
        try:
            await send_response(turn, response, exchange.identity)
        finally:
            if self._note is not None:
                self._note(self._served(exchange, response))

    def _begin(self, head: HttpRequest) -> _Exchange:
        begun = time.perf_counter()
        function, credential = url_identity(head), read_credential(head)
        if function is not None:
            service = "url"
        elif head.path.startswith(OWN):
            service = "lading"
        else:
            service = credential.service if credential is not None else service_of(head)
        return _Exchange(request_id(), head, function, credential, service, self._owner(credential), begun)

    def _served(self, exchange: _Exchange, response: Response) -> Served:
        head, service = exchange.request, exchange.service
        api = self._apis.get(service)
        return Served(
            time=time.time(),
            request_id=exchange.identity,
            service=service if api or service in ("url", "lading") else "",
            operation=api.operation_of(head) if api else "",
            method=head.method,
            path=head.path[:PATH_SHOWN],
            status=response.status,
            error=response.headers.get(ERROR_TYPE, ""),
            duration=(time.perf_counter() - exchange.begun) * 1000,
            account=exchange.owner.account,
            region=exchange.owner.region,
            client=head.client,
            received=len(head.body),
        )

    async def _answer(self, exchange: _Exchange, turn: Turn) -> Response:
        head = exchange.request
        try:
            if exchange.function is not None:
                return await self._at_url(exchange, turn, exchange.function)
            self._gate.check(head)
            if exchange.service == "lading":
                return await self._own.answer(head)
            api = self._api(exchange)
        except ApiError as error:
            return plain_error(error, head, exchange.service)
        try:
            limit = api.body_limit(head)
            body = await _read(turn, limit, lambda: api.too_large(head, limit))
            exchange.request = request = head.with_body(body)
            if self._signed:
                verify(request, self._keys, time.time())
        except ApiError as error:
            return api.refuse(error, head)
        origin = Origin(exchange.owner, f"{turn.scheme}{head.header('host')}", exchange.identity)
        return await api.answer(request, origin)

    async def _at_url(self, exchange: _Exchange, turn: Turn, function: str) -> Response:
        head = exchange.request
        self._gate.check_host(head)
        message = f"Request must be smaller than {BODY_LIMIT} bytes"
        body = await _read(turn, BODY_LIMIT, lambda: ApiError("RequestTooLargeException", message, status=413))
        exchange.request = head.with_body(body)
        return await self._urls.answer(exchange.request, function, exchange.identity)

    def _owner(self, credential: Credential | None) -> Scope:
        """Region and account of a request."""
        if credential is None:
            return Scope(DEFAULT_ACCOUNT, DEFAULT_REGION)
        return Scope(self._keys.account_of(credential.access_key), credential.region)

    def _api(self, exchange: _Exchange) -> Api:
        head, name = exchange.request, exchange.service
        api = self._apis.get(name)
        if api is None:
            wanted = (head.header("x-amz-target") or "").rpartition(".")[2] or f"{head.method} {head.path}"
            message = f"{wanted[:200]}: lading's local service does not serve {name or 'this request'}{_INSTEAD.get(name, '')}"
            raise ApiError("NotImplementedException", message, status=501)
        return api


def service_of(head: HttpRequest) -> str:
    """The service of an unsigned request: the first label of its Host ("lambda.us-east-1.localhost"), or Lambda by its path.
    S3's clients may sign with version 2, and still presign with it."""
    version_2 = {"AWSAccessKeyId", "Signature"} <= dict(head.query).keys()
    if version_2 or (head.header("authorization") or "").startswith("AWS "):
        return "s3"
    label = (head.header("host") or "").split(":")[0].split(".")[0]
    dated = head.path[1:5].isdigit() and head.path[5:6] == "-"
    return "lambda" if dated else label


async def _read(turn: Turn, limit: int, too_large: Callable[[], ApiError]) -> bytes:
    """The whole body, which is there already of nearly every request. Raises as `read_body`."""
    body = turn.take()
    if body is None:
        return await read_body(turn.receive, turn.head.header("content-length"), limit, too_large())
    if len(body) > limit:
        raise too_large()
    return body


async def send_response(turn: Turn, response: Response, identity: str) -> None:
    """An answer, to its end or until the client leaves."""
    headers = [*{"x-amzn-RequestId": identity, **response.headers}.items()]
    headers += [("set-cookie", cookie) for cookie in response.cookies]
    try:
        if isinstance(response, HttpResponse):
            turn.answer(response.status, headers, response.body)
            return
        turn.begin(response.status, headers)
    except ValueError as error:  # a header that would break out of its line
        log.error("the response to %s can't be sent: %s", identity, error)
        refused = plain_error(ApiError("InternalFailure", f"an internal error; request {identity}", status=500))
        turn.answer(refused.status, [*refused.headers.items()], refused.body)
        return
    await _stream(turn, response)


async def _stream(turn: Turn, response: StreamedResponse) -> None:
    """The pieces as they come, until the last one or until the client leaves."""

    async def flow() -> None:
        try:
            async for piece in response.pieces:
                await turn.piece(piece)
        except CutStreamError:
            turn.cut()  # without the last chunk: the client knows that something is missing
            return
        turn.finish()

    tasks = [asyncio.create_task(flow()), asyncio.create_task(turn.left())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]
