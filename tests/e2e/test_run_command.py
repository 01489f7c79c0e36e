"""`lading run`: what AWS's emulator answers, for a project, a zip, a layout and a docker-archive."""

from __future__ import annotations

import base64
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import Command, Write
from image_support import PATH, RUNTIME, Reply, post, require_base, running

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from oci_registry import serving

pytestmark = [pytest.mark.network, pytest.mark.root]

HANDLER = """
    import os, sys, time

    def handler(event, context):
        print("seen", event)
        if event.get("kind") == "raise":
            raise ValueError("no")
        if event.get("kind") == "exit":
            os._exit(3)
        if event.get("kind") == "sleep":
            time.sleep(event["seconds"])
        custom = context.client_context.custom if context.client_context else None
        arn = context.invoked_function_arn
        return [event, context.function_name, context.memory_limit_in_mb, arn, os.environ.get("X"), custom]
"""


@pytest.fixture(scope="module")
def base(lading: Command) -> Path:
    return require_base(lading)


@pytest.fixture
def project(base: Path, write: Write) -> Path:
    return write(files={"app.py": HANDLER, "requirements.txt": "", "pyproject.toml": PYPROJECT})


PYPROJECT = """
    [tool.lading.functions.orders]
    handler = "app.handler"
    runtime = "python3.13"
"""


def test_it_answers_as_awss_emulator_does(lading: Command, project: Path, tmp_path: Path) -> None:
    with running(lading, tmp_path / "log", ".", "--timeout", "1", "--env", "X=1", cwd=project) as server:
        assert server.url.endswith(PATH)
        whole = post(server.url, b'{"n": 1}')
        assert (whole.status, whole.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
        assert whole.json == [
            {"n": 1},
            "orders",
            "3008",
            "arn:aws:lambda:us-east-1:012345678912:function:orders",
            "1",
            None,
        ]
        context = base64.b64encode(b'{"custom": {"a": 1}}').decode()
        assert post(server.url, headers={"X-Amz-Client-Context": context}).json[-1] == {"a": 1}
        assert post(server.url, headers={"X-Amz-Client-Context": "{"}).status == 500
        raised = post(server.url, b'{"kind": "raise"}')
        assert raised.status == 200 and raised.json["errorType"] == "ValueError"
        ended = post(server.url, b'{"kind": "exit"}')
        assert ended.status == 502 and ended.json["errorType"] == "Runtime.ExitError"
        late = post(server.url, b'{"kind": "sleep", "seconds": 30}')
        assert (late.status, late.body) == (200, b"Task timed out after 1.00 seconds")
        assert post(server.url.removesuffix(PATH) + "/x").body == b"404 page not found\n"
        assert post(server.url + "?x=1", b'{"n": 2}').json[0] == {"n": 2}
        assert post(server.url, headers={"Origin": "http://evil.example"}).status == 403
        assert post(server.url, headers={"Host": "evil.example"}).status == 403
        assert server.stop() == 0
    assert "START RequestId: " in server.text and "seen {'n': 1}" in server.text and "Traceback (most" not in server.text.replace(
        "[ERROR] ValueError: no\nTraceback (most", "")  # fmt: skip


def test_one_at_a_time_and_stopped_in_the_middle(lading: Command, project: Path, tmp_path: Path) -> None:
    with running(lading, tmp_path / "log", ".", cwd=project) as server:
        replies: list[Reply | Exception] = []

        def ask() -> None:
            try:
                replies.append(post(server.url, b'{"kind": "sleep", "seconds": 60}'))
            except Exception as error:
                replies.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while "seen" not in server.text:
            assert thread.is_alive()
        refused = post(server.url)
        assert (refused.status, refused.body) == (400, b"")
        assert server.stop(signal.SIGTERM) == 0
        thread.join(20)
        assert replies and not (isinstance(replies[0], Reply) and replies[0].status == 200)
    assert "Traceback" not in server.text


def test_a_zip_a_layout_an_archive_and_a_reference_answer_the_same(
    lading: Command, base: Path, project: Path, tmp_path: Path
) -> None:
    lading("build", cwd=project)
    lading("build", "--package", "image", "--base", base, cwd=project)
    layout = project / "dist" / "orders.oci"
    sources: list[tuple[str | Path, ...]] = [
        (project / "dist" / "orders.zip", "--handler", "app.handler", "--runtime", RUNTIME),
        (f"oci:{layout}", "--cold-start", "exec"),
    ]
    if shutil.which("skopeo"):
        archive = tmp_path / "orders.tar"
        subprocess.run(
            ["skopeo", "copy", "-q", f"oci:{layout}:latest", f"docker-archive:{archive}:orders:1"], check=True
        )
        sources.append((archive,))
    with serving() as registry:
        name = f"{registry.name}/team/orders:v1"
        lading("push", layout, name, cwd=project)
        for number, source in enumerate([*sources, (name,)]):
            with running(lading, tmp_path / f"log{number}", *source, cwd=project) as server:
                answer = post(server.url, b'{"n": 1}')
                assert answer.status == 200 and answer.json[0] == {"n": 1}, (source, answer, server.text)
                assert server.stop() == 0


def test_an_image_s_own_settings_and_overrides(lading: Command, base: Path, project: Path, tmp_path: Path) -> None:
    lading("build", "--package", "image", "--base", base, cwd=project)
    layout = project / "dist" / "orders.oci"
    with running(lading, tmp_path / "log", layout, "--handler", "nothing.here", cwd=project) as server:
        assert post(server.url).json["errorType"] == "Runtime.ImportModuleError"
    with running(
        lading, tmp_path / "log2", layout, "--entrypoint", "/nowhere", "--memory", "512", cwd=project
    ) as server:
        missing = post(server.url)
        assert missing.status == 502 and missing.json["errorType"] == "Runtime.InvalidEntrypoint"
        assert "IMAGE\tLaunch error: fork/exec /nowhere: no such file or directory" in server.text


def test_invoke_runs_a_function_that_is_packaged_as_an_image(lading: Command, base: Path, project: Path) -> None:
    settings = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(f'{settings}package = "image"\nbase = "{base}"\n')
    built = lading("invoke", "orders", "-e", '{"n": 1}', cwd=project)
    assert built.json[0] == {"n": 1} and "START RequestId" in built.err and "INIT_START" not in built.err
    again = lading("invoke", "--no-build", "--count", "3", cwd=project)
    assert "environments  1" in again.out and "failed        0" in again.out
    layout = project / "dist" / "orders.oci"
    assert lading("invoke", "--artifact", layout, "--env", "X=2", cwd=project).json[4] == "2"
    wrong = lading("invoke", "--artifact", layout, "--handler", "no.handler", cwd=project, code=1)
    assert wrong.json["errorType"] == "Runtime.ImportModuleError"


def test_what_can_t_be_run_is_said(lading: Command, base: Path, project: Path, tmp_path: Path) -> None:
    assert "does not exist" in lading("run", "./nothing", cwd=tmp_path, code=2).err
    assert "no image reference" in lading("run", "Not/An/Image:", cwd=tmp_path, code=2).err.replace(
        "not an image", "no image"
    )
    (tmp_path / "x.tar").write_bytes(b"no archive at all")
    assert lading("run", "x.tar", cwd=tmp_path, code=5).err
    bad = lading("run", ".", cwd=project, env={"AWS_LAMBDA_FUNCTION_TIMEOUT": "soon"}, code=2)
    assert "AWS_LAMBDA_FUNCTION_TIMEOUT is 'soon'" in bad.err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "can't listen on" in lading("run", ".", "--port", port, cwd=project, code=2).err
