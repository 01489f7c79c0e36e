"""Images as values, their checks, layouts on disk. Every lie in an image is a finding; every sound one has none."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from oci_samples import AMD64, FILE, MemoryContent, image_of, layer_of, tar_of

from lading.oci import media
from lading.oci import validate as checks
from lading.oci.descriptor import Descriptor, ImageFormatError, Platform, decode, digest_of, encode, read_descriptor
from lading.oci.image import Image, empty, read_image
from lading.oci.layer_writer import LayerWriter
from lading.oci.layout import Layout, index_of, write_layout
from lading.oci.leftovers import unfinished
from lading.oci.validate import CODES, validate, validate_manifest
from lading.store import Store, open_store


@pytest.fixture
def content() -> MemoryContent:
    return MemoryContent()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


def codes(image: Image, platform: Platform | None = AMD64) -> list[str]:
    return [finding.code for finding in validate(image, platform)]


def stored_image(store: Store, *names: str, compression: str = "gzip") -> Image:
    layers = []
    for name in names:
        with store.blobs.writer() as output:
            writer = LayerWriter(output, compression)
            writer.folder("var")
            writer.file(f"var/{name}", 0o644, name.encode() * 1000)
            writer.link(f"var/{name}.link", name)
            layers.append(writer.finish(store.blobs, f"test {name}"))
    return empty(AMD64).append(layers).configure({"Cmd": ["/run"], "Env": ["A=b"]})


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_written_layer_is_a_tar_that_others_read(store: Store, compression: str) -> None:
    (layer,) = stored_image(store, "one", compression=compression).layers
    plain = b"".join(layer.uncompressed())
    assert digest_of(plain) == layer.diff_id
    assert Path(store.blobs.path(layer.descriptor.hex)).stat().st_size == layer.size
    if compression == "gzip":
        assert gzip.decompress(layer.compressed().read()) == plain
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        assert archive.getnames() == ["var", "var/one", "var/one.link"]


def test_ready_deflate_streams_are_copied_and_the_tar_is_the_same_either_way(store: Store) -> None:
    import zlib

    body = os.urandom(3000) + b"text" * 9000
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflater.compress(body) + deflater.flush()
    layers = []
    for compression in ("gzip", "zstd"):
        with store.blobs.writer() as output:
            writer = LayerWriter(output, compression)
            writer.file("first", 0o644, b"1")
            writer.begin("second", 0o755, len(body))
            writer.deflated(packed[:100], body[:50])
            writer.deflated(packed[100:], body[50:])
            writer.end(zlib.crc32(body), len(body))
            writer.begin("empty", 0o644, 0)
            writer.end(0, 0)
            layers.append(writer.finish(store.blobs, "x"))
    assert layers[0].diff_id == layers[1].diff_id
    for layer in layers:
        plain = b"".join(layer.uncompressed())
        assert digest_of(plain) == layer.diff_id
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            assert archive.extractfile("second").read() == body  # type: ignore[union-attr]
            assert archive.getnames() == ["first", "second", "empty"]
    assert packed in layers[0].compressed().read()


def test_the_same_entries_give_the_same_image(tmp_path: Path) -> None:
    first, second = (stored_image(open_store(tmp_path / name), "one", "two") for name in "ab")
    assert first.digest == second.digest
    assert first.digest != stored_image(open_store(tmp_path / "a"), "two", "one").digest


def test_a_sound_image_has_no_findings(store: Store, content: MemoryContent) -> None:
    assert codes(stored_image(store, "one", "two")) == []
    assert codes(image_of(layer_of(content, tar_of([FILE])))) == []
    assert codes(stored_image(store, "one").convert(docker=True)) == []


def test_changes_give_another_image_and_leave_the_first(store: Store) -> None:
    first = stored_image(store, "one")
    digest = first.digest
    second = first.append(stored_image(store, "two").layers).configure({"Env": None, "WorkingDir": "/x"})
    assert first.digest == digest and len(first.layers) == 1
    assert [line["created_by"] for line in second.settings["history"]] == ["test one", "test two"]
    assert second.process == {"Cmd": ["/run"], "WorkingDir": "/x"}
    assert second.annotate({"a": "b"}).annotations == {"a": "b"}


def test_docker_and_oci_forms_convert_without_loss(store: Store) -> None:
    image = stored_image(store, "one")
    docker = image.convert(docker=True)
    assert docker.document["mediaType"] == media.DOCKER_MANIFEST
    assert docker.document["layers"][0]["mediaType"] == media.DOCKER_LAYER_GZIP
    assert docker.convert(docker=False).digest == image.digest


LIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "another digest": ({"digest": "sha256:" + "0" * 64}, ["image-digest"]),
    "another size": ({"size": 5}, ["image-size"]),
    "another diff_id": ({"diff_id": "sha256:" + "0" * 64}, ["image-diff-id"]),
    "not gzip": ({"blob": b"no gzip at all"}, ["image-digest"]),
    "cut short": ({"blob": gzip.compress(tar_of([FILE]), mtime=0)[:-20]}, ["image-digest"]),
    "no tar": ({"blob": gzip.compress(b"x" * 1024)}, ["image-entry"]),
    "unknown media type": ({"media_type": "application/x-other"}, ["image-media-type"]),
    "claims zstd": ({"media_type": media.OCI_LAYER_ZSTD}, ["image-zstd", "image-digest"]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_layer_is_found(content: MemoryContent, lie: str) -> None:
    changes, expected = LIES[lie]
    assert codes(image_of(layer_of(content, tar_of([FILE]), **changes))) == expected


def test_all_mismatches_come_at_once(content: MemoryContent) -> None:
    layers = [layer_of(content, tar_of([FILE]), **changes) for changes, _ in LIES.values()]
    assert codes(image_of(*layers)) == [code for _, expected in LIES.values() for code in expected]


def test_an_uncompressed_layer_is_found(content: MemoryContent) -> None:
    tar = tar_of([FILE])
    assert codes(image_of(layer_of(content, tar, blob=tar, media_type=media.OCI_LAYER))) == ["image-compression"]


ENTRIES: dict[str, tuple[dict[str, Any], str]] = {
    "../etc/passwd": ({}, "leads out"),
    "a/../../b": ({}, "leads out"),
    "hard": ({"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd"}, "hard link"),
    "absolute": ({"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, "hard link"),
    "up": ({"type": tarfile.SYMTYPE, "linkname": "../../etc/passwd"}, "above the image's root"),
    "dev/sda": ({"type": tarfile.BLKTYPE}, "block device"),
    "dev/null": ({"type": tarfile.CHRTYPE}, "character device"),
    "pipe": ({"type": tarfile.FIFOTYPE}, "fifo"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_that_no_image_should_have_is_found(content: MemoryContent, name: str) -> None:
    attributes, message = ENTRIES[name]
    (finding,) = validate(image_of(layer_of(content, tar_of([FILE, (name, attributes, b"")]))), AMD64)
    assert finding.code == "image-entry" and message in finding.message


def test_a_file_below_a_link_of_its_layer_is_found_and_ordinary_links_are_not(content: MemoryContent) -> None:
    link = {"type": tarfile.SYMTYPE}
    usual = [
        ("bin", {**link, "linkname": "usr/bin"}, b""), ("etc/mtab", {**link, "linkname": "/proc/mounts"}, b""),
        ("usr/lib/a/b", {**link, "linkname": "../../lib64/c"}, b""),
        ("h", {"type": tarfile.LNKTYPE, "linkname": "etc/mtab"}, b""),
    ]  # fmt: skip
    assert codes(image_of(layer_of(content, tar_of(usual)))) == []
    assert codes(image_of(layer_of(content, tar_of([*usual, ("bin/sh", {}, b"x")])))) == ["image-entry"]


def test_a_bomb_is_left_when_it_passes_the_limit(content: MemoryContent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LARGEST_IMAGE", 5 << 20)
    layer = layer_of(content, tar_of([("zeros", {}, bytes(20 << 20))]))
    assert codes(image_of(layer)) == ["image-too-large"]
    half = layer_of(content, tar_of([("zeros", {}, bytes(3 << 20))]))
    assert codes(image_of(half, half)) == ["image-too-large"]


def test_what_lambda_refuses_is_found(content: MemoryContent) -> None:
    image = image_of(layer_of(content, tar_of([FILE])))
    without = replace(image, config=encode({**image.settings, "history": []}))
    assert "image-history" in codes(without)
    assert codes(image, Platform("linux", "arm64")) == ["image-platform"]
    assert codes(empty(Platform("windows", "amd64")).configure({"Cmd": ["x"]})) == ["image-platform"]
    assert codes(empty(AMD64)) == ["image-entrypoint"]
    assert [f.code for f in validate_manifest(index_of([image, image]).data)] == ["image-index"]
    assert [f.code for f in validate_manifest(b'{"mediaType": "text/plain"}')] == ["image-media-type"]
    assert [f.code for f in validate_manifest(b"[]")] == ["image-document"]
    assert "image-layers" in codes(image_of(*[layer_of(content, tar_of([FILE]))] * 128))


def test_a_config_that_differs_from_its_descriptor_is_found(content: MemoryContent) -> None:
    image = image_of(layer_of(content, tar_of([FILE])))
    assert codes(replace(image, config=image.config + b" ")) == ["image-digest", "image-size"]


def test_every_code_has_a_fix() -> None:
    assert all(code.meaning and code.fix for code in CODES.values())


@pytest.mark.parametrize(
    "document",
    [
        {}, {"config": 1, "layers": []}, {"config": {"digest": "md5:1", "size": 1}, "layers": []},
        {"config": {"digest": "sha256:" + "a" * 64, "size": -1, "mediaType": "x"}, "layers": []},
        {"config": {"digest": "sha256:../../etc/passwd", "size": 1, "mediaType": "x"}, "layers": []},
        {"mediaType": "application/vnd.docker.distribution.manifest.v1+json"}, {"manifests": []},
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(content: MemoryContent, document: dict[str, Any]) -> None:
    with pytest.raises(ImageFormatError):
        read_image(json.dumps(document).encode(), content)


def test_documents_are_bounded(content: MemoryContent) -> None:
    with pytest.raises(ImageFormatError, match="more than"):
        read_image(b" " * (media.LARGEST_MANIFEST + 1), content)
    with pytest.raises(ImageFormatError, match="not JSON"):
        decode(b"[" * 100_000, "it", limit=1 << 20)
    big = content.add(b" " * (media.LARGEST_CONFIG + 1))
    manifest = {
        "config": {"mediaType": media.OCI_CONFIG, "digest": big, "size": media.LARGEST_CONFIG + 1},
        "layers": [],
    }
    with pytest.raises(ImageFormatError, match="more than"):
        read_image(encode(manifest), content)
    with pytest.raises(ImageFormatError, match="annotations"):
        read_descriptor({"digest": "sha256:" + "a" * 64, "size": 1, "annotations": {"a": 1}}, "it")


def test_a_layout_is_read_back_as_it_was_written(store: Store, tmp_path: Path) -> None:
    image = stored_image(store, "one", "two")
    write_layout(tmp_path / "layout", [image], name="test")
    layout = Layout(tmp_path / "layout")
    again = layout.image(AMD64, name="test")
    assert (again.digest, again.config) == (image.digest, image.config)
    assert codes(again) == []
    write_layout(tmp_path / "copy", [again])
    assert codes(Layout(tmp_path / "copy").image()) == []
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_layout_of_two_platforms_is_an_index_and_a_choice(store: Store, tmp_path: Path) -> None:
    image = stored_image(store, "one")
    arm = empty(Platform("linux", "arm64", "v8")).append(image.layers).configure({"Cmd": ["x"]})
    write_layout(tmp_path / "both", [image, arm])
    layout = Layout(tmp_path / "both")
    assert layout.image(AMD64).digest == image.digest
    assert layout.image(Platform("linux", "arm64")).digest == arm.digest
    assert [f.code for f in validate_manifest(layout.document(layout.manifests()[0]))] == ["image-index"]
    with pytest.raises(ImageFormatError, match="linux/amd64, linux/arm64/v8"):
        layout.image()


def test_a_damaged_layout_says_what_is_wrong(store: Store, tmp_path: Path) -> None:
    image = stored_image(store, "one")
    root = tmp_path / "layout"

    def blob(digest: str) -> Path:
        return Layout(root).path(digest.removeprefix("sha256:"))

    write_layout(root, [image])
    blob(image.layers[0].digest).unlink()
    assert codes(Layout(root).image()) == ["image-digest"]
    blob(image.layers[0].digest).symlink_to("/etc/passwd")
    assert codes(Layout(root).image()) == ["image-digest"]
    write_layout(root, [image])
    blob(image.layers[0].digest).unlink()
    os.mkfifo(blob(image.layers[0].digest))
    assert codes(Layout(root).image()) == ["image-digest"]
    blob(image.config_descriptor.digest).write_bytes(b"{}")
    with pytest.raises(ImageFormatError, match="not what its descriptor says"):
        Layout(root).image()
    (root / "index.json").unlink()
    with pytest.raises(ImageFormatError, match=r"index\.json"):
        Layout(root).manifests()


def test_a_layout_that_can_not_be_written_leaves_the_old_one(store: Store, tmp_path: Path) -> None:
    image = stored_image(store, "one")
    write_layout(tmp_path / "layout", [image])
    gone = stored_image(store, "two")
    store.blobs.delete(gone.layers[0].descriptor.hex)
    with pytest.raises(ImageFormatError, match="not at hand"):
        write_layout(tmp_path / "layout", [gone])
    assert Layout(tmp_path / "layout").image().digest == image.digest
    assert [path.name for path in tmp_path.iterdir()] == ["layout", "cache"] or len(list(tmp_path.iterdir())) == 2


def test_what_a_killed_build_left_is_no_obstacle_and_goes(store: Store, tmp_path: Path) -> None:
    image, root = stored_image(store, "one"), tmp_path / "app.oci"
    write_layout(root, [image])
    mine = unfinished(root)
    killed = mine.name.replace(f".{os.getpid()}.", ".4194304.")  # above every process's number
    for name in (mine.name, killed, f"{killed}.old"):
        (tmp_path / name / "blobs").mkdir(parents=True)
    write_layout(root, [image])
    assert list(tmp_path.glob(".app.oci*")) == [mine]
    assert Layout(root).image().digest == image.digest


def test_indexes_do_not_nest_for_ever(tmp_path: Path) -> None:
    root = tmp_path / "deep"
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    data = encode({"manifests": []})
    for _ in range(7):
        (blobs / digest_of(data).removeprefix("sha256:")).write_bytes(data)
        data = encode({"manifests": [Descriptor(media.OCI_INDEX, digest_of(data), len(data)).as_dict()]})
    (root / "index.json").write_bytes(data)
    with pytest.raises(ImageFormatError, match="four deep"):
        Layout(root).image()
