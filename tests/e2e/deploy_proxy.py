"""An HTTP proxy between a deployer and an endpoint that does harm: throttles, answers conflicts, loses answers, kills.

It stands where `--endpoint-url` points, counts requests, and asks its `Trouble` what to do with each.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import SplitResult, parse_qs, urlsplit

_SCOPE = re.compile(r"Credential=[^/]+/\d+/[^/]+/([\w-]+)/aws4_request")
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass(frozen=True)
class Seen:
    """A request: the service that it is signed for, its method and path, and its operation where the body tells it."""

    number: int
    service: str
    method: str
    path: str
    operation: str = ""

    @property
    def writes(self) -> bool:
        if self.operation:
            return not self.operation.startswith(("Get", "List", "Describe"))
        return self.method != "GET" and self.method != "HEAD"


@dataclass(frozen=True)
class Answer:
    """In place of the endpoint's."""

    status: int
    code: str
    message: str


@dataclass
class Trouble:
    """`answer` may refuse and `say` answer (XML) in place of the endpoint; `drop` may cut the connection before the endpoint
    is told anything, `lose` after it has done its work; `before` and `after` are told of each request."""

    answer: Callable[[Seen], Answer | None] = lambda seen: None
    say: Callable[[Seen, bytes], str | None] = lambda seen, body: None
    drop: Callable[[Seen], bool] = lambda seen: False
    lose: Callable[[Seen], bool] = lambda seen: False
    before: Callable[[Seen], None] = lambda seen: None
    after: Callable[[Seen], None] = lambda seen: None
    seen: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    under_way: int = 0
    """Requests that the endpoint has not answered yet, whoever still waits for them."""


class Handler(BaseHTTPRequestHandler):
    """`trouble` and `upstream` are those of a proxy: each has a class of its own."""

    protocol_version = "HTTP/1.1"
    trouble: Trouble
    upstream: SplitResult

    def log_message(self, *_: object) -> None:
        return None

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            # Its sender was killed meanwhile.
            self.close_connection = True
            return
        with self.trouble.lock:
            seen = look(len(self.trouble.seen) + 1, self, body)
            self.trouble.seen.append(seen)
        self.trouble.before(seen)
        answer = self.trouble.answer(seen)
        if answer is not None:
            self.send(answer.status, *error_body(answer, seen.service))
            return
        said = self.trouble.say(seen, body)
        if said is not None:
            self.send(200, {"Content-Type": "text/xml"}, said.encode())
            return
        if self.trouble.drop(seen):
            self.cut()
            return
        with self.trouble.lock:
            self.trouble.under_way += 1
        try:
            status, headers, content = self.forward(body)
        finally:
            with self.trouble.lock:
                self.trouble.under_way -= 1
        self.trouble.after(seen)
        if self.trouble.lose(seen):
            self.cut()
            return
        self.send(status, headers, content)

    def cut(self) -> None:
        self.close_connection = True
        self.connection.close()

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.upstream.hostname or "", self.upstream.port or 80, timeout=120)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in {"connection", "expect"}}
        connection.request(self.command, self.path, body=body, headers=headers)
        response = connection.getresponse()
        content = response.read()
        kept = {name: value for name, value in response.getheaders() if name.lower() not in _HOP}
        connection.close()
        return response.status, kept, content

    def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("date", "server"):
                    self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD" and status != 204:
                self.wfile.write(content)


for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"):
    setattr(Handler, f"do_{method}", Handler.handle_any)


@contextlib.contextmanager
def troubled(url: str, trouble: Trouble) -> Iterator[str]:
    """The proxy's own address while the context lasts."""
    handler = type("Bound", (Handler,), {"trouble": trouble, "upstream": urlsplit(url)})
    server = Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Server(ThreadingHTTPServer):
    """A client that was killed is no error of this server."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def look(number: int, handler: BaseHTTPRequestHandler, body: bytes) -> Seen:
    scope = _SCOPE.search(handler.headers.get("Authorization", ""))
    target = handler.headers.get("X-Amz-Target", "")
    action = parse_qs(body.decode("latin-1")).get("Action", [""])[0] if b"Action=" in body[:200] else ""
    operation = target.rpartition(".")[2] or action
    return Seen(number, scope[1] if scope else "", handler.command, handler.path.partition("?")[0], operation)


def error_body(answer: Answer, service: str) -> tuple[dict[str, str], bytes]:
    """An error as the service's protocol writes it."""
    if service in ("iam", "sts"):
        text = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{answer.code}</Code><Message>{answer.message}</Message>"
            "</Error><RequestId>0</RequestId></ErrorResponse>"
        )
        return {"Content-Type": "text/xml"}, text.encode()
    if service == "s3":
        text = f"<Error><Code>{answer.code}</Code><Message>{answer.message}</Message></Error>"
        return {"Content-Type": "application/xml"}, text.encode()
    document = {"__type": answer.code, "Type": "User", "message": answer.message, "Message": answer.message}
    return {"Content-Type": "application/json", "x-amzn-errortype": answer.code}, json.dumps(document).encode()
