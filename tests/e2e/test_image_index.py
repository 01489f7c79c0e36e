"""`lading build` for two architectures at once, on a base that has both: the arm64 one is the same small layer under another
config, for nothing of it runs here. The packages are the real ones of each architecture.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from conftest import Command, Write
from test_image_build import AMD64, BUILD, FILES, make_base

from lading.oci import media
from lading.oci.descriptor import Platform
from lading.oci.image import Image
from lading.oci.layout import Layout, write_layout
from lading.oci.validate import validate

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from oci_registry import serving

pytestmark = pytest.mark.network

ARM64 = Platform("linux", "arm64")
NATIVE = {**FILES, "requirements.txt": "six==1.17.0\nmarkupsafe==3.0.3\n"}
PURE = {**FILES, "requirements.txt": "six==1.17.0\n"}
BOTH = ("--architecture", "x86_64", "--architecture", "arm64")
MACHINES = {AMD64: 62, ARM64: 183}
"""e_machine of ELF files: EM_X86_64 and EM_AARCH64. Source: elf.h."""


def make_bases(folder: Path) -> Path:
    images = [Layout(make_base(folder / one.architecture, one)).image() for one in (AMD64, ARM64)]
    write_layout(folder / "bases", images)
    return folder / "bases"


def machines(image: Image) -> set[int]:
    """Of all shared libraries in an image, by Python's own tar reader."""
    found = set()
    for layer in image.layers:
        with layer.compressed() as stream, tarfile.open(fileobj=stream, mode="r:gz") as archive:
            for member in archive:
                data = archive.extractfile(member) if member.isfile() else None
                if data is not None and (head := data.read(20))[:4] == b"\x7fELF":
                    found.add(struct.unpack_from("<H", head, 18)[0])
    return found


def test_one_build_gives_an_index_over_both(lading: Command, write: Write, tmp_path: Path) -> None:
    project, base = write(files=NATIVE), make_bases(tmp_path)
    arguments = (*BUILD, *BOTH, "--base", base)
    done = lading(*arguments, "--json", cwd=project).json
    made = [
        (artifact["name"], Path(artifact["path"]).relative_to(project).as_posix()) for artifact in done["artifacts"]
    ]
    assert made == [
        ("project", "dist/project.oci"), ("project", "dist/arm64/project.oci"), ("project.index", "dist/project.index.oci"),
    ]  # fmt: skip
    layout = Layout(project / "dist" / "project.index.oci")
    (listed,) = layout.manifests()
    assert listed.media_type == media.OCI_INDEX
    images = list(layout.images())
    assert [image.platform for image in images] == [AMD64, ARM64]
    for image in images:
        assert validate(image, image.platform) == ()
        assert machines(image) == {MACHINES[image.platform]}
    assert Layout(project / "dist" / "project.oci").image().digest == images[0].digest
    assert Layout(project / "dist" / "arm64" / "project.oci").image().digest == images[1].digest
    subjects = {json.loads(layout.document(one))["subject"]["digest"] for one in layout.attached()}
    assert subjects == {image.digest for image in images}
    again = lading(*arguments, "--json", cwd=project).json
    assert [artifact["built"] for artifact in again["artifacts"]] == [False, False, False]
    flat = lading(*arguments, "--json", "--flat", cwd=project).json
    assert flat["project.sha256"] == images[0].digest[7:] and flat["project.index.sha256"] == listed.hex


def test_the_index_is_the_same_anywhere_and_follows_the_code(lading: Command, write: Write, tmp_path: Path) -> None:
    files = {**PURE, "pyproject.toml": '[tool.lading]\npackage = "image"\nruntime = "python3.13"\nbase = "../bases"\n'}
    files["pyproject.toml"] += 'architectures = ["arm64", "x86_64"]\n'
    digests = []
    for name in ("one", "two"):
        project = write(f"{name}/project", files)
        make_bases(project.parent)
        lading.with_cache(tmp_path / name / "cache")("build", cwd=project)
        digests.append(Layout(project / "dist" / "project.index.oci").manifests()[0].digest)
    assert digests[0] == digests[1]
    assert Layout(project / "dist" / "project.oci").image().platform == ARM64, "the first is the function's own"
    (project / "lambda_function.py").write_text("def handler(event, context):\n    return 2\n")
    lading("build", cwd=project)
    assert Layout(project / "dist" / "project.index.oci").manifests()[0].digest != digests[0]
    lading("build", "--architecture", "x86_64", cwd=project)
    assert Layout(project / "dist" / "project.oci").image().platform == AMD64, "one asked for is one"


def test_an_index_is_pushed_whole_and_lambda_would_refuse_it(lading: Command, write: Write, tmp_path: Path) -> None:
    project, base = write(files=PURE), make_bases(tmp_path)
    lading(*BUILD, *BOTH, "--base", base, cwd=project)
    layout = project / "dist" / "project.index.oci"
    assert "image-index" in lading("check", layout, cwd=project, code=5).err
    assert lading("check", project / "dist" / "project.oci", cwd=project).code == 0
    skopeo = shutil.which("skopeo") or pytest.skip("skopeo is not installed")
    with serving() as server:
        push = (*BUILD, *BOTH, "--base", base, "--push", f"{server.name}/team/app:v1", "--json")
        pushed = lading(*push, cwd=project).json["pushed"]
        (listed,) = Layout(layout).manifests()
        assert pushed["digest"] == listed.digest
        source = f"docker://{server.name}/team/app:v1"
        command = [skopeo, "copy", "--all", "-q", "--src-tls-verify=false", "--preserve-digests", source]
        subprocess.run([*command, f"oci:{tmp_path / 'copy'}:v1"], check=True, capture_output=True, timeout=120)
    copied = Layout(tmp_path / "copy")
    assert [image.digest for image in copied.images()] == [image.digest for image in Layout(layout).images()]


def test_a_zip_is_for_one_architecture(lading: Command, write: Write) -> None:
    project = write(files={"lambda_function.py": FILES["lambda_function.py"]})
    done = lading("build", "--runtime", "python3.13", "--push", "ghcr.io/team/app:v1", cwd=project, code=2)
    assert "--push is for one image, and this build has none" in done.err and "--package image" in done.err
    done = lading("build", *BOTH, cwd=project, code=2)
    assert "a zip is for one architecture" in done.err and "--package image" in done.err


def test_a_dockerfile_is_for_one_architecture(lading: Command, write: Write) -> None:
    files = {"lambda_function.py": FILES["lambda_function.py"], "Dockerfile": "FROM scratch\nCOPY . /var/task\n"}
    done = lading("build", "--package", "image", *BOTH, cwd=write(files=files), code=None)
    assert done.code and "is to be for x86_64 and arm64" in done.err and "--architecture arm64 --output" in done.err


def test_the_functions_own_is_one_of_them(lading: Command, write: Write) -> None:
    text = '[tool.lading]\npackage = "image"\narchitecture = "x86_64"\narchitectures = ["arm64"]\n'
    project = write(files={"lambda_function.py": FILES["lambda_function.py"], "pyproject.toml": text})
    done = lading("build", cwd=project, code=None)
    assert done.code and "'x86_64' is not one of the architectures arm64" in done.err
