"""Trouble with images, each as one clear error and with nothing half-written left: refusals, a full disk, damage, bombs.

Hostile entries of layers are in test_image_unpack.py, other answers of registries in test_oci_registry.py.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import httpx
import pytest
from oci_registry import AMD64, RegistryServer, image_in, serving

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from oci_samples import FILE, MemoryContent, image_of, layer_of, tar_of

from lading.build.packing import replacing_text
from lading.errors import DownloadError, LadingError, StoreError
from lading.model.progress import Silent
from lading.oci import registry as registries
from lading.oci.descriptor import ImageFormatError, digest_of, encode
from lading.oci.image import Image
from lading.oci.layer_tree import ImageRefusedError
from lading.oci.layout import write_layout
from lading.oci.pull import pull
from lading.oci.push import push
from lading.oci.reference import parse_reference
from lading.oci.registry import RegistryError, UnauthorizedError
from lading.oci.unpack import ImageTrees
from lading.service import embed
from lading.store import Store, open_store


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryServer]:
    monkeypatch.setattr(registries, "FIRST_PAUSE", 0.01)
    with serving() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """One of 2 MB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], check=True)
    yield small
    subprocess.run(["umount", small], check=True)


def large_image(store: Store) -> Image:
    return image_in(store, 5 << 20)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# Registries


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(("method", "part"), [("HEAD", "/blobs/"), ("POST", "/uploads/"), ("PUT", "/manifests/")])
def test_a_refused_push_is_not_tried_again(
    server: RegistryServer, store: Store, status: int, method: str, part: str
) -> None:
    server.faults = [(method, part, status)] * 50
    with pytest.raises(UnauthorizedError) as caught:
        push([large_image(store)], [], parse_reference(f"{server.name}/app:1"), Silent())
    assert "podman login" in caught.value.hint and caught.value.exit_code == 4
    assert not server.manifests
    assert sum(line.startswith(f"{method} ") and part in line for line in server.log) <= 2 * 2, "two blobs, once each"


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (404, 1), (429, 5), (502, 5)])
def test_a_refused_pull_says_which_blob(
    server: RegistryServer, store: Store, tmp_path: Path, status: int, tries: int
) -> None:
    image, name = large_image(store), parse_reference(f"{server.name}/app:1")
    push([image], [], name, Silent())
    server.log.clear()
    digest = image.layers[0].digest
    server.faults = [("GET", digest, status)] * 50
    other = open_store(tmp_path / "other")
    with pytest.raises(RegistryError) as caught:
        pull(name, AMD64, other.blobs, Silent())
    assert digest in caught.value.message and caught.value.hint
    assert sum(digest in line for line in server.log) == tries
    assert not other.blobs.has(image.layers[0].descriptor.hex) and not list(other.leftovers())


def test_a_manifest_of_unknown_type_is_one_error(server: RegistryServer, store: Store, tmp_path: Path) -> None:
    other = open_store(tmp_path / "other")
    for kind in ("application/vnd.docker.distribution.manifest.v1+prettyjws", "text/html", "application/json"):
        server.manifests["app", "1"] = (kind, encode({"schemaVersion": 1, "mediaType": kind}))
        with pytest.raises(LadingError) as caught:
            pull(parse_reference(f"{server.name}/app:1"), AMD64, other.blobs, Silent())
        assert caught.value.message and caught.value.hint
        assert not files_in(tmp_path / "other")


# A full disk


def test_a_pull_onto_a_full_disk(server: RegistryServer, store: Store, disk: Path) -> None:
    image, name = large_image(store), parse_reference(f"{server.name}/app:1")
    push([image], [], name, Silent())
    other = open_store(disk)
    with pytest.raises(StoreError, match="No space left") as caught:
        pull(name, AMD64, other.blobs, Silent())
    assert "lading cache prune" in caught.value.hint
    assert not other.blobs.has(image.layers[0].descriptor.hex) and not list(other.temporary.iterdir())


def test_unpacking_onto_a_full_disk(store: Store, disk: Path) -> None:
    trees = ImageTrees(disk / "trees")
    with pytest.raises(StoreError, match="No space left"):
        trees.unpack(large_image(store))
    assert not list((disk / "trees").iterdir())


LADING = Path(sys.executable).with_name("lading")


@pytest.mark.parametrize("where", ["dist", "cache"])
def test_a_build_onto_a_full_disk_leaves_what_was_there(store: Store, disk: Path, tmp_path: Path, where: str) -> None:
    """The artifact's folder or lading's own may be full; both errors name the next step."""
    base = image_in(store, 100).configure({"Entrypoint": ["/x"], "Env": ["LAMBDA_RUNTIME_DIR=/var/runtime"]})
    write_layout(tmp_path / "base", [base])
    project = tmp_path / "project"
    project.mkdir()
    (project / "app.py").write_text("def handler(event, context): ...\n")
    output = disk if where == "dist" else project / "dist"
    environment = {**os.environ, "LADING_CACHE_DIR": str(disk if where == "cache" else tmp_path / "cache")}
    options = ["--runtime", "python3.13", "--handler", "app.handler", "--base", str(tmp_path / "base")]
    command = [str(LADING), "build", "--package", "image", *options, "--output", str(output)]

    def build() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)

    assert build().returncode == 0
    before = {path: path.read_bytes() for path in files_in(output)}
    (project / "data.bin").write_bytes(os.urandom(4 << 20))
    done = build()
    assert done.returncode == StoreError.exit_code, done.stderr
    assert "No space left on device" in done.stderr and "free space" in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1
    assert {path: path.read_bytes() for path in files_in(output)} == before
    (project / "data.bin").unlink()
    assert build().returncode == 0


def test_a_folder_that_can_not_be_written_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "file" / "app.oci.manifest.json"
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="can't write"), replacing_text(path, "{}"):
        pytest.fail("nothing is built where nothing can be written")


def test_a_push_to_the_service_when_its_disk_is_full(store: Store, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "FIRST_PAUSE", 0.01)
    image = large_image(store)
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    with embed.serving(embed.Settings(port=0, walls=None, state=disk)) as url:
        boto3.client("ecr", endpoint_url=url, **keys).create_repository(repositoryName="app")
        with pytest.raises(RegistryError) as caught:
            push([image], [], parse_reference(f"{urlsplit(url).netloc}/app:1"), Silent())
        assert "507" in caught.value.message and "No space left" in caught.value.details[0]
        assert httpx.head(f"{url}/v2/app/blobs/{image.layers[0].digest}").status_code == 404
        assert httpx.get(f"{url}/v2/app/tags/list").json()["tags"] == []
        assert not [path for path in files_in(disk / "registry") if path.stat().st_size > 1 << 20]


# Damage and bombs


@pytest.mark.parametrize("cut", [1, 20, 5000])
def test_a_truncated_blob_never_appears(server: RegistryServer, store: Store, tmp_path: Path, cut: int) -> None:
    image, name = large_image(store), parse_reference(f"{server.name}/app:1")
    push([image], [], name, Silent())
    key = ("app", image.layers[0].digest)
    server.blobs[key] = server.blobs[key][:-cut]
    other = open_store(tmp_path / "other")
    with pytest.raises(DownloadError, match="broke off") as caught:
        pull(name, AMD64, other.blobs, Silent())
    assert caught.value.hint and not other.blobs.has(image.layers[0].descriptor.hex)
    assert not list(other.temporary.iterdir())


def test_a_gzip_bomb_costs_neither_memory_nor_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte of zeros in a megabyte: left where the image's limit is passed."""
    from lading.oci import unpack

    monkeypatch.setattr(unpack, "LARGEST_IMAGE", 64 << 20)
    content = MemoryContent()
    head = tarfile.TarInfo("zeros")
    head.size = 1 << 30
    bomb = gzip.compress(head.tobuf(), mtime=0) + gzip.compress(bytes(1 << 24), mtime=0) * 65
    assert len(bomb) < 2 << 20
    layer = layer_of(content, b"", blob=bomb, diff_id=digest_of(b"other"), digest=digest_of(bomb))
    with pytest.raises(ImageRefusedError, match="unpacks to more than"):
        ImageTrees(tmp_path / "trees").unpack(image_of(layer))
    assert not list((tmp_path / "trees").iterdir())


def test_a_layer_that_is_not_what_its_config_says_never_appears(tmp_path: Path) -> None:
    content = MemoryContent()
    good = layer_of(content, tar_of([FILE]))
    other = layer_of(content, tar_of([("x", {"mode": 0o644}, b"evil")]), diff_id=digest_of(b"something else"))
    with pytest.raises(ImageFormatError, match="unpacks to"):
        ImageTrees(tmp_path / "trees").unpack(image_of(good, other))
    assert {path.name for path in (tmp_path / "trees").iterdir() if path.is_dir()} <= {
        path.name for path in ImageTrees(tmp_path / "trees").unpack(image_of(good))
    }
