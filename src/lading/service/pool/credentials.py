"""Credentials for environments that are restored: asked for when they are needed, as variables of a snapshot would expire.

The container credentials protocol at the address that Lambda uses for it ("Using SnapStart with AWS SDKs").
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Mapping

from lading.runtimeapi.calls import NOT_FOUND, Request, Response
from lading.sandbox.spec import CREDENTIALS_API
from lading.service.pool.door import Door
from lading.service.pool.function import FunctionVersion
from lading.service.pool.server import Connection
from lading.service.pool.variables import CREDENTIALS

PATH = "/2021-04-23/credentials"
_REFUSED = Response(403, b'{"code":"AccessDenied","message":"the authorization token is not this function\'s"}')


def by_request(variables: Mapping[str, str], own: Mapping[str, str], token: str) -> dict[str, str]:
    """Variables that lead to credentials in place of those that hold them; own: the function's, which stay."""
    host, port = CREDENTIALS_API
    kept = {name: value for name, value in variables.items() if name not in CREDENTIALS or name in own}
    leading = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{host}:{port}{PATH}",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": token,
    }
    return {**leading, **kept}


class CredentialsEndpoint:
    """The server's endpoint of one environment: whoever inside knows the token gets its role's credentials."""

    def __init__(self, function: FunctionVersion, door: Door, token: str) -> None:
        self._function = function
        self._door = door
        self._token = token.encode()
        self._tasks: set[asyncio.Task[None]] = set()

    def request(self, connection: Connection, request: Request) -> None:
        if request.method != "GET" or request.path.partition("?")[0] != PATH:
            connection.reply(NOT_FOUND)
            return
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), self._token):
            connection.reply(_REFUSED)
            return
        task = asyncio.get_running_loop().create_task(self._answer(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stream_started(self, connection: Connection, request: Request) -> None:
        connection.close()

    def stream_data(self, connection: Connection, data: bytes) -> None:
        connection.close()

    def stream_ended(self, connection: Connection, trailers: Mapping[str, str], *, complete: bool) -> None:
        connection.close()

    def disconnected(self, connection: Connection) -> None:
        """An answer that comes too late goes nowhere."""

    async def _answer(self, connection: Connection) -> None:
        try:
            found = await self._door.credentials(self._function)
        except Exception as error:  # whatever STS says, the function hears of it
            body = json.dumps({"code": "ServiceFailure", "message": str(error)}).encode()
            connection.reply(Response(500, body))
            return
        connection.reply(Response(200, json.dumps(found).encode()))
