"""`lading build --package image`: real packages on a small base; the image is sound, reproducible, and opens in other tools."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from conftest import Command, Write

from lading.oci import media
from lading.oci.descriptor import Platform
from lading.oci.image import Image, empty
from lading.oci.layer_writer import LayerWriter
from lading.oci.layout import Layout, write_layout
from lading.oci.validate import validate
from lading.store import open_store

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from oci_registry import serving

pytestmark = pytest.mark.network

AMD64 = Platform("linux", "amd64")
FILES = {
    "lambda_function.py": "import six\n\ndef handler(event, context):\n    return six.__version__\n",
    "data/table.csv": "a,b\n",
    "requirements.txt": "six==1.17.0\nnumpy==2.3.4\n",
}
BUILD = ("build", "--package", "image", "--runtime", "python3.13", "--handler", "lambda_function.handler")


def make_base(folder: Path, platform: Platform = AMD64) -> Path:
    """A layout that looks like one of AWS's bases."""
    store = open_store(folder / "base-cache")
    with store.blobs.writer() as output:
        writer = LayerWriter(output, "gzip")
        writer.folder("var")
        writer.file("lambda-entrypoint.sh", 0o755, b"#!/bin/sh\n")
        layer = writer.finish(store.blobs, "base")
    variables = ["LAMBDA_RUNTIME_DIR=/var/runtime", "PATH=/var/lang/bin:/bin", "LAMBDA_TASK_ROOT=/var/task"]
    image = empty(platform).append([layer])
    image = image.configure({"Entrypoint": ["/lambda-entrypoint.sh"], "Env": variables, "Labels": {"from": "base"}})
    write_layout(folder / "base", [image])
    return folder / "base"


def built(path: Path) -> Image:
    return Layout(path).image(AMD64)


def content_of(layout: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of an image by Python's own tar reader: mode and sha256."""
    found: dict[str, tuple[int, bytes]] = {}
    for layer in built(layout).layers:
        with tarfile.open(Layout(layout).path(layer.descriptor.hex), "r:gz") as archive:
            for member in archive:
                if member.isfile():
                    data = archive.extractfile(member)
                    assert data is not None
                    found[member.name] = (member.mode, hashlib.file_digest(data, "sha256").digest())  # type: ignore[arg-type]
    return found


def test_an_image_holds_what_the_zip_holds(lading: Command, write: Write, tmp_path: Path) -> None:
    project, base = write(files=FILES), make_base(tmp_path)
    lading(*BUILD, "--base", base, cwd=project)
    lading(*BUILD[:1], *BUILD[3:], cwd=project)
    assert validate(built(project / "dist" / "project.oci"), AMD64) == ()
    inside = content_of(project / "dist" / "project.oci")
    import zipfile

    with zipfile.ZipFile(project / "dist" / "project.zip") as archive:
        expected = {
            f"var/task/{info.filename}": (
                stat.S_IMODE(info.external_attr >> 16),
                hashlib.sha256(archive.read(info)).digest(),
            )
            for info in archive.infolist()
        }
    assert {name: entry for name, entry in inside.items() if name.startswith("var/task/")} == expected


def test_config_labels_manifest_and_sbom(lading: Command, write: Write, tmp_path: Path) -> None:
    settings = '[tool.lading]\nlabels = { team = "a", "org.opencontainers.image.revision" = "less" }\n'
    project, base = write(files=FILES | {"pyproject.toml": settings}), make_base(tmp_path)
    done = lading(*BUILD, "--base", base, "--label", "org.opencontainers.image.revision=abc", "--json", cwd=project)
    (artifact,) = done.json["artifacts"]
    layout = Layout(project / "dist" / "project.oci")
    image = layout.image()
    assert (artifact["package"], artifact["code_sha256"]) == ("image", image.digest.removeprefix("sha256:"))
    assert artifact["base"] == Layout(base).image().digest
    process = image.process
    assert process["Entrypoint"] == ["/lambda-entrypoint.sh"] and process["Cmd"] == ["lambda_function.handler"]
    assert process["WorkingDir"] == "/var/task"
    assert "PATH=/var/lang/bin:/bin" in process["Env"] and any(e.startswith("LD_LIBRARY_PATH=") for e in process["Env"])
    labels = {"org.opencontainers.image.revision": "abc", "team": "a"}
    assert process["Labels"].items() >= {"from": "base", **labels}.items()
    assert image.annotations.items() >= labels.items()
    assert [line["created_by"] for line in image.settings["history"]] == [
        "base", "lading build: numpy", "lading build: dependencies", "lading build: code",
    ]  # fmt: skip
    (referrer,) = layout.attached()
    document = json.loads(layout.document(referrer))
    assert document["subject"]["digest"] == image.digest
    with layout.open(document["layers"][0]["digest"].removeprefix("sha256:")) as file:
        sbom = json.load(file)
    assert sbom["bomFormat"] == "CycloneDX"
    assert {part["purl"] for part in sbom["components"]} == {"pkg:pypi/six@1.17.0", "pkg:pypi/numpy@2.3.4"}


def test_the_same_inputs_give_the_same_digest_anywhere(lading: Command, write: Write, tmp_path: Path) -> None:
    """Each with an empty cache: everything is made anew, bytecode and native code (of markupsafe) among it."""
    files, digests = FILES | {"requirements.txt": "six==1.17.0\nmarkupsafe==3.0.3\n"}, set()
    for name in ("one", "two"):
        project, base = write(f"{name}/project", files), make_base(tmp_path / name)
        os.utime(project / "lambda_function.py", (0, len(name)))
        (project / "data" / "table.csv").chmod(0o600 if name == "one" else 0o664)
        lading.with_cache(tmp_path / name / "cache")(*BUILD, "--base", base, cwd=project)
        digests.add(built(project / "dist" / "project.oci").digest)
    assert len(digests) == 1


def test_a_code_change_is_one_small_layer_and_kilobytes_are_sent(lading: Command, write: Write, tmp_path: Path) -> None:
    project, base = write(files=FILES), make_base(tmp_path)
    layout = project / "dist" / "project.oci"
    with serving() as server:
        push = ("--push", f"{server.name}/team/app:v1", "--json")
        whole = lading(*BUILD, "--base", base, *push, cwd=project).json["pushed"]
        (project / "lambda_function.py").write_text("import six\n\ndef handler(event, context):\n    return 1\n")
        code = lading(*BUILD, "--base", base, *push, cwd=project).json["pushed"]
        assert (
            server.manifests["team/app", "v1"][1] == built(layout).manifest and code["digest"] == built(layout).digest
        )
    assert whole["sent"] > 5_000_000 and whole["blobs"] > code["blobs"] == 3, "code, config, SBOM"
    assert code["sent"] < 20_000
    before = {layer.digest for layer in built(layout).layers}
    assert "nothing to do" in lading(*BUILD, "--base", base, cwd=project).err
    (project / "lambda_function.py").write_text("import six\n\ndef handler(event, context):\n    return 2\n")
    lading(*BUILD, "--base", base, cwd=project)
    new = [layer for layer in built(layout).layers if layer.digest not in before]
    assert len(new) == 1 and new[0].size < 4096
    lading(*BUILD, "--base", make_base(tmp_path, AMD64), "--label", "a=b", cwd=project)
    assert "base and image" not in lading(*BUILD, "--base", base, cwd=project).out


def test_layers_of_the_project_go_into_the_image(lading: Command, write: Write, tmp_path: Path) -> None:
    project = write(
        files={
            "lambda_function.py": FILES["lambda_function.py"],
            "pyproject.toml": f"""
                [tool.lading]
                runtime = "python3.13"
                [tool.lading.functions.orders]
                handler = "lambda_function.handler"
                package = "image"
                base = "{make_base(tmp_path)}"
                compression = "zstd"
                requirements = []
                layers = ["shared"]
                [tool.lading.layers.shared]
                requirements = ["six==1.17.0"]
            """,
        }
    )
    lading("build", cwd=project)
    image = built(project / "dist" / "orders.oci")
    assert [layer.media_type for layer in image.layers[1:]] == [media.OCI_LAYER_ZSTD] * 2
    assert {finding.code for finding in validate(image, AMD64)} == {"image-zstd"}
    assert (project / "dist" / "shared.zip").is_file()
    plain = b"".join(image.layers[1].uncompressed())
    (tmp_path / "layer.tar").write_bytes(plain)
    with tarfile.open(tmp_path / "layer.tar") as archive:
        assert "opt/python/six.py" in archive.getnames()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--base", "."], 3, "a folder without oci-layout"),
        (["--base", "{base}", "--architecture", "arm64"], 5, "does not hold one image for linux/arm64"),
        (["--base", "{plain}"], 3, "its packages have no awslambdaric"),
        (["--base", "{base}", "--label", "x"], 2, "not a label"),
    ],
)
def test_what_can_not_be_built_says_why(
    lading: Command, write: Write, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    project, base = write(files={"lambda_function.py": "def handler(e, c): ...\n"}), make_base(tmp_path)
    write_layout(tmp_path / "plain", [Layout(base).image().configure({"Entrypoint": None, "Env": []})])
    filled = [argument.format(base=base, plain=tmp_path / "plain") for argument in arguments]
    assert message in lading(*BUILD, *filled, cwd=project, code=code).err
    assert not (project / "dist" / "project.oci").exists()


@pytest.mark.parametrize("form", ["docker-archive", "oci"])
def test_skopeo_reads_the_layout_and_its_docker_archive_is_a_base(
    lading: Command, write: Write, tmp_path: Path, form: str
) -> None:
    skopeo = shutil.which("skopeo") or pytest.skip("skopeo is not installed")
    project, base = write(files=FILES), make_base(tmp_path)
    lading(*BUILD, "--base", base, cwd=project)
    layout = project / "dist" / "project.oci"
    shown = subprocess.run([skopeo, "inspect", f"oci:{layout}"], capture_output=True, check=True, text=True).stdout
    assert json.loads(shown)["Digest"] == built(layout).digest
    copy = tmp_path / "copy"
    target = f"{form}:{copy}:name:tag" if form == "docker-archive" else f"{form}:{copy}:tag"
    subprocess.run([skopeo, "copy", "-q", f"oci:{layout}", target], check=True, capture_output=True)
    lading(*BUILD, "--base", copy, "--output", tmp_path / "second", cwd=project)
    again = built(tmp_path / "second" / "project.oci")
    assert validate(again, AMD64) == ()
    assert [layer.diff_id for layer in again.layers[:4]] == [layer.diff_id for layer in built(layout).layers]


def test_umoci_unpacks_the_tree_that_was_packed(lading: Command, write: Write, tmp_path: Path) -> None:
    umoci = shutil.which("umoci") or pytest.skip("umoci is not installed")
    project = write(files=FILES)
    (project / "link.csv").symlink_to("data/table.csv")
    (project / "tool.sh").write_text("#!/bin/sh\n")
    (project / "tool.sh").chmod(0o755)
    lading(*BUILD, "--base", make_base(tmp_path), cwd=project)
    layout = project / "dist" / "project.oci"
    bundle = tmp_path / "bundle"
    command = [umoci, "unpack", "--rootless", "--image", f"{layout}:latest", str(bundle)]
    subprocess.run(command, check=True, capture_output=True)
    task = bundle / "rootfs" / "var" / "task"
    assert (task / "link.csv").readlink() == Path("data/table.csv")
    assert os.access(task / "tool.sh", os.X_OK)
    unpacked = {
        str(path.relative_to(bundle / "rootfs")): (
            stat.S_IMODE(path.stat().st_mode),
            hashlib.sha256(path.read_bytes()).digest(),
        )
        for path in (bundle / "rootfs").rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert unpacked == content_of(layout)
