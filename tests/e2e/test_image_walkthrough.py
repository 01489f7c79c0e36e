"""A container image from Dockerfile to invoke, by public commands alone: buildah, lading run, curl, aws, podman."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import Command, Write
from image_support import answering, require_base, running
from registry_support import Podman, aws, own_storage, program, run
from serve_support import ACCOUNT, make_role, service

pytestmark = [pytest.mark.network, pytest.mark.root]
DOCKERFILE = """
    FROM {host}/lambda/python:3.13
    ENV AWS_LAMBDA_FUNCTION_TIMEOUT=60
    COPY requirements.txt ${{LAMBDA_TASK_ROOT}}
    RUN ["/var/lang/bin/python3.13", "-c", "open('/var/task/made', 'w').write('by buildah')"]
    COPY lambda_function.py ${{LAMBDA_TASK_ROOT}}
    CMD [ "lambda_function.handler" ]
"""
HANDLER = """
    import os

    def handler(event, context):
        return {"statusCode": 200, "event": event, "made": os.path.exists("/var/task/made")}
"""
ANSWER = {"statusCode": 200, "event": {}}
REGION = "us-east-1"
NAME = "docker-lambda"


@pytest.fixture
def podman() -> Iterator[Podman]:
    """Below a short path, which podman insists on."""
    folder = Path(tempfile.mkdtemp(prefix="lw-"))
    yield Podman(folder)
    shutil.rmtree(folder, ignore_errors=True)


def test_from_dockerfile_to_invoke(
    lading: Command, write: Write, tmp_path: Path, podman: Podman, monkeypatch: pytest.MonkeyPatch
) -> None:
    buildah, curl = program("buildah"), program("curl")
    base = require_base(lading)
    with service(tmp_path / "state", neighbours={}) as url, own_storage(monkeypatch):
        host = urlsplit(url).netloc

        def cloud(*arguments: str | Path) -> str:
            return aws(url, *arguments, AWS_DEFAULT_REGION=REGION)

        # the base stands in the local registry, in the place of AWS's public one
        cloud("ecr", "create-repository", "--repository-name", "lambda/python")
        lading("push", base, f"{host}/lambda/python:3.13", cwd=tmp_path)
        project = write(
            files={
                "Dockerfile": DOCKERFILE.format(host=host),
                "requirements.txt": "",
                "lambda_function.py": HANDLER,
            }
        )
        build = ("bud", "-q", "--tls-verify=false", "--isolation", "chroot", "-t", "docker-image:test", project)
        run(buildah, *build)
        run(buildah, "push", "-q", "docker-image:test", f"oci:{tmp_path / 'made'}:test")
        lading("build", "--package", "image", "--base", base, "--handler", "lambda_function.handler", cwd=project)
        for name, image in (("theirs", "docker-image:test"), ("ours", f"oci:{project / 'dist' / 'project.oci'}")):
            run(buildah, "from", "-q", "--name", name, image)
            started = [buildah, "run", "--isolation", "chroot", "--env", "LADING_RIE_ADDRESS={address}", name, "--"]
            start = ("/lambda-entrypoint.sh", "lambda_function.handler")
            with answering([*started, *start], tmp_path / name, **os.environ) as inside:
                assert json.loads(run(curl, "-s", inside.url, "-d", "{}")) == {**ANSWER, "made": name == "theirs"}
                inside.stop(signal.SIGTERM)
        with running(lading, tmp_path / "log", tmp_path / "made", cwd=project) as server:
            assert json.loads(run(curl, "-s", server.url, "-d", "{}")) == {**ANSWER, "made": True}
            assert server.stop() == 0
        password = cloud("ecr", "get-login-password")
        assert "Login Succeeded" in podman.remote("login", "-u", "AWS", "--password-stdin", host, stdin=password)
        created = json.loads(
            cloud("ecr", "create-repository", "--repository-name", "mylambdarepo", "--image-scanning-configuration",
                "scanOnPush=true", "--image-tag-mutability", "MUTABLE")
        )  # fmt: skip
        logins = {"REGISTRY_AUTH_FILE": str(podman.logins)}
        lading("push", tmp_path / "made", f"{host}/mylambdarepo:latest", cwd=project, env=logins)
        make_role(url)
        role = f"arn:aws:iam::{ACCOUNT}:role/worker"
        uri = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mylambdarepo:latest"
        assert created["repository"]["repositoryName"] == "mylambdarepo"
        cloud("lambda", "create-function", "--function-name", NAME, "--package-type", "Image", "--code", f"ImageUri={uri}",
            "--role", role)  # fmt: skip
        cloud("lambda", "wait", "function-active-v2", "--function-name", NAME)
        answer = json.loads(cloud("lambda", "invoke", "--function-name", NAME, tmp_path / "response.json"))
        assert answer == {"StatusCode": 200, "ExecutedVersion": "$LATEST"}
        assert json.loads((tmp_path / "response.json").read_text())["statusCode"] == 200
