"""The service as functions see it from inside their environments: the same APIs at another address, by their roles' keys."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Mapping

from lading.sandbox.spec import SERVICE_API
from lading.service.contract.errors import ApiError
from lading.service.control.names import Scope
from lading.service.neighbours.credentials import LIFETIME, Credentials, RoleCredentials
from lading.service.pool.function import FunctionVersion

ENDPOINT = "AWS_ENDPOINT_URL"
INSIDE = "http://{}:{}".format(*SERVICE_API)
"""Where environments reach the service, whatever port it has outside."""


class ServiceDoor:
    """The pool's `Door`. Without credentials there are no neighbours: nothing leads a function here unless it knows the way."""

    def __init__(self, connect: Callable[[], asyncio.BaseProtocol], credentials: RoleCredentials | None) -> None:
        self._connect = connect
        self._credentials = credentials

    def connect(self) -> asyncio.BaseProtocol:
        return self._connect()

    async def variables(self, function: FunctionVersion) -> Mapping[str, str]:
        if self._credentials is None:
            return {}
        made = await self._issue(self._credentials, function)
        return {ENDPOINT: INSIDE, **made.variables()}

    async def credentials(self, function: FunctionVersion) -> Mapping[str, str]:
        if self._credentials is None:
            raise ApiError("ServiceException", "there are no credentials without neighbours")
        expires = dt.datetime.fromtimestamp(time.time() + LIFETIME, dt.UTC)
        made = await self._issue(self._credentials, function)
        return {
            "AccessKeyId": made.access_key,
            "SecretAccessKey": made.secret,
            "Token": made.token,
            "Expiration": f"{expires:%Y-%m-%dT%H:%M:%SZ}",
        }

    async def _issue(self, credentials: RoleCredentials, function: FunctionVersion) -> Credentials:
        scope = Scope(function.account_id, function.region)
        return await asyncio.to_thread(credentials.issue, scope, function.role, function.name)
