"""The ASGI application: a request is let in, given an owner, read, and handed to the API it is for; the answer goes back."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl

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

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
DEFAULT_REGION = "us-east-1"
OWN = "/_lading/"
log = logging.getLogger("lading.service")


class Api(Protocol):
    """One AWS service behind the port."""

    def body_limit(self, request: HttpRequest) -> tuple[int, ApiError]:
        """Bytes a request of this method and path may have (its body isn't read yet), and what a larger one gets."""
        ...

    async def answer(self, request: HttpRequest, origin: Origin) -> Response:
        """Never raises ApiError: errors are answers too."""
        ...

    def refuse(self, error: ApiError) -> HttpResponse: ...

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
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self.exchange(read_head(scope), f"{scope['scheme']}://", receive, send)

    async def exchange(self, head: HttpRequest, scheme: str, receive: Receive, send: Send) -> None:
        """One request, whose head was read, and its response. `scheme`: "http://" or "https://"."""
        exchange = self._begin(head)
        response: Response
        try:
            response = await self._answer(exchange, receive, scheme)
        except DisconnectedError:
            return
        except Exception:
            log.exception("request %s failed", exchange.identity)
            message = f"an internal error; request {exchange.identity}"
            response = plain_error(ApiError("InternalFailure", message, status=500))
        try:
            await send_response(send, response, exchange.identity, receive)
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
        return _Exchange(str(uuid.uuid4()), head, function, credential, service, self._owner(credential), begun)

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

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        for start in self._life.starting:
            await start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for close in self._life.closing:
            await close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, exchange: _Exchange, receive: Receive, scheme: str) -> Response:
        head = exchange.request
        try:
            if exchange.function is not None:
                return await self._at_url(exchange, receive, exchange.function)
            self._gate.check(head)
            if exchange.service == "lading":
                return await self._own.answer(head)
            api = self._api(exchange)
        except ApiError as error:
            return plain_error(error)
        try:
            limit, too_large = api.body_limit(head)
            body = await read_body(receive, head.header("content-length"), limit, too_large)
            exchange.request = request = head.with_body(body)
            if self._signed:
                verify(request, self._keys, time.time())
        except ApiError as error:
            return api.refuse(error)
        origin = Origin(exchange.owner, f"{scheme}{head.header('host')}", exchange.identity)
        return await api.answer(request, origin)

    async def _at_url(self, exchange: _Exchange, receive: Receive, function: str) -> Response:
        head = exchange.request
        self._gate.check_host(head)
        too_large = ApiError("RequestTooLargeException", f"Request must be smaller than {BODY_LIMIT} bytes", status=413)
        body = await read_body(receive, head.header("content-length"), BODY_LIMIT, too_large)
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
            message = f"{wanted[:200]}: lading's local service does not serve {name or 'this request'}"
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


def read_head(scope: MutableMapping[str, Any]) -> HttpRequest:
    """The request without its body."""
    raw_query = scope["query_string"].decode("ascii", "replace")
    return HttpRequest(
        method=scope["method"],
        path=(scope.get("raw_path") or scope["path"].encode()).decode("ascii", "replace"),
        query=tuple(parse_qsl(raw_query, keep_blank_values=True)) if raw_query else (),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        raw_query=raw_query,
        client=(scope.get("client") or ("",))[0],
    )


async def send_response(send: Send, response: Response, identity: str, receive: Receive) -> None:
    """An answer, to its end or until the client leaves."""
    headers = {"x-amzn-RequestId": identity, **response.headers}
    if isinstance(response, HttpResponse) and response.status != 204:
        headers.setdefault("Content-Length", str(len(response.body)))  # what answers a HEAD has its own
    pairs = [(_wire_name(name), value.encode("latin-1", "replace")) for name, value in headers.items()]
    pairs += [(b"set-cookie", cookie.encode("latin-1", "replace")) for cookie in response.cookies]
    await send({"type": "http.response.start", "status": response.status, "headers": pairs})
    if isinstance(response, StreamedResponse):
        await _stream(send, response, receive)
    else:
        await send({"type": "http.response.body", "body": response.body})


@functools.lru_cache(256)
def _wire_name(name: str) -> bytes:
    return name.lower().encode("latin-1")


async def _stream(send: Send, response: StreamedResponse, receive: Receive) -> None:
    """The pieces as they come, until the last one or until the client leaves."""

    async def flow() -> None:
        try:
            async for piece in response.pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except CutStreamError:
            return  # without the last chunk: the server closes the connection, and the client knows that something is missing
        await send({"type": "http.response.body", "body": b""})

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.create_task(flow()), asyncio.create_task(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]
