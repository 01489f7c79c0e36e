"""`lading image mount`, `unmount`, `peer` and `stats` as people use them: an image converted, mounted, read, unmounted."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lading.lazy import mount

pytestmark = pytest.mark.root
LADING = str(Path(sys.executable).with_name("lading"))


def write_layout(folder: Path, source: Path) -> Path:
    """An OCI image of one layer, with the folder as /app."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def keep(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(source, "app")
    plain = buffer.getvalue()
    layer = keep(gzip.compress(plain), "layer.v1.tar+gzip")
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["app.handler"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(plain).hexdigest()}"]},
        "history": [{"created_by": "test"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": keep(json.dumps(config).encode(), "config.v1+json"),
        "layers": [layer],
    }
    index = {"schemaVersion": 2, "manifests": [keep(json.dumps(manifest).encode(), "manifest.v1+json")]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


class Place:
    """A store, a key and a cache of its own, and an image in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "LADING_CACHE_DIR": str(folder / "cache"),
            "LADING_LAZY_STORE": str(folder / "store"),
            "LADING_LAZY_KEY": str(folder / "key"),
            "NO_COLOR": "1",
        }
        source = folder / "app"
        source.mkdir()
        (source / "handler.py").write_text("def handler(event, context): return event\n" * 50)
        (source / "big").write_bytes(os.urandom(3 << 20))
        layout = write_layout(folder / "layout", source)
        self.digest = self.run("image", "convert", str(layout)).stdout.strip()

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([LADING, *arguments], env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen([LADING, *arguments], env=self.environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    if problem := mount.find_problem():
        pytest.skip(problem)
    (tmp_path / "mnt").mkdir()
    yield Place(tmp_path)
    mount.unbind(tmp_path / "mnt")


def eventually(done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("end", ["interrupt", "unmount", "kill"])
def test_mounted_read_and_gone(place: Place, end: str):
    folder = place.folder / "mnt"
    command = place.start("image", "mount", place.digest, str(folder))
    assert command.stdout is not None
    try:
        assert "mounted" in command.stdout.readline()
        assert (folder / "app/big").read_bytes() == (place.folder / "app/big").read_bytes()
        assert (folder / "app/handler.py").read_text().startswith("def handler")
        if end == "unmount":
            place.run("image", "unmount", str(folder))
        else:
            command.send_signal(signal.SIGINT if end == "interrupt" else signal.SIGKILL)
        assert command.wait(30) == (-signal.SIGKILL if end == "kill" else 0)
    finally:
        command.kill()
        command.wait()
        command.stdout.close()
    ours = (f"/lading.{command.pid}.", f" {folder} ")
    assert eventually(lambda: not any(mark in Path("/proc/self/mountinfo").read_text() for mark in ours))
    if end != "kill":
        document = json.loads(place.run("image", "stats", "--json").stdout)
        assert document["readers"]["tiers"]["store"]["hits"] > 6
        assert document["readers"]["errors"] == 0
        text = place.run("image", "stats").stdout
        assert "store" in text
        assert "touched" in text


def test_what_cant_be_mounted_is_said(place: Place):
    folder = place.folder / "mnt"
    unknown = place.run("image", "mount", f"sha256:{'0' * 64}", str(folder), code=4)
    assert "hint:" in unknown.stderr
    (folder / "file").touch()
    taken = place.run("image", "mount", place.digest, str(folder), code=7)
    assert "not an empty folder" in taken.stderr
    assert "no lazy image is mounted" in place.run("image", "unmount", str(folder), code=2).stderr
    assert (
        "too few"
        in place.run("image", "mount", place.digest, str(folder), "--peer", "http://127.0.0.1:1", code=7).stderr
    )


def test_a_peer_listens_and_ends(place: Place):
    node = place.start("image", "peer", "--port", "0")
    assert node.stdout is not None
    try:
        url = node.stdout.readline().split()[-1]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}/shards/{'0' * 64}/1", timeout=30)
        assert refused.value.code == 404
        node.send_signal(signal.SIGTERM)
        assert node.wait(30) == 0
    finally:
        node.kill()
        node.wait()
        node.stdout.close()
    assert "without a token" in place.run("image", "peer", "--host", "0.0.0.0", "--port", "0", code=2).stderr
