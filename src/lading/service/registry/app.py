"""The service's ASGI application with the registry on the same port: requests of registry clients go there, others on."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, MutableMapping
from dataclasses import replace
from typing import Any

from lading.service.access import PATH_SHOWN, Note, Served
from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest, Response
from lading.service.control.names import Scope
from lading.service.front.app import DEFAULT_REGION, Front, Send, send_response
from lading.service.front.body import DisconnectedError, Receive
from lading.service.front.function_urls import url_identity
from lading.service.front.gate import Gate
from lading.service.front.keyring import DEFAULT_ACCOUNT
from lading.service.front.sigv4 import ALGORITHM
from lading.service.front.turn import Turn
from lading.service.identity import request_id
from lading.service.registry.answers import RefusedError, refused, translate
from lading.service.registry.distribution import TOKEN, Distribution
from lading.service.registry.names import host_scope
from lading.service.registry.pulling import LAYERS

log = logging.getLogger("lading.service")


class WithRegistry:
    """`front` answers what is not the registry's."""

    def __init__(self, front: Front, registry: Distribution, gate: Gate, note: Note | None = None) -> None:
        self._front = front
        self._registry = registry
        self._gate = gate
        self._note = note

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """ASGI's lifespan."""
        await self._front(scope, receive, send)

    def exchange(self, turn: Turn) -> Awaitable[None]:
        return self._exchange(turn) if is_for_registry(turn.head) else self._front.exchange(turn)

    async def _exchange(self, turn: Turn) -> None:
        head = turn.head
        identity, begun = request_id(), time.perf_counter()
        response: Response
        try:
            self._let_in(head)
            response = await self._registry.answer(head, turn.receive, turn.scheme)
        except DisconnectedError:
            return
        except ApiError as error:
            response = refused(translate(error))
        except Exception:
            log.exception("request %s failed", identity)
            response = refused(RefusedError(500, "UNKNOWN", f"an internal error; request {identity}"))
        try:
            await send_response(turn, response, identity)
        finally:
            if self._note is not None:
                self._note(_served(head, response, identity, begun))

    def _let_in(self, head: HttpRequest) -> None:
        """The gate's checks; ECR's own host names are let in, since nobody else can make them lead here."""
        if host_scope(head.header("host") or "") is not None:
            head = replace(head, headers={**head.headers, "host": "localhost"})
        self._gate.check(head)


def _served(head: HttpRequest, response: Response, identity: str, begun: float) -> Served:
    owner = host_scope(head.header("host") or "") or Scope(DEFAULT_ACCOUNT, DEFAULT_REGION)
    length = head.header("content-length") or ""
    return Served(
        time=time.time(),
        request_id=identity,
        service="registry",
        operation="",
        method=head.method,
        path=head.path[:PATH_SHOWN],
        status=response.status,
        error="",
        duration=(time.perf_counter() - begun) * 1000,
        account=owner.account,
        region=owner.region,
        client=head.client,
        received=int(length) if length.isascii() and length.isdigit() and len(length) < 16 else 0,
    )


def is_for_registry(head: HttpRequest) -> bool:
    """By its path, where it is not a signed request, of a function's URL or of a bucket's host."""
    if head.path not in (TOKEN, "/v2") and not head.path.startswith(("/v2/", LAYERS)):
        return False
    host = head.header("host") or ""
    signed = (head.header("authorization") or "").startswith(ALGORITHM)
    return not signed and ".s3." not in f".{host}" and url_identity(head) is None
