"""A request to the registry as its handlers see it: whose repository, which labels, and the body piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from lading.oci.descriptor import REGISTERED
from lading.service.contract.errors import ApiError
from lading.service.contract.http import HttpRequest, Response
from lading.service.front.body import DisconnectedError, Receive, read_body
from lading.service.registry.answers import RefusedError, digest_invalid
from lading.service.registry.names import Place
from lading.service.registry.registry import LocalRegistry

PIECE = 1 << 20
"""Bytes that are written or sent at a time: what one request keeps in memory."""
PAUSE = 60.0
"""Seconds between two pieces of a body."""
T = TypeVar("T")


@dataclass(frozen=True)
class Ask:
    """`label` is what the path names last: a digest, tag or upload. `place` is a repository that exists where one is named."""

    registry: LocalRegistry
    head: HttpRequest
    receive: Receive
    place: Place
    label: str = ""

    def query(self, name: str) -> str:
        return next((value for key, value in self.head.query if key == name), "")

    @property
    def path(self) -> str:
        """The repository's, for Location headers."""
        return f"/v2/{self.place.name}"

    def digest(self, text: str) -> str:
        """A digest as the client gave it. Raises RefusedError."""
        if not REGISTERED.fullmatch(text):
            raise digest_invalid(text)
        return text

    async def run(self, action: Callable[[], T]) -> T:
        return await self.registry.run(action)

    async def whole_body(self, limit: int) -> bytes:
        """Raises RefusedError beyond `limit` bytes, DisconnectedError."""
        too_large = ApiError("", f"the body has more than {limit} bytes")
        try:
            return await read_body(self.receive, self.head.header("content-length"), limit, too_large)
        except ApiError as error:
            status, code = (413, "SIZE_INVALID") if error is too_large else (408, "UNKNOWN")
            raise RefusedError(status, code, error.message) from None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, PIECE bytes at a time. Raises DisconnectedError after what came before it, RefusedError for a slow client."""
        gathered = bytearray()
        more = True
        while more:
            try:
                async with asyncio.timeout(PAUSE):
                    message = await self.receive()
            except TimeoutError:
                raise RefusedError(408, "BLOB_UPLOAD_INVALID", f"nothing came for {PAUSE:.0f} s") from None
            if message["type"] == "http.disconnect":
                if gathered:
                    yield bytes(gathered)
                raise DisconnectedError
            gathered += message.get("body", b"")
            more = message.get("more_body", False)
            if len(gathered) >= PIECE or (gathered and not more):
                yield bytes(gathered)
                gathered.clear()


Handler = Callable[[Ask], Awaitable[Response]]
