"""A package index on this machine for tests: wheels and sdists made on the spot, served with the faults a test asks for."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lading.model.lock import LockedFile

BACKEND = """
import os, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = os.environ.get("FAKE_WHEEL", "{wheel}")
    with zipfile.ZipFile(os.path.join(directory, name), "w") as archive:
        archive.writestr("{name}.py", "made = True")
        info = "{name}-{version}.dist-info"
        archive.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        archive.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {tag}\\n")
        archive.writestr(info + "/RECORD", "")
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "{name}"
version = "{version}"
"""


def make_wheel(name: str, version: str = "1.0", requires: str = "", extra: dict[str, bytes] | None = None) -> bytes:
    info = f"{name}-{version}.dist-info"
    need = f"Requires-Dist: {requires}\n" if requires else ""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{need}")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
        for path, data in (extra or {}).items():
            archive.writestr(path, data)
    return buffer.getvalue()


def project_files(name: str, version: str, tag: str = "py3-none-any") -> dict[str, str]:
    """A source project whose build backend is in the tree and needs nothing from anywhere."""
    wheel = f"{name}-{version}-{tag}.whl"
    backend = BACKEND.format(name=name, version=version, wheel=wheel, tag=tag)
    return {"backend.py": backend, "pyproject.toml": PYPROJECT.format(name=name, version=version)}


def make_sdist(name: str, version: str, tag: str = "py3-none-any") -> bytes:
    buffer = io.BytesIO()
    files = {
        **project_files(name, version, tag),
        "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
    }
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


class Index:
    """Files by name, and what has been asked. `login` guards everything; `faults` are statuses served first, per file."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.files: dict[str, bytes] = {}
        self.login = ""
        self.faults: dict[str, list[int]] = {}
        self.truncate: set[str] = set()
        self.asked: list[str] = []

    def add(self, filename: str, data: bytes) -> LockedFile:
        self.files[filename] = data
        return LockedFile(filename, self.url(filename), hashlib.sha256(data).hexdigest(), len(data))

    def url(self, filename: str) -> str:
        return f"http://127.0.0.1:{self.port}/files/{filename}"

    def simple(self, login: str = "") -> str:
        return f"http://{login + '@' if login else ''}127.0.0.1:{self.port}/simple/"

    def page(self, project: str) -> bytes:
        links = [
            f'<a href="/files/{name}#sha256={hashlib.sha256(data).hexdigest()}">{name}</a>'
            for name, data in self.files.items()
            if name.split("-")[0].replace("_", "-").lower() == project
        ]
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode() if links else b""


@contextmanager
def serving() -> Iterator[Index]:
    """A running index on a free port; stopped at the end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            index.asked.append(self.path)
            wanted = "Basic " + base64.b64encode(index.login.encode()).decode()
            if index.login and self.headers.get("Authorization") != wanted:
                return self.answer(401, b"", {"WWW-Authenticate": 'Basic realm="index"'})
            part, name = self.path.strip("/").split("/")[:2]
            if faults := index.faults.get(name):
                return self.answer(faults.pop(0), b"", {"Retry-After": "0"})
            body = index.page(name) if part == "simple" else index.files.get(name, b"")
            return self.answer(200 if body else 404, body, {"Content-Type": "text/html"} if part == "simple" else {})

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            short = self.path.rsplit("/", 1)[-1] in index.truncate
            self.wfile.write(body[: len(body) // 2] if short else body)
            self.close_connection = self.close_connection or short

        def do_HEAD(self) -> None:
            self.answer(405, b"", {})

        def log_message(self, *arguments: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index = Index(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
