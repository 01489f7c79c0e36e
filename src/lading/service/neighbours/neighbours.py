"""The services beside Lambda, as the front serves them and as the rest of the service calls them."""

from __future__ import annotations

import asyncio
import functools
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest, HttpResponse, Response
from lading.service.control.control import Origin
from lading.service.control.names import Scope
from lading.service.front.plain import plain_error
from lading.service.neighbours.moto import SERVICES, call_moto, join_moto, leave_moto
from lading.service.neighbours.raw import InProcess
from lading.service.triggers.trigger import Taker

BODY_LIMIT = 256 * 1024 * 1024
"""Bytes of one request: it is kept in memory."""
THREADS = 8
PATIENCE = 60.0
"""Seconds for another endpoint to answer, as long as botocore gives it."""
_ENDPOINTS = {"dynamodbstreams": "dynamodb"}
"""botocore's services that another's endpoint serves."""
_ACTION = re.compile(r"(?:^|&)Action=(\w{1,100})")


@dataclass(frozen=True)
class Neighbours:
    """All of them. `elsewhere`: service → URL of the endpoint to use in place of the one in this process."""

    elsewhere: Mapping[str, str] = field(default_factory=dict)
    takers: list[Taker] = field(default_factory=list, repr=False)
    """The service's own, once it has one: who invokes functions for what happens here."""
    watchers: list[Callable[[str], None]] = field(default_factory=list, repr=False)
    """Called, from any thread, with the name of the service in this process that answered a request."""
    _clients: dict[tuple[str, Scope], Any] = field(default_factory=dict, repr=False)
    _ways: dict[str, Way] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "neighbours"), repr=False)

    def apis(self) -> dict[str, NeighbourApi]:
        return {name: NeighbourApi(name, self) for name in SERVICES}

    def client(self, service: str, scope: Scope) -> Any:
        """A botocore client for the service's own use, of an account and region. Blocks; safe between threads."""
        with self._lock:
            found = self._clients.get((service, scope))
            if found is None:
                found = self._clients[service, scope] = self._make_client(service, scope)
            return found

    async def answer(self, service: str, request: HttpRequest, origin: Origin) -> HttpResponse:
        loop = asyncio.get_running_loop()
        if service in self.elsewhere:
            return await loop.run_in_executor(self._threads, self._forward, request, service)
        return await loop.run_in_executor(
            self._threads, self.call, service, request, origin.scope.account, origin.endpoint
        )

    def call(self, service: str, request: HttpRequest, account: str, url: str) -> HttpResponse:
        """The service in this process. Blocks."""
        answer = call_moto(service, request, account, url, taker=next(iter(self.takers), None))
        for watcher in self.watchers:
            watcher(service)
        return answer

    async def start(self) -> None:
        join_moto(self)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        for way in self._ways.values():
            way.close()
        leave_moto(self)

    def _forward(self, request: HttpRequest, service: str) -> HttpResponse:
        url = self.elsewhere[service]
        with self._lock:
            way = self._ways.get(url)
            if way is None:
                way = self._ways[url] = Way(url)
        return way.forward(request, service)

    def _make_client(self, service: str, scope: Scope) -> Any:
        import boto3
        from botocore.config import Config

        session = boto3.session.Session(
            aws_access_key_id=scope.account, aws_secret_access_key="lading", region_name=scope.region
        )
        endpoint = _ENDPOINTS.get(service, service)
        url = self.elsewhere.get(endpoint, "http://127.0.0.1")
        config = Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"})
        client = session.client(service, endpoint_url=url, config=config)
        if endpoint not in self.elsewhere:
            client.meta.events.register(
                "before-send", InProcess(functools.partial(self._inside, endpoint, scope.account))
            )
        return client

    def _inside(self, service: str, account: str, request: HttpRequest) -> HttpResponse:
        return self.call(service, request, account, f"http://{request.header('host')}")


@dataclass(frozen=True)
class NeighbourApi:
    """One neighbour as the front's `Api`."""

    name: str
    neighbours: Neighbours

    def body_limit(self, request: HttpRequest) -> int:
        return BODY_LIMIT

    def too_large(self, request: HttpRequest, limit: int) -> ApiError:
        message = f"lading keeps requests in memory and takes at most {limit} bytes"
        return ApiError("EntityTooLarge", message, status=413)

    def refuse(self, error: ApiError, request: HttpRequest) -> HttpResponse:
        return plain_error(error, request, self.name)

    def operation_of(self, request: HttpRequest) -> str:
        """Where a header, the query or a form names it; S3's is in its method and path."""
        if target := request.header("x-amz-target"):
            return target.rpartition(".")[2]
        match = _ACTION.search(request.raw_query) or _ACTION.search(request.body[:4096].decode("latin-1"))
        return match[1] if match else ""

    async def answer(self, request: HttpRequest, origin: Origin) -> Response:
        return await self.neighbours.answer(self.name, request, origin)


class Way:
    """To another endpoint, over connections that are kept. Safe between threads."""

    def __init__(self, url: str) -> None:
        import httpx

        self._url = url.rstrip("/")
        # Certificates take a fifth of a second to load: only where they are needed, and once.
        self._client = httpx.Client(timeout=PATIENCE, verify=url.startswith("https:"))
        self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def forward(self, request: HttpRequest, service: str) -> HttpResponse:
        """The same request there, headers (signature and Host too) as they are. Blocks."""
        import httpx

        headers = {
            name: value for name, value in request.headers.items() if name not in ("connection", "transfer-encoding")
        }
        try:
            answer = self._client.request(
                request.method,
                self._url + request.path,
                params=list(request.query),
                headers=headers,
                content=request.body,
            )
        except httpx.HTTPError as error:
            unavailable = ApiError("ServiceUnavailable", f"{self._url} does not answer: {error}", status=503)
            return plain_error(unavailable, request, service)
        dropped = ("content-encoding",) if request.method == "HEAD" else ("content-encoding", "content-length")
        kept = {name: value for name, value in answer.headers.items() if name not in dropped}
        return HttpResponse(answer.status_code, kept, answer.content)

    def close(self) -> None:
        self._client.close()
