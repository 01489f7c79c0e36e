"""What the tests of the registry share: small images, and clients of the service that are real programs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lading.oci.descriptor import Platform
from lading.oci.image import Image, empty
from lading.oci.layer_writer import LayerWriter
from lading.oci.layout import write_layout
from lading.store import open_store

AWS = Path(sys.executable).with_name("aws")


def program(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def make_image(folder: Path, *texts: str) -> Image:
    """An image with a layer for each text, as a layout in `folder`."""
    store = open_store(folder.with_name(f"{folder.name}-store"))
    layers = []
    for number, text in enumerate(texts):
        with store.blobs.writer() as output:
            writer = LayerWriter(output, "gzip")
            writer.file(f"file{number}", 0o644, text.encode() * 1000)
            layers.append(writer.finish(store.blobs, "test"))
    image = empty(Platform("linux", "amd64")).append(layers).configure({"Cmd": ["/run"]})
    write_layout(folder, [image], name="latest")
    return image


def run(*command: str | Path, stdin: str = "", code: int = 0, **environment: str) -> str:
    """What a program prints to stdout; its exit code must be the one given, else all it said is shown."""
    done = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == code, f"exit {done.returncode}: {command}\n{done.stdout}\n{done.stderr}"
    return done.stdout if code == 0 else done.stderr


@contextlib.contextmanager
def own_storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """buildah's images and containers in a folder that goes again."""
    program("buildah")
    with tempfile.TemporaryDirectory(prefix="lading-") as folder:
        configuration = Path(folder, "storage.conf")
        configuration.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n'
        )
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(configuration))
        yield
        # the overlay driver leaves its own folder mounted on itself, and what the last build stood on
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(f"{folder}/")]):
            subprocess.run(["umount", mount], check=True)


class Podman:
    """podman with a storage and logins of its own below a folder, whose path must be short."""

    def __init__(self, folder: Path) -> None:
        self.logins = folder / "auth.json"
        storage = ["--root", folder / "storage", "--runroot", folder / "run", "--storage-driver", "vfs"]
        self._command: list[str | Path] = [program("podman"), *storage]

    def __call__(self, *arguments: str | Path, stdin: str = "", code: int = 0) -> str:
        return run(*self._command, *arguments, stdin=stdin, code=code)

    def remote(self, action: str, *arguments: str | Path, stdin: str = "", code: int = 0) -> str:
        """login, push, pull: over plain HTTP, with the logins of this folder."""
        own = ("--tls-verify=false", "--authfile", self.logins)
        return self(action, *own, *arguments, stdin=stdin, code=code)


def aws(url: str, *arguments: str | Path, code: int = 0, **environment: str) -> str:
    """The AWS command line against the service."""
    usual = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-west-1"}
    endpoint = {"AWS_ENDPOINT_URL": url, "AWS_CONFIG_FILE": "/nonexistent", "AWS_PAGER": ""}
    return run(AWS, *arguments, code=code, **(usual | endpoint | environment))
