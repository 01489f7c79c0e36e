"""Projects with a Dockerfile: the classical one on a base from a mirror, and what goes wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import Command, Write
from registry_support import own_storage, program
from serve_support import client, service

from lading.oci.descriptor import digest_of
from lading.oci.layout import Layout
from lading.oci.push import read_attached
from lading.oci.tar import Walker

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from oci_samples import tar_of

CLASSICAL = """\
FROM public.ecr.aws/lambda/python:3.10
COPY requirements.txt ${LAMBDA_TASK_ROOT}
RUN pip install -r requirements.txt
COPY lambda_function.py ${LAMBDA_TASK_ROOT}
CMD ["lambda_function.handler"]
"""
HANDLER = "import requests\n\n\ndef handler(event, context):\n    return requests.__version__\n"
REQUIREMENTS = "--trusted-host pypi.org\n--trusted-host files.pythonhosted.org\nrequests==2.32.3\n"
"""pip in the image knows the public certificate authorities only; a test machine may be behind another."""
SMALL = 'FROM scratch\nCOPY lambda_function.py /var/task/\nENTRYPOINT ["/run"]\nCMD ["lambda_function.handler"]\n'
BUILD = ("build", "--package", "image", "--runtime", "python3.13")


@pytest.fixture(name="own_storage")
def _own_storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with own_storage(monkeypatch):
        yield


def names_in(layout: Layout) -> set[str]:
    return {
        entry.name for layer in layout.image().layers for entry in Walker(layer.uncompressed()) if entry.kind == "file"
    }


@pytest.mark.network
def test_the_classical_dockerfile_on_a_base_of_the_local_registry(
    lading: Command, write: Write, tmp_path: Path, own_storage: None
) -> None:
    project = write(
        "orders", {"Dockerfile": CLASSICAL, "requirements.txt": REQUIREMENTS, "lambda_function.py": HANDLER}
    )
    lading("base", "build", "python3.10", "--output", tmp_path / "base", cwd=tmp_path)
    with service(walls=None) as url:
        client(url, "ecr", region_name="us-east-1").create_repository(repositoryName="lambda/python")
        host = urlsplit(url).netloc
        lading("push", tmp_path / "base", f"{host}/lambda/python:3.10", cwd=tmp_path)
        build = ("build", "--package", "image", "--runtime", "python3.10", "--mirror", host, "--json")
        (project / "Dockerfile").write_text(CLASSICAL.replace("RUN pip", "# RUN pip"))
        failed = lading(*build, cwd=project, code=5).json["artifacts"][0]
        assert ("missing-module", "lambda_function.py") in {(one["code"], one["file"]) for one in failed["findings"]}
        assert not (project / "dist" / "orders.oci").exists()
        (project / "Dockerfile").write_text(CLASSICAL)
        done = lading(*build, cwd=project)
    (artifact,) = done.json["artifacts"]
    assert artifact["handler"] == "lambda_function.handler"
    assert {one["severity"] for one in artifact["findings"]} <= {"advice"}
    assert ("requests", "2.32.3") in {(one["name"], one["version"]) for one in artifact["packages"]}
    layout = Layout(project / "dist" / "orders.oci")
    image = layout.image()
    assert image.digest == f"sha256:{artifact['sha256']}"
    assert image.process["Cmd"] == ["lambda_function.handler"]
    assert image.process["Entrypoint"] == ["/lambda-entrypoint.sh"]
    (referrer,) = layout.attached()
    sbom = json.loads(read_attached(layout, [referrer])[1].data)
    assert "pkg:pypi/requests@2.32.3" in {one["purl"] for one in sbom["components"]}
    checked = lading("check", layout.root, "--json", cwd=project).json
    assert (checked["failed"], checked["notes"]) == (False, [])
    names = names_in(layout)
    assert "var/task/lambda_function.py" in names
    assert "var/lang/lib/python3.10/site-packages/requests/__init__.py" in names


def test_a_dockerfile_is_used_for_images_only_and_not_beside_a_base(
    lading: Command, write: Write, own_storage: None
) -> None:
    files = {"Dockerfile": SMALL, "lambda_function.py": "def handler(event, context): ...\n"}
    project = write("small", {**files, "pyproject.toml": '[tool.lading]\nlabels = { team = "b", part = "c" }\n'})
    (artifact,) = lading(*BUILD, "--label", "team=a", "--json", cwd=project).json["artifacts"]
    assert artifact["reason"] == "built by buildah"
    image = Layout(project / "dist" / "small.oci").image()
    assert image.process["Labels"].items() >= {"team": "a", "part": "c"}.items()
    assert lading("build", "--runtime", "python3.13", "--json", cwd=project).json["artifacts"][0]["package"] == "zip"
    assert "can't be pulled" in lading(*BUILD, "--base", "127.0.0.1:1/none:1", cwd=project, code=3).err


def test_what_lambda_refuses_is_found_and_not_written(lading: Command, write: Write, own_storage: None) -> None:
    text = "FROM scratch\nCOPY lambda_function.py /\n"
    project = write("bare", {"Dockerfile": text, "lambda_function.py": "def handler(event, context): ...\n"})
    done = lading(*BUILD, cwd=project, code=5)
    assert "image-entrypoint" in done.err + done.out
    assert not (project / "dist" / "bare.oci").exists()
    assert not list((project / "dist").iterdir())
    lading(*BUILD, "--allow", "image-entrypoint", cwd=project)


def test_a_builder_that_fails_is_quoted(lading: Command, write: Write, own_storage: None) -> None:
    project = write("broken", {"Dockerfile": "FROM scratch\nCOPY nothing.txt /\n", "lambda_function.py": HANDLER})
    done = lading(*BUILD, cwd=project, code=3)
    assert "buildah failed on" in done.err and "nothing.txt" in done.err and "buildah build -f" in done.err
    (project / "Dockerfile").write_text("FROM 127.0.0.1:1/none:1\n")
    assert "--mirror HOST:PORT" in lading(*BUILD, cwd=project, code=3).err


def test_without_a_builder_the_error_says_so(lading: Command, write: Write, tmp_path: Path) -> None:
    project = write("none", {"Dockerfile": SMALL, "lambda_function.py": HANDLER})
    done = lading(*BUILD, cwd=project, env={"PATH": str(tmp_path)}, code=3)
    assert "needs one of buildah, podman, docker" in done.err and "apt-get install buildah" in done.err


FAKE_DOCKER = """\
#!/bin/sh
# Stands for docker's command: its two subcommands as the build uses them, done by buildah. Refuses options it doesn't know.
echo "$@" >> {log}
case "$1" in
build) [ "$2" = --provenance=false ] || exit 9; shift 2; exec {buildah} build --isolation chroot --format docker "$@" ;;
save) [ "$2" = --output ] || exit 9; exec {buildah} push -q "$4" "docker-archive:$3:$4" ;;
*) exit 9 ;;
esac
"""


def test_docker_saves_what_it_built(lading: Command, write: Write, tmp_path: Path, own_storage: None) -> None:
    project = write("small", {"Dockerfile": SMALL, "lambda_function.py": "def handler(event, context): ...\n"})
    programs = tmp_path / "programs"
    programs.mkdir()
    docker = programs / "docker"
    docker.write_text(FAKE_DOCKER.format(log=tmp_path / "log", buildah=program("buildah")))
    docker.chmod(0o755)
    for name in ("sh", "uv"):
        (programs / name).symlink_to(program(name) if name == "sh" else os.devnull)
    (artifact,) = lading(*BUILD, "--json", cwd=project, env={"PATH": str(programs)}).json["artifacts"]
    assert artifact["reason"] == "built by docker"
    assert [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()] == ["build", "save"]
    assert names_in(Layout(project / "dist" / "small.oci")) == {"var/task/lambda_function.py"}
    mirrored = lading(*BUILD, "--mirror", "127.0.0.1:4566", cwd=project, env={"PATH": str(programs)}, code=3)
    assert "its daemon's settings" in mirrored.err


def test_an_error_that_is_allowed_spares_no_image_its_audit(lading: Command, write: Write, tmp_path: Path) -> None:
    """Its config has no history, and its handler imports what isn't there. The builder's work is done already."""
    files = [(name, {"mode": 0o755}, b"") for name in ("lambda-entrypoint.sh", "var/lang/bin/python3.13")]
    layer = tar_of([*files, ("var/task/lambda_function.py", {"mode": 0o644}, HANDLER.encode())])
    process = {"Entrypoint": ["/lambda-entrypoint.sh"], "Cmd": ["lambda_function.handler"], "WorkingDir": "/var/task"}
    rootfs = {"type": "layers", "diff_ids": [digest_of(layer)]}
    config = {"architecture": "amd64", "os": "linux", "config": process, "rootfs": rootfs}
    parts = {"layer.tar": layer, "config.json": json.dumps(config).encode()}
    parts["manifest.json"] = json.dumps([{"Config": "config.json", "Layers": ["layer.tar"]}]).encode()
    (tmp_path / "saved.tar").write_bytes(tar_of((name, {}, data) for name, data in parts.items()))
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\n[ "$1" != save ] || exec /bin/cp {tmp_path / "saved.tar"} "$3"\n')
    docker.chmod(0o755)
    project = write("bare", {"Dockerfile": SMALL, "lambda_function.py": HANDLER})
    build = (*BUILD, "--json", "--allow", "image-history")
    (artifact,) = lading(*build, cwd=project, env={"PATH": str(tmp_path)}, code=5).json["artifacts"]
    assert [one["code"] for one in artifact["findings"]] == ["missing-module"]
    assert not (project / "dist" / "bare.oci").exists()
    (artifact,) = lading(*build, "--allow", "missing-module", cwd=project, env={"PATH": str(tmp_path)}).json[
        "artifacts"
    ]
    assert artifact["findings"] == [] and (project / "dist" / "bare.oci").is_dir()


def test_init_writes_a_dockerfile_that_the_project_is_built_by(lading: Command, tmp_path: Path) -> None:
    done = lading("init", tmp_path / "fresh", "--package", "image", "--runtime", "python3.12", cwd=tmp_path)
    assert "Dockerfile" in done.out
    text = (tmp_path / "fresh" / "Dockerfile").read_text()
    assert "FROM public.ecr.aws/lambda/python:3.12\n" in text
    failed = lading("build", cwd=tmp_path / "fresh", env={"PATH": str(tmp_path)}, code=3)
    assert "a Dockerfile needs one of" in failed.err
    assert json.dumps("lambda_function.lambda_handler") in text
