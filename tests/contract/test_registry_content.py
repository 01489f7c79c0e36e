"""Repositories and their bytes without HTTP: images resolved by URI, tags, blobs once each, garbage, what a kill leaves."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lading.errors import DownloadError
from lading.oci import media
from lading.oci.descriptor import Platform, digest_of
from lading.oci.image import Image, empty
from lading.oci.layer_writer import LayerWriter
from lading.service.contract.errors import ApiError
from lading.service.control.names import Scope
from lading.service.registry import garbage
from lading.service.registry.manifest import read_manifest
from lading.service.registry.names import Place, host_scope, read_image_uri
from lading.service.registry.registry import LocalRegistry
from lading.service.state import Key, open_state

HERE = "http://127.0.0.1:4566"
MINE = Scope("000000000000", "eu-west-1")
APP = Place(MINE, "team/app")


class Hands:
    """A registry over a folder, its clock, and a store to make images in."""

    def __init__(self, folder: Path) -> None:
        self.time = 1_000_000.0
        self.state = open_state(folder)
        self.registry = LocalRegistry(self.state, folder, lambda: self.time)
        self.catalog, self.content = self.registry.catalog, self.registry.content

    def blob(self, data: bytes, place: Place = APP) -> str:
        upload = self.content.begin(place)
        upload.write(data)
        digest = digest_of(data)
        self.content.finish(upload, digest, lambda stored: self.catalog.use_blob(place, digest, stored))
        return digest

    def image(self, text: str, place: Place = APP, tag: str = "latest") -> Image:
        """An image of one layer, pushed."""
        from lading.store import open_store

        store = open_store(Path(self.content.blobs.path("x" * 64)).parents[4] / "made")
        with store.blobs.writer() as output:
            writer = LayerWriter(output, "gzip")
            writer.file("app.py", 0o644, text.encode())
            layer = writer.finish(store.blobs, "test")
        image = empty(Platform("linux", "amd64")).append([layer]).configure({"Cmd": ["/run"]})
        self.blob(layer.compressed().read(), place)
        self.blob(image.config, place)
        self.manifest(image.manifest, place, tag)
        return image

    def manifest(self, data: bytes, place: Place = APP, tag: str = "") -> str:
        facts = read_manifest(data)
        self.content.keep(data, lambda: self.catalog.put_image(place, facts, tag))
        return facts.digest

    def collect(self) -> int:
        return garbage.collect(self.catalog, self.content)

    def files(self) -> set[str]:
        return {digest for digest, _ in self.content.blobs.list()}

    def close(self) -> None:
        self.content.close()
        self.state.close()


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    with contextlib.closing(Hands(tmp_path / "state")) as found:
        found.catalog.create(APP, {})
        yield found


@pytest.mark.parametrize(
    ("uri", "account", "region", "name"),
    [
        ("127.0.0.1:4566/team/app:v1", "000000000000", "eu-west-1", "team/app"),
        ("localhost:4566/team/app:v1", "000000000000", "eu-west-1", "team/app"),
        ("111122223333.dkr.ecr.us-east-1.amazonaws.com/app:v1", "111122223333", "us-east-1", "app"),
        ("111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn/app:v1", "111122223333", "cn-north-1", "app"),
        ("111122223333.dkr.ecr.us-gov-west-1.localhost:4566/app:v1", "111122223333", "us-gov-west-1", "app"),
        ("111122223333.dkr-ecr.us-east-1.on.aws/app:v1", "111122223333", "us-east-1", "app"),
        ("127.0.0.1:5000/team/app:v1", None, None, None),
        ("public.ecr.aws/lambda/python:3.13", None, None, None),
        ("ghcr.io/team/app:v1", None, None, None),
        ("evil.111122223333.dkr.ecr.us-east-1.amazonaws.com/app:v1", None, None, None),
    ],
)
def test_whose_repository_an_image_uri_means(uri: str, account: str, region: str, name: str) -> None:
    asked = read_image_uri(uri, MINE, HERE)
    if account is None:
        assert asked is None
    else:
        assert asked is not None
        assert (asked.place, asked.tag) == (Place(Scope(account, region), name), "v1")


def test_hosts_without_an_account_are_nobodys() -> None:
    assert host_scope("127.0.0.1:4566") is host_scope("[::1") is host_scope("") is None


def test_an_image_is_resolved_to_its_digest_and_read_without_http(hands: Hands) -> None:
    image = hands.image("one")
    for uri in ("team/app:latest", f"team/app@{image.digest}"):
        found = hands.registry.resolve(f"127.0.0.1:4566/{uri}", MINE, HERE)
        assert found is not None
        assert found.digest == image.digest
        opened = found.open()
        assert opened == image
        assert b"one" in b"".join(opened.layers[0].uncompressed())
    assert hands.registry.resolve("ghcr.io/team/app:latest", MINE, HERE) is None
    for uri, code in (("team/app:v9", "ImageNotFoundException"), ("other:v1", "RepositoryNotFoundException")):
        with pytest.raises(ApiError) as caught:
            hands.registry.resolve(f"127.0.0.1:4566/{uri}", MINE, HERE)
        assert caught.value.code == code


def test_a_tag_moves_and_what_was_pinned_stays_readable(hands: Hands) -> None:
    first, second = hands.image("one"), hands.image("two")
    found = hands.registry.resolve("127.0.0.1:4566/team/app:latest", MINE, HERE)
    assert found is not None and found.digest == second.digest
    assert hands.registry.pinned("x", first.digest, first.media_type).open() == first


def test_an_immutable_tag_stays_where_it_is(hands: Hands) -> None:
    hands.image("one", tag="v1")
    hands.catalog.change(APP, imageTagMutability="IMMUTABLE")
    with pytest.raises(ApiError) as caught:
        hands.image("two", tag="v1")
    assert caught.value.code == "ImageTagAlreadyExistsException"
    hands.image("one", tag="v1")
    filters = [{"filterType": "WILDCARD", "filter": "dev-*"}]
    hands.catalog.change(APP, imageTagMutability="IMMUTABLE_WITH_EXCLUSION", imageTagMutabilityExclusionFilters=filters)
    for text in ("one", "two"):
        hands.image(text, tag="dev-1")


def test_an_image_whose_parts_are_not_there_is_refused(hands: Hands) -> None:
    config = hands.blob(b"{}")
    layer = {"mediaType": media.OCI_LAYER_GZIP, "digest": "sha256:" + "a" * 64, "size": 3}
    document = {
        "schemaVersion": 2,
        "config": {"mediaType": media.OCI_CONFIG, "digest": config, "size": 2},
        "layers": [layer],
    }
    with pytest.raises(ApiError) as caught:
        hands.manifest(json.dumps(document).encode())
    assert caught.value.code == "LayersNotFoundException" and "sha256:aaaa" in caught.value.message
    index = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [layer | {"mediaType": media.OCI_MANIFEST}]}
    with pytest.raises(ApiError) as caught:
        hands.manifest(json.dumps(index).encode())
    assert caught.value.code == "ReferencedImagesNotFoundException"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{", b'{"schemaVersion": 1}', b'{"schemaVersion": 2}', b"[" * 100_000,
        b'{"schemaVersion": 2, "mediaType": "text/plain", "layers": []}',
        b'{"schemaVersion": 2, "layers": [{"digest": "sha256:1"}], "config": {}}',
        b'{"schemaVersion": 2, "manifests": {}}',
        b'{"schemaVersion": 2, "layers": [], "manifests": []}',
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        read_manifest(data)
    assert caught.value.code == "UnsupportedImageTypeException"


def test_a_blob_is_kept_once_and_seen_only_where_it_was_sent(hands: Hands) -> None:
    other = Place(Scope("111122223333", "eu-west-1"), "app")
    hands.catalog.create(other, {})
    digest = hands.blob(b"same")
    assert not hands.catalog.has_blob(other, digest)
    hands.blob(b"same", other)
    assert hands.files() == {digest[7:]}


def test_a_blob_of_two_digests_is_one_file_that_stays_for_either(hands: Hands) -> None:
    strong = f"sha512:{hashlib.sha512(b'layer').hexdigest()}"
    plain = hands.blob(b"layer")
    upload = hands.content.begin(APP)
    upload.write(b"layer")
    hands.content.finish(upload, strong, lambda stored: hands.catalog.use_blob(APP, strong, stored))
    assert hands.files() == {plain[7:]} == {hands.catalog.stored_blob(APP, strong)}
    hands.catalog.drop_blob(APP, plain)
    assert hands.collect() == 0
    hands.catalog.drop_blob(APP, strong)
    assert hands.collect() == len(b"layer")


def test_an_image_under_another_digest_is_pinned_by_its_sha256(hands: Hands) -> None:
    image = hands.image("one")
    facts = read_manifest(image.manifest, "", "sha512")
    assert facts.digest == f"sha512:{hashlib.sha512(image.manifest).hexdigest()}"
    hands.content.keep(image.manifest, lambda: hands.catalog.put_image(APP, facts, "strong"))
    found = hands.registry.resolve("127.0.0.1:4566/team/app:strong", MINE, HERE)
    assert found is not None
    assert (found.digest, found.open()) == (image.digest, image), "a tag is of the sha256 digest, whatever came before"
    hands.catalog.delete_image(APP, image.digest)
    assert hands.collect() == 0
    hands.catalog.delete_image(APP, facts.digest)
    assert hands.collect() == len(image.manifest)


def test_an_upload_of_other_content_leaves_nothing(hands: Hands) -> None:
    upload = hands.content.begin(APP)
    upload.write(b"content")
    with pytest.raises(DownloadError):
        hands.content.finish(upload, f"sha256:{'0' * 64}", lambda _: pytest.fail("it was linked"))
    with pytest.raises(ApiError):
        hands.content.upload(APP, upload.identity)
    assert hands.files() == set()


def test_garbage_goes_and_what_an_image_or_a_function_needs_stays(hands: Hands) -> None:
    first, second = hands.image("one", tag="v1"), hands.image("two", tag="v2")
    stray = hands.blob(b"stray")
    under_way = hands.content.begin(APP)
    under_way.write(b"under way")
    assert hands.collect() == 0
    hands.catalog.delete_image(APP, first.digest)
    assert hands.collect() == len(first.manifest)  # its blobs may be wanted by a push that has just looked for them
    hands.time += garbage.GRACE
    assert hands.collect() > 0
    needed = {second.digest, second.config_descriptor.digest, second.layers[0].digest}
    assert hands.files() == {digest[7:] for digest in needed}
    assert not hands.catalog.has_blob(APP, stray)
    version = Key(MINE.account, MINE.region, "version", "f", "$LATEST")
    hands.state.put(version, {"_image": second.digest})
    hands.catalog.delete(APP, force=True)
    assert hands.collect() == 0
    assert hands.registry.pinned("x", second.digest, second.media_type).open() == second
    hands.state.delete(version)
    hands.collect()
    assert hands.files() == set()
    under_way.write(b"!")
    assert hands.content.upload(APP, under_way.identity).size == len(b"under way!")


def test_a_blob_that_is_asked_for_again_stays(hands: Hands) -> None:
    digest = hands.blob(b"layer")
    hands.time += garbage.GRACE - 1
    hands.catalog.use_blob(APP, digest, digest[7:])
    hands.time += garbage.GRACE - 1
    assert hands.collect() == 0
    hands.time += 1
    assert hands.collect() == len(b"layer")


def test_what_a_kill_leaves_of_an_upload_is_gone_at_the_next_start(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = f"""
import os, sys
from pathlib import Path
from lading.service.control.names import Scope
from lading.service.registry.content import Content
from lading.service.registry.names import Place
content = Content(Path({str(tmp_path)!r}))
upload = content.begin(Place(Scope("000000000000", "us-east-1"), "app"))
upload.write(b"x" * (3 << 20))
print(len(list(Path({str(tmp_path)!r}).rglob("temporary/*"))), flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-9, "1\n")
    from lading.service.registry.content import Content

    content = Content(tmp_path)
    assert list(tmp_path.rglob("temporary/*")) == [] and list(content.blobs.list()) == []


def test_digests_are_those_of_the_bytes(hands: Hands) -> None:
    data: Any = b"some bytes"
    assert hands.blob(data) == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert hands.content.blobs.read(hashlib.sha256(data).hexdigest()) == data
