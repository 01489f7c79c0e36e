"""`lading check` of images: a layout, a docker-archive, a registry's; what Lambda refuses is said."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from conftest import Command
from registry_support import make_image, program, run
from serve_support import client, service

from lading.oci.descriptor import Platform
from lading.oci.image import Image, empty
from lading.oci.layout import Layout, write_layout


def other(image: Image) -> Image:
    return empty(Platform("linux", "arm64")).append(image.layers).configure({"Cmd": ["/run"]})


def test_a_good_image_is_good_wherever_it_is(lading: Command, tmp_path: Path) -> None:
    make_image(tmp_path / "image", "one")
    good = lading("check", tmp_path / "image", cwd=tmp_path)
    assert "Lambda would take it" in good.out
    skopeo = program("skopeo")
    archive = tmp_path / "image.tar"
    run(skopeo, "copy", "-q", f"oci:{tmp_path / 'image'}:latest", f"docker-archive:{archive}:app:v1")
    assert lading("check", archive, "--json", cwd=tmp_path).json["failed"] is False
    assert "not linux/arm64" in lading("check", archive, "--architecture", "arm64", cwd=tmp_path, code=5).err
    with service(walls=None) as url:
        client(url, "ecr", region_name="us-east-1").create_repository(repositoryName="app")
        name = f"{urlsplit(url).netloc}/app:v1"
        lading("push", tmp_path / "image", name, cwd=tmp_path)
        assert "Lambda would take it" in lading("check", name, cwd=tmp_path).out
        image = Layout(tmp_path / "image").image()
        write_layout(tmp_path / "both", [image, other(image)], name="latest")
        lading("push", tmp_path / "both", name, cwd=tmp_path)
        assert "image-index" in lading("check", name, cwd=tmp_path, code=5).err
        missing = lading("check", f"{name}9", cwd=tmp_path, code=4)
        assert "has no manifest v19" in missing.err


def test_an_index_and_a_broken_layer_are_found(lading: Command, tmp_path: Path) -> None:
    image = make_image(tmp_path / "image", "one")
    write_layout(tmp_path / "both", [Layout(tmp_path / "image").image(), other(image)], name="latest")
    found = lading("check", tmp_path / "both", "--json", cwd=tmp_path, code=5).json
    assert [finding["code"] for finding in found["findings"]] == ["image-index"]
    assert len(found["images"]) == 2
    blob = Layout(tmp_path / "image").path(image.layers[0].digest[7:])
    data = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "image-digest" in lading("check", tmp_path / "image", cwd=tmp_path, code=5).err
