"""A registry for tests: uploads (monolithic, parts, mount), ranges, digests verified, tokens, faults on request."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import os
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lading.oci.descriptor import Platform
from lading.oci.image import Image, empty
from lading.oci.layer_writer import LayerWriter
from lading.store import Store

AMD64 = Platform("linux", "amd64")


class RegistryServer(ThreadingHTTPServer):
    """Blobs by (repository, digest), manifests by (repository, tag or digest)."""

    daemon_threads = True

    def __init__(self, certificate: Path | None = None, name: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = name or f"127.0.0.1:{self.server_address[1]}"
        self.scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.log: list[str] = []
        self.faults: list[tuple[str, str, Any]] = []
        """(method, part of path, status or "cut"): each used once."""
        self.login = ""
        """ "user:secret" to ask for."""
        self.auth = "bearer"
        self.lock = threading.Lock()

    def fault(self, method: str, path: str) -> Any:
        with self.lock:
            for number, (wanted, part, what) in enumerate(self.faults):
                if wanted == method and part in path:
                    del self.faults[number]
                    return what
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RegistryServer

    def log_message(self, *_: Any) -> None:
        return None

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        with self.server.lock:
            self.server.log.append(f"{self.command} {self.path}")
        fault = self.server.fault(self.command, self.path)
        if isinstance(fault, int):
            self.read_body()
            return self.answer(fault, json.dumps({"errors": [{"code": "FAULT", "message": "on request"}]}).encode())
        if url.path == "/token":
            return self.token(url.query)
        if not self.allowed():
            self.read_body()
            kind = f'Bearer realm="{self.server.scheme}://{self.server.name}/token",service="test"'
            challenge = kind if self.server.auth == "bearer" else 'Basic realm="test"'
            return self.answer(401, b"{}", {"WWW-Authenticate": challenge})
        found = re.fullmatch(r"/v2/(.+)/(blobs|manifests)/(uploads/)?([^/]*)", url.path)
        if not found:
            return self.answer(200 if url.path == "/v2/" else 404, b"{}")
        repository, kind, upload, last = found.groups()
        if upload:
            return self.upload(repository, last, parse_qs(url.query), cut=fault == "cut")
        return (self.blob if kind == "blobs" else self.manifest)(repository, last, cut=fault == "cut")

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = handle_any  # noqa: N815

    def allowed(self) -> bool:
        if not self.server.login:
            return True
        given = self.headers.get("Authorization", "")
        basic = "Basic " + base64.b64encode(self.server.login.encode()).decode()
        return given == ("Bearer good" if self.server.auth == "bearer" else basic)

    def token(self, query: str) -> None:
        if self.command == "POST":
            form = parse_qs(self.read_body().decode())
            known = form.get("grant_type") == ["refresh_token"] and form.get("refresh_token") == ["refresh"]
            return self.answer(200, b'{"access_token": "good"}') if known else self.answer(401, b"{}")
        basic = "Basic " + base64.b64encode(self.server.login.encode()).decode()
        if self.headers.get("Authorization") != basic:
            return self.answer(401, b"{}")
        assert parse_qs(query)["scope"][0].startswith("repository:")
        return self.answer(200, b'{"token": "good"}')

    def read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def blob(self, repository: str, digest: str, *, cut: bool) -> None:
        data = self.server.blobs.get((repository, digest))
        if data is None:
            return self.answer(404, b"{}")
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        body = data[start:]
        if cut:
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return None
        return self.answer(206 if wanted else 200, body, {"Docker-Content-Digest": digest})

    def manifest(self, repository: str, target: str, *, cut: bool) -> None:
        if self.command == "PUT":
            data, kind = self.read_body(), self.headers["Content-Type"]
            document = json.loads(data)
            for entry in [document.get("config"), *document.get("layers", ())]:
                if entry and (repository, entry["digest"]) not in self.server.blobs:
                    return self.answer(400, b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "missing"}]}')
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            assert not target.startswith("sha256:") or target == digest
            for name in (target, digest):
                self.server.manifests[repository, name] = (kind, data)
            return self.answer(201, b"", {"Docker-Content-Digest": digest})
        known = self.server.manifests.get((repository, target))
        if known is None:
            return self.answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no such tag"}]}')
        digest = f"sha256:{hashlib.sha256(known[1]).hexdigest()}"
        return self.answer(200, known[1], {"Content-Type": known[0], "Docker-Content-Digest": digest})

    def upload(self, repository: str, session: str, query: dict[str, list[str]], *, cut: bool) -> None:
        uploads, blobs = self.server.uploads, self.server.blobs
        if self.command == "POST":
            source = (query.get("from", [""])[0], query.get("mount", [""])[0])
            if source in blobs:
                blobs[repository, source[1]] = blobs[source]
                return self.answer(201, b"", {"Location": "/x"})
            session = f"s{len(uploads)}"
            uploads[session] = bytearray()
            return self.answer(202, b"", {"Location": f"/v2/{repository}/blobs/uploads/{session}?state=1"})
        if session not in uploads:
            self.read_body()
            return self.answer(404, b"{}")
        location = {"Location": f"/v2/{repository}/blobs/uploads/{session}?state=1"}
        received = uploads[session]
        if self.command == "GET":
            return self.answer(204, b"", {**location, "Range": f"0-{len(received) - 1}"})
        if cut:
            received += self.rfile.read(int(self.headers["Content-Length"]) // 2)
            self.close_connection = True
            self.connection.close()
            return None
        body = self.read_body()
        stated = self.headers.get("Content-Range")
        if stated and int(stated.split("-")[0]) != len(received):
            return self.answer(416, b"{}", {**location, "Range": f"0-{len(received) - 1}"})
        received += body
        if self.command == "PATCH":
            return self.answer(202, b"", {**location, "Range": f"0-{len(received) - 1}"})
        digest = query["digest"][0]
        if f"sha256:{hashlib.sha256(received).hexdigest()}" != digest:
            del uploads[session]
            return self.answer(400, b'{"errors": [{"code": "DIGEST_INVALID", "message": "differs"}]}')
        blobs[repository, digest] = bytes(received)
        return self.answer(201, b"", {"Location": f"/v2/{repository}/blobs/{digest}"})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def image_in(store: Store, *sizes: int) -> Image:
    """One with layers of that many random bytes."""
    layers = []
    for number, size in enumerate(sizes):
        with store.blobs.writer() as output:
            writer = LayerWriter(output, "gzip")
            writer.file(f"file{number}", 0o644, os.urandom(size))
            layers.append(writer.finish(store.blobs, "test"))
    return empty(AMD64).append(layers).configure({"Cmd": ["/run"]})


def self_signed(file: Path, name: str) -> Path:
    """A certificate that is nobody's word but its own, with its key, in a file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(secret + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return file


@contextmanager
def serving(certificate: Path | None = None, name: str = "") -> Iterator[RegistryServer]:
    """`name`: what references call it, where that isn't its address."""
    server = RegistryServer(certificate, name)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
