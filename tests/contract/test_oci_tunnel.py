"""Push and pull by way of a proxy: a real one, before a registry with TLS whose name nothing on this machine resolves."""

from __future__ import annotations

import base64
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from oci_registry import AMD64, RegistryServer, image_in, self_signed, serving

from lading.model.progress import Silent
from lading.oci import registry as registries
from lading.oci.pull import pull
from lading.oci.push import push
from lading.oci.reference import parse_reference
from lading.oci.registry import RegistryError
from lading.oci.validate import validate
from lading.store import open_store

HOST = "registry.example"
LOGIN = "me:s3cret"


class Tunnels(socketserver.ThreadingTCPServer):
    """A proxy that answers CONNECT for whoever logs in. Wherever a tunnel should lead, it leads to `target`."""

    daemon_threads = True

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.target = target
        self.asked: list[str] = []


class Tunnel(socketserver.StreamRequestHandler):
    server: Tunnels
    rbufsize = 0  # what follows the request is not ours to read

    def handle(self) -> None:
        request = self.rfile.readline().decode().strip()
        lines = list(iter(lambda: self.rfile.readline().strip().decode(), ""))
        self.server.asked.append(request)
        if f"Proxy-Authorization: Basic {base64.b64encode(LOGIN.encode()).decode()}" not in lines:
            self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", self.server.target)) as other:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            ways = {self.connection: other, other: self.connection}
            while True:
                for source in select.select(list(ways), [], [])[0]:
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    ways[source].sendall(data)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryServer]:
    monkeypatch.setattr(registries, "FIRST_PAUSE", 0.01)
    certificate = self_signed(tmp_path / "server.pem", HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(certificate, HOST) as running:
        yield running


@pytest.fixture
def proxy(registry: RegistryServer) -> Iterator[Tunnels]:
    with Tunnels(registry.server_address[1]) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_all_of_a_push_and_a_pull_goes_through(
    registry: RegistryServer, proxy: Tunnels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{LOGIN}@127.0.0.1:{proxy.server_address[1]}")
    image, name = image_in(open_store(tmp_path / "one"), 100, 3 << 20), parse_reference(f"{HOST}/team/app:v1")
    push([image], [], name, Silent())
    again = pull(name, AMD64, open_store(tmp_path / "other").blobs, Silent())
    assert again.digest == image.digest and validate(again, AMD64) == ()
    assert {line.rpartition(" ")[0] for line in proxy.asked} == {f"CONNECT {HOST}:443"}
    assert len(proxy.asked) < len(registry.log), "connections are kept, through a tunnel too"
    assert not any("Proxy" in line for line in registry.log)


def test_a_proxy_that_lets_nobody_through_is_named(
    registry: RegistryServer, proxy: Tunnels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = f"127.0.0.1:{proxy.server_address[1]}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:wr0ng@{way}")
    blobs = open_store(tmp_path / "other").blobs
    with pytest.raises(RegistryError, match=f"by way of the proxy http://{way}") as caught:
        pull(parse_reference(f"{HOST}/app:1"), AMD64, blobs, Silent())
    assert "407" in caught.value.message and "wr0ng" not in f"{caught.value.message}{caught.value.details}"
    assert registry.log == []
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(RegistryError, match="HTTPS_PROXY is 'socks5:"):
        pull(parse_reference(f"{HOST}/app:1"), AMD64, blobs, Silent())
