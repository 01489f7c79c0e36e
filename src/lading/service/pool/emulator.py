"""One function behind the path that AWS's Runtime Interface Emulator serves, one invoke at a time. Use from one event loop.

Statuses and bodies follow its `internal/lambda/rie/handlers.go` (2026-01): what a function says is 200, what kept it from
saying anything 502, a second request at once 400, and a timeout is a sentence.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import socket
import uuid
from collections.abc import Mapping
from urllib.parse import urlsplit

from lading.errors import LadingError
from lading.runtimeapi.calls import MAXIMUM_PAYLOAD, Request, Response
from lading.service.front.gate import is_loopback
from lading.service.pool.function import FunctionVersion, InvokeRequest, Outcome
from lading.service.pool.pool import Pool
from lading.service.pool.server import Connection, serve

PATH = "/2015-03-31/functions/function/invocations"
ARN = "arn:aws:lambda:us-east-1:012345678912:function:"
"""Of nobody, as in AWS's emulator."""
TEXT = "text/plain; charset=utf-8"
"""Of every answer, as Go's server guesses it."""


class Emulator:
    """The endpoint of its own server. `tasks` are the invokes under way, whether their callers wait or left."""

    def __init__(self, pool: Pool, function: FunctionVersion, *, private: bool) -> None:
        """`private`: answers only requests for this machine's own names, so that no web page reaches the function."""
        self._pool = pool
        self._function = function
        self._private = private
        self._busy = False
        self.tasks: set[asyncio.Task[None]] = set()

    # The server's side

    def request(self, connection: Connection, request: Request) -> None:
        refusal = self._refusal(request)
        if refusal is not None:
            connection.reply(refusal)
            return
        self._busy = True
        task = asyncio.get_running_loop().create_task(self._invoke(connection, request))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def stream_started(self, connection: Connection, request: Request) -> None:
        """Nobody streams an event here: the head of such a request is enough to refuse it."""
        connection.close()

    def stream_data(self, connection: Connection, data: bytes) -> None:
        return None

    def stream_ended(self, connection: Connection, trailers: Mapping[str, str], *, complete: bool) -> None:
        return None

    def disconnected(self, connection: Connection) -> None:
        return None

    def _refusal(self, request: Request) -> Response | None:
        if self._private and not _is_ours(request.headers):
            return Response(403, b"this address answers requests for this machine only\n", content_type=TEXT)
        if request.path.partition("?")[0] != PATH:
            return Response(404, b"404 page not found\n", content_type=TEXT)
        if len(request.body) > MAXIMUM_PAYLOAD:
            return Response(413, b"the event is larger than %d bytes\n" % MAXIMUM_PAYLOAD, content_type=TEXT)
        if self._busy:
            return Response(400, b"", content_type=TEXT)
        return None

    async def _invoke(self, connection: Connection, request: Request) -> None:
        try:
            connection.reply(await self._answer(request))
        finally:
            self._busy = False

    async def _answer(self, request: Request) -> Response:
        headers = request.headers
        try:
            context = base64.b64decode(headers.get("x-amz-client-context", ""), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return Response(500, b"", content_type=TEXT)
        call = InvokeRequest(
            str(uuid.uuid4()),
            request.body,
            invoked_arn=f"{ARN}{self._function.name}",
            trace_id=headers.get("x-amzn-trace-id", ""),
            client_context=context,
            tenant_id=headers.get("x-amz-tenant-id", ""),
        )
        try:
            outcome = await self._pool.invoke(self._function, call, queue=True)
        except LadingError as error:
            return Response(500, f"{error.message}\n".encode(), content_type=TEXT)
        return self._response(outcome)

    def _response(self, outcome: Outcome) -> Response:
        if outcome.status == "timeout":
            sentence = f"Task timed out after {self._function.timeout:.2f} seconds"
            return Response(200, sentence.encode(), content_type=TEXT)
        status = 502 if outcome.status == "failure" else 200
        return Response(status, outcome.answer.payload, content_type=TEXT)


def _is_ours(headers: Mapping[str, str]) -> bool:
    """Whether a request is for a name of this machine and comes from no web page of another."""
    origin = headers.get("origin", "")
    return _is_local(f"//{headers.get('host', '')}") and (not origin or _is_local(origin))


def _is_local(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


async def emulate(listener: socket.socket, emulator: Emulator, stop: asyncio.Event) -> None:
    """Serve until `stop`; invokes under way are waited for no longer then."""
    server = await serve(listener, emulator)
    try:
        await stop.wait()
    finally:
        server.close()
        for task in list(emulator.tasks):
            task.cancel()
        await asyncio.gather(*emulator.tasks, return_exceptions=True)
