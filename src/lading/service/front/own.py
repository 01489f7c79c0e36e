"""The service's own paths: health, and the packages that GetFunction's and GetLayerVersion's links lead to."""

from __future__ import annotations

import asyncio
import hmac
import re

from lading import __version__
from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest, HttpResponse
from lading.service.control.call import sign_location
from lading.service.control.control import Control
from lading.service.front.plain import json_answer, plain_error

_CODE = re.compile(r"/_lading/code/([0-9a-f]{64})")


class OwnRoutes:
    """Answers below /_lading/."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def answer(self, request: HttpRequest) -> HttpResponse:
        try:
            if request.method not in ("GET", "HEAD"):
                raise ApiError("MethodNotAllowed", f"{request.method} is not allowed here", status=405)
            if request.path == "/_lading/health":
                return json_answer({"status": "ok", "version": __version__})
            if match := _CODE.fullmatch(request.path):
                return await self._code(match[1], dict(request.query))
            raise ApiError("NotFound", f"nothing at {request.path[:200]}", status=404)
        except ApiError as error:
            return plain_error(error)

    async def _code(self, digest: str, query: dict[str, str]) -> HttpResponse:
        expires = query.get("expires", "")
        right = sign_location(self._control.state, digest, int(expires)) if expires.isdigit() else ""
        if not right or not hmac.compare_digest(right, query.get("signature", "")):
            raise ApiError("AccessDenied", "the link's signature is wrong: ask for a new one", status=403)
        if int(expires) < self._control.now():
            raise ApiError("AccessDenied", "the link has expired: ask for a new one", status=403)
        if not self._control.packages.has(digest):
            raise ApiError("NoSuchKey", "the package is no longer kept", status=404)
        body = await asyncio.to_thread(self._read, digest)
        return HttpResponse(200, {"Content-Type": "application/zip"}, body)

    def _read(self, digest: str) -> bytes:
        with self._control.packages.open(digest) as file:
            return file.read()
