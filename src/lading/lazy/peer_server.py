"""A cache node: keeps shards of chunks for readers on other machines. HTTP/1.1, GET and PUT of `/shards/NAME/INDEX`.

It holds ciphertext only and is trusted with nothing: readers verify what it sends. A bearer token keeps strangers out.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lading.errors import UsageError
from lading.lazy.disk_cache import DiskCache
from lading.lazy.erasure import LARGEST_SHARD, read_shard

_TARGET = re.compile(r"/shards/([0-9a-f]{64})/([0-4])")
_LARGEST_HEAD = 8_192
_MOST_CONNECTIONS = 512
_IDLE_SECONDS = 120.0
_LINGER_SECONDS, _MOST_LINGERED = 2.0, 2 * LARGEST_SHARD
_REASONS = {
    200: "OK",
    201: "Created",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}


class PeerServer:
    """delay: seconds that every answer waits, for measurements of slow nodes."""

    def __init__(self, cache: DiskCache, token: str = "", delay: float = 0.0) -> None:
        self._cache = cache
        self._token = token
        self._disk = ThreadPoolExecutor(4, "peer-disk")
        self._connections: set[asyncio.Task[None]] = set()
        self.delay = delay

    async def serve(self, listener: socket.socket) -> None:
        """Until it is cancelled."""
        server = await asyncio.start_server(self._connection, sock=listener, limit=_LARGEST_HEAD)
        try:
            async with server:
                await server.serve_forever()
        finally:
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError, TimeoutError):
                while len(self._connections) <= _MOST_CONNECTIONS and await self._answer(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # the server ends, and nobody awaits this task
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether there may be another on this connection."""
        async with asyncio.timeout(_IDLE_SECONDS):
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            except asyncio.LimitOverrunError:
                return await _refuse(reader, writer, 400)
            line, *fields = head.split("\r\n")
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)
            }
            method, _, rest = line.partition(" ")
            length = headers.get("content-length", "0")
            if not length.isdecimal() or "transfer-encoding" in headers:
                return await _refuse(reader, writer, 400)
            if int(length) > LARGEST_SHARD:
                return await _refuse(reader, writer, 413)
            body = await reader.readexactly(int(length))
        if self.delay:
            await asyncio.sleep(self.delay)
        status, content = await self._do(method, rest.partition(" ")[0], headers.get("authorization", ""), body)
        await _send(writer, status, content)
        return headers.get("connection", "").lower() != "close"

    async def _do(self, method: str, target: str, authorization: str, body: bytes) -> tuple[int, bytes]:
        if self._token and not hmac.compare_digest(authorization.encode(), f"Bearer {self._token}".encode()):
            return 401, b""
        found = _TARGET.fullmatch(target)
        if found is None:
            return 404, b""
        name, index = bytes.fromhex(found[1]), int(found[2])
        key = hashlib.sha256(name + bytes([index])).digest()
        loop = asyncio.get_running_loop()
        if method == "GET":
            content = await loop.run_in_executor(self._disk, self._read, key)
            return (404, b"") if content is None else (200, content)
        if method != "PUT":
            return 405, b""
        if read_shard(name, index, body) is None:
            return 400, b""
        kept = await loop.run_in_executor(self._disk, self._cache.put, key, body, 0)
        return (201, b"") if kept else (507, b"")

    def _read(self, key: bytes) -> bytes | None:
        length = self._cache.length(key)
        content = None if length is None else self._cache.read(key, 0, length)
        if content is not None:
            self._cache.touch(key, 0)
        return content


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int) -> bool:
    """What the client still sends is read for a while: else the connection is reset, and it may not see the answer."""
    await _send(writer, status)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            if writer.can_write_eof():
                writer.write_eof()
            left = _MOST_LINGERED
            while left > 0 and (piece := await reader.read(left)):
                left -= len(piece)
    return False


async def _send(writer: asyncio.StreamWriter, status: int, content: bytes = b"") -> bool:
    """False: what comes next on the connection can't be told apart from what was refused."""
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    await writer.drain()
    return False


def bind(host: str, port: int, token: str) -> socket.socket:
    """Where the node listens. Raises UsageError for a place that can't be, or one open to strangers."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and not token:
        raise UsageError(f"a peer on {host} without a token would serve anybody", hint="give it one: --token-file FILE")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UsageError(f"can't listen on {host}:{port}: {error.strerror}", hint="choose another --port") from error


def read_token(file: Path) -> str:
    """Raises UsageError for a file that has none."""
    try:
        token = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"can't read the token in {file}: {error}", hint="name a file with one line of ASCII"
        ) from error
    if not 16 <= len(token) <= 1_024 or not token.isprintable():
        raise UsageError(f"the token in {file} is too short or not one line", hint="openssl rand -hex 32 > FILE")
    return token
