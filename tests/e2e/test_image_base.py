"""`lading base build`: unpacked by umoci and entered by chroot, it runs Python, the SDK, and a function built on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, Write

from lading.oci.descriptor import Platform
from lading.oci.layout import Layout
from lading.oci.validate import validate

pytestmark = pytest.mark.network

RUNTIME = "python3.13"
IMPORTS = """
    import sys, ssl, sqlite3, ctypes, lzma, bz2, zlib, hashlib, decimal, uuid, sysconfig
    sys.path.insert(0, "/var/runtime")
    import boto3, awslambdaric.bootstrap, runtime_client
    boto3.client("s3", region_name="us-east-1")
    print(sys.prefix, sysconfig.get_config_var("prefix"), boto3.__file__, sys.flags.utf8_mode)
"""


@pytest.fixture(scope="module")
def base(lading: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.uname().machine != "x86_64":
        pytest.skip("a base is made for the machine it is made on; this test is written for x86_64")
    folder = tmp_path_factory.mktemp("base")
    done = lading("base", "build", RUNTIME, "--output", folder / "base", cwd=folder, code=None)
    if "uv python install" in done.err:
        pytest.skip(f"no {RUNTIME} on this machine")
    assert done.code == 0, done.err
    return folder / "base"


def unpack(layout: Path, folder: Path) -> Path:
    umoci = shutil.which("umoci") or pytest.skip("umoci is not installed")
    if os.geteuid():
        pytest.skip("chroot needs root")
    command = [umoci, "unpack", "--image", f"{layout}:latest", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "rootfs"


def inside(root: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run in the image's tree, with nothing of this machine's environment."""
    return subprocess.run(
        [shutil.which("chroot") or "/usr/sbin/chroot", str(root), *command],
        env={"PATH": "/var/lang/bin:/usr/bin:/bin", "LANG": "en_US.UTF-8", "LAMBDA_TASK_ROOT": "/var/task", **variables},
        cwd="/", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_base_is_sound_and_looks_like_aws_s(base: Path) -> None:
    image = Layout(base).image()
    assert validate(image, Platform("linux", "amd64")) == ()
    assert image.process["Entrypoint"] == ["/lambda-entrypoint.sh"] and image.process["WorkingDir"] == "/var/task"
    variables = dict(entry.split("=", 1) for entry in image.process["Env"])
    assert variables["LAMBDA_RUNTIME_DIR"] == "/var/runtime" and variables["PATH"].startswith("/var/lang/bin:")
    assert len(image.layers) == 3


def test_the_same_machine_gives_the_same_base(lading: Command, base: Path, tmp_path: Path) -> None:
    lading.with_cache(tmp_path / "cache")("base", "build", RUNTIME, "--output", tmp_path / "again", cwd=tmp_path)
    assert Layout(tmp_path / "again").image().digest == Layout(base).image().digest


def test_python_the_sdk_and_the_client_start_in_it(base: Path, tmp_path: Path) -> None:
    root = unpack(base, tmp_path / "bundle")
    done = inside(root, "/var/lang/bin/python", "-c", textwrap.dedent(IMPORTS))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:3] == ["/var/lang", "/var/lang", "/var/runtime/boto3/__init__.py"]
    assert inside(root, "pip", "--version").returncode == 0
    assert os.access(root / "usr/local/bin/aws-lambda-rie", os.X_OK)
    assert inside(root, "/lambda-entrypoint.sh").returncode == 142
    assert not list(root.rglob("*.a")) and not (root / "var/lang/lib/python3.13/test").exists()


class RuntimeApi(BaseHTTPRequestHandler):
    """One event; the answer is kept."""

    protocol_version = "HTTP/1.1"
    answers: list[tuple[str, Any]]
    asked = 0

    def log_message(self, *_: Any) -> None:
        return None

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.asked > 1:
            self.connection.close()
            self.close_connection = True
            return
        body = json.dumps({"number": 20}).encode()
        self.send_response(200)
        for key, value in {
            "Lambda-Runtime-Aws-Request-Id": "r1",
            "Lambda-Runtime-Deadline-Ms": "99999999999999",
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:1:function:f",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answers.append((self.path, json.loads(body)))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def runtime_api() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    handler = type("Handler", (RuntimeApi,), {"answers": [], "asked": 0})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}", handler.answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_function_built_on_it_answers_an_event(
    lading: Command, write: Write, base: Path, tmp_path: Path, runtime_api: tuple[str, list[tuple[str, Any]]]
) -> None:
    address, answers = runtime_api
    handler = """
        import os, sys
        import numpy

        def handler(event, context):
            return {"sum": int(numpy.arange(event["number"]).sum()), "path": sys.path, "cwd": os.environ["_HANDLER"]}
    """
    project = write(files={"app.py": handler, "requirements.txt": "numpy==2.3.4\n"})
    lading("build", "--package", "image", "--base", base, "--runtime", RUNTIME, cwd=project)
    root = unpack(project / "dist" / "project.oci", tmp_path / "bundle")
    image = Layout(project / "dist" / "project.oci").image()
    variables = dict(entry.split("=", 1) for entry in image.process["Env"])
    command = [*image.process["Entrypoint"], *image.process["Cmd"]]
    inside(root, *command, **variables, AWS_LAMBDA_RUNTIME_API=address)
    assert [path for path, _ in answers] == ["/2018-06-01/runtime/invocation/r1/response"], answers
    assert answers[0][1]["sum"] == 190 and answers[0][1]["cwd"] == "app.handler"
    assert answers[0][1]["path"][:2] == ["/var/task", "/opt/python/lib/python3.13/site-packages"]


def test_another_processor_s_base_is_refused(lading: Command, tmp_path: Path) -> None:
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("asks for arm64 on x86_64")
    done = lading("base", "build", RUNTIME, "--architecture", "arm64", cwd=tmp_path, code=3)
    assert "can't be made here" in done.err or "uv python install" in done.err
