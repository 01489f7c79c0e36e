"""Connections to registries: the standard library's HTTP, kept while they last, bodies in large pieces between socket and file.

What a request library does beyond that takes longer than the push of a small layer, and slows that of large ones.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, urlsplit

from lading.oci.proxy import BadProxyError, Proxy, find_proxy

if TYPE_CHECKING:
    import ssl

CONNECT_SECONDS = 15.0
STALL_SECONDS = 60.0
"""A peer may be silent for so long, never for ever."""
CHUNK = 1 << 20
LARGEST_ANSWER = 64 << 20
"""Bytes of a body that is read whole."""
LITTLE = 1 << 16
_SAFE = "/%:=&?~+!$,;'@()*[]"
"""What a URL may keep as it is."""


class TransportError(Exception):
    """No answer, or half of one: the connection failed. Another try may help."""


class BadUrlError(TransportError):
    """Nothing that can be connected to; another try won't help."""


@dataclass(frozen=True)
class Part:
    """A body: `length` bytes of a file from `position` on, opened when it is sent (again, where it is sent again)."""

    open: Callable[[], BinaryIO]
    position: int
    length: int


Body = bytes | Part | None
_Key = tuple[str, str, int]
"""Scheme, host and port: connections of one are as good as another's."""


class ShortFileError(Exception):
    """A file ended before its part did."""


class Answer:
    """A response whose body is still to be read. `headers` are found whatever their case."""

    def __init__(
        self, client: Client, connection: _Connection, response: http.client.HTTPResponse, asked: Asked
    ) -> None:
        self.status = response.status
        self.headers = response.headers
        self.asked = asked
        self._client = client
        self._connection: _Connection | None = connection
        self._response = response
        self._content: bytes | None = None

    def pieces(self) -> Iterator[memoryview]:
        """The body; each piece is good until the next is asked for. Raises TransportError where it ends early."""
        buffer = memoryview(bytearray(CHUNK))
        with _failures():
            while length := self._response.readinto(buffer):
                yield buffer[:length]
            if self._response.length:
                raise TransportError(f"the answer ended {self._response.length} bytes early")
        self._leave(reuse=True)

    def read(self) -> bytes:
        """The whole body, remembered. Raises TransportError, also for one that no registry has reason to send."""
        if self._content is None:
            content = bytearray()
            for piece in self.pieces():
                content += piece
                if len(content) > LARGEST_ANSWER:
                    raise TransportError(f"the answer has more than {LARGEST_ANSWER} bytes")
            self._content = bytes(content)
        return self._content

    def json(self) -> Any:
        """Raises ValueError."""
        return json.loads(self.read())

    def close(self) -> None:
        """A little that was not read is read, so that the connection can be used again; where there is more, it goes."""
        left = self._response.length
        if self._connection is not None and left is not None and left <= LITTLE:
            with contextlib.suppress(TransportError), _failures():
                self._response.read()
        self._leave(reuse=self._response.isclosed())

    def _leave(self, *, reuse: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        whole = reuse and not self._response.will_close
        self._response.close()
        if whole:
            self._client.keep(connection)
        else:
            connection.close()


@dataclass(frozen=True)
class Asked:
    """What an answer is to."""

    method: str
    url: str


class Client:
    """Sends requests. Safe between threads; follows no redirects and tries nothing twice but a connection that had gone stale."""

    def __init__(self) -> None:
        self._idle: dict[_Key, list[_Connection]] = {}
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._closed = False

    def send(self, method: str, url: str, headers: Mapping[str, str], body: Body = None) -> Answer:
        """Raises TransportError, BadUrlError, ShortFileError."""
        key, proxy, path = _read_url(url)
        own = {"Host": urlsplit(url).netloc.rpartition("@")[2], "User-Agent": "lading"}
        if proxy and key[0] == "http" and proxy.authorization:
            own["Proxy-Authorization"] = proxy.authorization
        sending = _Sending(method, path, {**own, **headers}, body)
        while (known := self._take(key)) is not None:
            with contextlib.suppress(TransportError):  # it was closed at the other end while nobody used it
                return Answer(self, known, sending.over(known), Asked(method, url))
        fresh = _Connection(key, self._tls() if key[0] == "https" else None, proxy)
        try:
            return Answer(self, fresh, sending.over(fresh), Asked(method, url))
        except TransportError as error:
            if proxy is None:
                raise
            raise TransportError(f"{error} (by way of the proxy {proxy})") from error

    def _take(self, key: _Key) -> _Connection | None:
        with self._lock:
            idle = self._idle.get(key)
            return idle.pop() if idle else None

    def keep(self, connection: _Connection) -> None:
        """For the next request to the same place."""
        with self._lock:
            if not self._closed:
                self._idle.setdefault(connection.key, []).append(connection)
                return
        connection.close()

    def _tls(self) -> ssl.SSLContext:
        """Certificates are read once, when there is something to verify: that takes longer than a small push."""
        import ssl

        with self._lock:
            if self._context is None:
                import certifi

                own = any(os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
                self._context = ssl.create_default_context(cafile=None if own else certifi.where())
            return self._context

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connections = [one for idle in self._idle.values() for one in idle]
            self._idle.clear()
        for connection in connections:
            connection.close()


def _read_url(url: str) -> tuple[_Key, Proxy | None, str]:
    """Where a URL leads, the proxy before it, and what a request asks for. Raises BadUrlError."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise BadUrlError(f"{url[:200]!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadUrlError(f"{url[:200]!r} is no URL of a registry")
    try:
        proxy = find_proxy(parts.scheme, parts.hostname, port, os.environ)
    except BadProxyError as error:
        raise BadUrlError(str(error)) from None
    path = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    if proxy and parts.scheme == "http":  # a proxy reads these; of TLS it passes on what it can't read
        path = f"http://{parts.netloc.rpartition('@')[2]}{path}"
    return (parts.scheme, parts.hostname, port), proxy, path


class _Connection(http.client.HTTPConnection):
    """To one place. Names below .localhost mean this machine (RFC 6761), whether its resolver knows that or not."""

    def __init__(self, key: _Key, context: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        scheme, host, port = key
        place = (proxy.host, proxy.port) if proxy else ("127.0.0.1" if host.endswith(".localhost") else host, port)
        super().__init__(*place, timeout=CONNECT_SECONDS)
        if proxy and scheme == "https":
            self.set_tunnel(host, port, {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {})
        self.key = key
        self._tls = context

    def connect(self) -> None:
        super().connect()
        sock: socket.socket = self.sock
        sock.settimeout(STALL_SECONDS)
        try:
            self.sock = self._tls.wrap_socket(sock, server_hostname=self.key[1]) if self._tls else sock
        except BaseException:
            sock.close()
            raise


@dataclass(frozen=True)
class _Sending:
    """A request, ready to go over any connection."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Body

    def over(self, connection: _Connection) -> http.client.HTTPResponse:
        """The head of the answer. Closes the connection where there is none."""
        try:
            with _failures():
                self._head(connection)
                # One that refuses before it has read everything closes; what it says comes first.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self._send_body(connection)
                return connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _head(self, connection: _Connection) -> None:
        connection.putrequest(self.method, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        length = self.body.length if isinstance(self.body, Part) else len(self.body or b"")
        if self.body is not None or self.method in ("POST", "PUT", "PATCH"):
            connection.putheader("Content-Length", str(length))
        # A small body goes in one packet with the head.
        connection.endheaders(self.body if isinstance(self.body, bytes) and self.body else None)

    def _send_body(self, connection: _Connection) -> None:
        if not isinstance(self.body, Part):
            return
        with contextlib.closing(self.body.open()) as file:
            sent = _send_file(connection, file, self.body.position, self.body.length)
        if sent < self.body.length:
            raise ShortFileError


def _send_file(connection: _Connection, file: BinaryIO, position: int, length: int) -> int:
    """Bytes sent: fewer where the file ends. The kernel copies where it may: not through TLS, and only files."""
    if connection.key[0] == "http" and _is_real(file):
        return connection.sock.sendfile(file, position, length) if length else 0
    file.seek(position)
    left = length
    while left and (data := file.read(min(CHUNK, left))):
        connection.send(data)
        left -= len(data)
    return length - left


def _is_real(file: BinaryIO) -> bool:
    try:
        return file.fileno() >= 0
    except (AttributeError, io.UnsupportedOperation):
        return False


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """What connections and peers do wrong, as TransportError."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TransportError(str(error) or type(error).__name__) from error
