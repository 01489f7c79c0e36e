"""The client for registries: what it loads, that TLS is verified, and connections that are used again, stale or cut."""

from __future__ import annotations

import contextlib
import http.server
import io
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from oci_registry import self_signed

from lading.oci.client import Client, Part, ShortFileError, TransportError


def test_a_push_loads_no_request_library_and_no_certificates() -> None:
    code = """
import sys
import lading.oci.push, lading.oci.pull
lading.oci.client.Client().close()
print([name for name in ("httpx", "httpcore", "h11", "certifi", "asyncio", "zstandard") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[int]:
    """A server that anybody may have set up: its certificate is its own word only. The port."""
    file = self_signed(tmp_path / "server.pem", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_certificate_that_nobody_vouches_for_is_refused(stranger: int) -> None:
    with closing(Client()) as client, pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED"):
        client.send("GET", f"https://localhost:{stranger}/", {})


class Script:
    """A server that answers each request of a connection with the next of these texts, and then closes it unsaid."""

    def __init__(self, *connections: list[bytes]) -> None:
        self.connections = connections
        self.bodies: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v2/"
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        for answers in self.connections:
            connection, _ = self.listener.accept()
            with connection, connection.makefile("rb") as lines:
                for answer in answers:
                    length = 0
                    while (line := lines.readline().strip()) != b"":
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                    self.bodies.append(lines.read(length))
                    with contextlib.suppress(ConnectionError):  # a client that has seen enough
                        connection.sendall(answer)

    def close(self) -> None:
        self.thread.join(30)
        self.listener.close()


def answer(body: bytes, *, said: int | None = None) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body) if said is None else said, body)


def test_a_connection_is_used_again_and_one_that_went_stale_is_made_anew() -> None:
    with closing(Script([answer(b"1"), answer(b"2")], [answer(b"3")])) as script, closing(Client()) as client:
        assert [client.send("GET", script.url, {}).read() for _ in range(3)] == [b"1", b"2", b"3"]


def test_what_is_left_of_an_answer_does_not_end_up_in_the_next() -> None:
    long = bytes(1 << 20)
    with closing(Script([answer(b"little"), answer(long)], [answer(b"fresh")])) as script, closing(Client()) as client:
        client.send("GET", script.url, {}).close()
        client.send("GET", script.url, {}).close()
        assert client.send("GET", script.url, {}).read() == b"fresh"


def test_half_an_answer_is_none() -> None:
    with (
        closing(Script([answer(b"half", said=9)], [b"HTTP/1.1 nonsense\r\n\r\n"])) as script,
        closing(Client()) as client,
    ):
        with pytest.raises(TransportError, match="5 bytes early"):
            client.send("GET", script.url, {}).read()
        with pytest.raises(TransportError):
            client.send("GET", script.url, {}).read()
    for url in ("ftp://localhost/", "http://", "http://localhost:99999/"):
        with closing(Client()) as client, pytest.raises(TransportError):
            client.send("GET", url, {})


def test_a_part_of_a_file_is_sent_whether_it_is_a_real_one_or_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    with closing(Script([answer(b""), answer(b"")], [answer(b"")])) as script, closing(Client()) as client:
        client.send("PUT", script.url, {}, Part(lambda: file.open("rb"), 2, 5)).read()
        client.send("PUT", script.url, {}, Part(lambda: io.BytesIO(b"0123456789"), 2, 5)).read()
        with pytest.raises(ShortFileError):
            client.send("PUT", script.url, {}, Part(lambda: file.open("rb"), 8, 5))
        assert script.bodies[:2] == [b"23456", b"23456"]
