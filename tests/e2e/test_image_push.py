"""`lading push` with the installed command, and skopeo as the second opinion on what arrived."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Command

from lading.oci.descriptor import Platform
from lading.oci.image import Image, empty
from lading.oci.layer_writer import LayerWriter
from lading.oci.layout import write_layout
from lading.store import open_store

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from oci_registry import RegistryServer, serving

LARGE = 220
"""MiB: more than the memory that a push may take."""


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with serving() as running:
        yield running


def make(folder: Path, *texts: str) -> Image:
    store = open_store(folder / "own-cache")
    layers = []
    for text in texts:
        with store.blobs.writer() as output:
            writer = LayerWriter(output, "gzip")
            writer.file("file", 0o644, text.encode() * 1000)
            layers.append(writer.finish(store.blobs, "test"))
    image = empty(Platform("linux", "amd64")).append(layers).configure({"Cmd": ["/run"]})
    write_layout(folder / "image", [image])
    return image


def test_push_sends_once_and_skopeo_copies_what_arrived(
    lading: Command, tmp_path: Path, server: RegistryServer
) -> None:
    image = make(tmp_path, "a", "b")
    arguments = ("push", tmp_path / "image", f"{server.name}/team/app:v1", "--json")
    first, second = (lading(*arguments, cwd=tmp_path).json for _ in range(2))
    assert (first["digest"], first["blobs"]) == (image.digest, 3)
    assert (second["sent"], second["present"]) == (0, 3)
    skopeo = shutil.which("skopeo") or pytest.skip("skopeo is not installed")
    source = f"docker://{server.name}/team/app:v1"
    command = [
        skopeo,
        "copy",
        "-q",
        "--src-tls-verify=false",
        "--preserve-digests",
        source,
        f"oci:{tmp_path / 'copy'}:v1",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    index = json.loads((tmp_path / "copy" / "index.json").read_text())
    assert index["manifests"][0]["digest"] == image.digest


def test_what_skopeo_pushes_is_a_base(lading: Command, tmp_path: Path, server: RegistryServer) -> None:
    skopeo = shutil.which("skopeo") or pytest.skip("skopeo is not installed")
    make(tmp_path, "a")
    target = f"docker://{server.name}/base:1"
    command = [skopeo, "copy", "-q", "--dest-tls-verify=false", "--format", "v2s2", f"oci:{tmp_path / 'image'}", target]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    project = tmp_path / "project"
    project.mkdir()
    (project / "app.py").write_text("def handler(event, context): ...\n")
    fresh = lading.with_cache(tmp_path / "cache")
    build = ("build", "--package", "image", "--base", f"{server.name}/base:1", "--runtime", "python3.13")
    done = fresh(*build, cwd=project, code=3)
    assert "no awslambdaric" in done.err
    server.log.clear()
    assert "no awslambdaric" in fresh(*build, "--offline", cwd=project, code=3).err
    assert server.log == []
    missing = fresh("build", "--package", "image", "--base", f"{server.name}/none:1", cwd=project, code=3)
    assert "can't be pulled" in missing.err and "lading base build" in missing.err


def test_a_login_that_is_wrong_says_how_to_log_in(lading: Command, tmp_path: Path, server: RegistryServer) -> None:
    server.login = "me:secret"
    make(tmp_path, "a")
    nothing = {"DOCKER_CONFIG": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "REGISTRY_AUTH_FILE": ""}
    done = lading("push", tmp_path / "image", f"{server.name}/app:1", cwd=tmp_path, env=nothing, code=4)
    assert f"podman login {server.name}" in done.err


def test_memory_stays_bounded_for_a_large_image(lading: Command, tmp_path: Path, server: RegistryServer) -> None:
    """The registry only counts here: it would hold the blobs in memory itself."""
    store = open_store(tmp_path / "own-cache")
    with store.blobs.writer() as output:
        writer = LayerWriter(output, "gzip")
        writer.begin("big", 0o644, LARGE << 20)
        import zlib

        deflater, crc, piece = zlib.compressobj(0, zlib.DEFLATED, -15), 0, os.urandom(1 << 20)
        for _ in range(LARGE):
            crc = zlib.crc32(piece, crc)
            writer.deflated(deflater.compress(piece), piece)
        writer.deflated(deflater.flush(), b"")
        writer.end(crc, LARGE << 20)
        layer = writer.finish(store.blobs, "test")
    write_layout(tmp_path / "image", [empty(Platform("linux", "amd64")).append([layer]).configure({"Cmd": ["/x"]})])
    # VmHWM begins anew with the program; ru_maxrss would count the memory of the tests' own process, from before.
    code = (
        "import sys; from lading.cli.main import main; code = main(sys.argv[1:]);"
        "print(code, open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    command = [sys.executable, "-c", code, "push", str(tmp_path / "image"), f"{server.name}/app:1"]
    done = subprocess.run(command, env=lading.environment(), capture_output=True, text=True, timeout=120, check=True)
    status, kilobytes = done.stdout.split()[-2:]
    assert status == "0" and int(kilobytes) < 200_000
