"""lading-rie inside an image, entered by a plain chroot: the same curl as under AWS's emulator, by the image's own Python."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import Command, Write
from image_support import PATH, RUNTIME, Reply, answering, post, require_base

from lading.build.base import emulator_source

pytestmark = [pytest.mark.network, pytest.mark.root]
HANDLER = """
    import os, time
    def handler(event, context):
        print("seen", event, flush=True)
        if event.get("kind") == "raise":
            raise ValueError("no")
        if event.get("kind") == "exit":
            os._exit(3)
        if event.get("kind") == "sleep":
            time.sleep(event["seconds"])
        custom = context.client_context.custom if context.client_context else None
        return [event, os.environ["_HANDLER"], context.invoked_function_arn, custom]
"""
RUNTIME_LOOP = """
    import os, urllib.request
    base = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation"
    while True:
        with urllib.request.urlopen(f"{base}/next") as event:
            identity, body = event.headers["Lambda-Runtime-Aws-Request-Id"], event.read()
        urllib.request.urlopen(f"{base}/{identity}/response", b'{"custom": %s}' % body).close()
"""


EXTENSION = """\
#!/var/lang/bin/python3.13
import json, os, sys, time, urllib.request
base = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2020-01-01/extension"
def call(path, body=None, **headers):
    request = urllib.request.Request(f"{base}/{path}", body, {f"Lambda-Extension-{key}": value for key, value in headers.items()})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer), answer.headers
mode = open("/opt/mode").read()
if mode == "crash":
    sys.exit(7)
hidden = [name for name in ("_HANDLER", "LAMBDA_TASK_ROOT") if name in os.environ]
told, headers = call("register", b'{"events": ["INVOKE", "SHUTDOWN"]}', Name=os.path.basename(sys.argv[0]))
print("registered", json.dumps(told, sort_keys=True), hidden, flush=True)
while True:
    event, _ = call("event/next", Identifier=headers["Lambda-Extension-Identifier"])
    if event["eventType"] == "INVOKE":
        time.sleep(0.3)
    print("told", event["eventType"], event.get("shutdownReason", event.get("requestId")), flush=True)
    if event["eventType"] == "SHUTDOWN":
        break
"""


@pytest.fixture
def root(lading: Command, write: Write, tmp_path: Path) -> Path:
    """The unpacked files of a function built on a base made here."""
    base = require_base(lading)
    umoci = shutil.which("umoci") or pytest.skip("umoci is not installed")
    project = write(files={"app.py": HANDLER, "requirements.txt": ""})
    build = ("build", "--package", "image", "--base", base, "--runtime", RUNTIME, "--handler", "app.handler")
    lading(*build, cwd=project)
    [layout] = (project / "dist").glob("*.oci")
    subprocess.run(
        [umoci, "unpack", "--image", f"{layout}:latest", str(tmp_path / "bundle")], check=True, capture_output=True
    )
    return tmp_path / "bundle" / "rootfs"


def test_an_image_started_by_chroot_answers_the_same_curl(root: Path, tmp_path: Path) -> None:
    variables = {
        "PATH": "/var/lang/bin:/usr/bin:/bin",
        "LD_LIBRARY_PATH": "/var/lang/lib",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "2",
    }
    command = [shutil.which("chroot") or "/usr/sbin/chroot", str(root), "/lambda-entrypoint.sh", "app.handler"]
    (root / "dev/null").touch()
    with answering(command, tmp_path / "log", **variables) as server:
        first = post(server.url, b'{"n": 1}')
        assert first.status == 200 and first.headers["Content-Type"] == "text/plain; charset=utf-8", server.text
        arn = "arn:aws:lambda:us-east-1:012345678912:function:test_function"
        assert first.json == [{"n": 1}, "app.handler", arn, None]
        assert post(server.url, headers={"X-Amz-Client-Context": "eyJjdXN0b20iOiB7ImEiOiAxfX0="}).json[-1] == {"a": 1}
        assert post(server.url, b'{"kind": "raise"}').json["errorType"] == "ValueError"
        ended = post(server.url, b'{"kind": "exit"}')
        assert ended.status == 502 and ended.json["errorType"] == "Runtime.ExitError"
        assert ended.json["errorMessage"].endswith("Error: Runtime exited with error: exit status 3")
        late = post(server.url, b'{"kind": "sleep", "seconds": 30}')
        assert (late.status, late.body) == (200, b"Task timed out after 2.00 seconds")
        assert post(server.url, b'{"n": 2}').json[0] == {"n": 2}
        assert post(server.url.removesuffix(PATH) + "/x").status == 404
        replies: list[Reply] = []
        thread = threading.Thread(target=lambda: replies.append(post(server.url, b'{"kind": "sleep", "seconds": 1}')))
        before = server.text.count("seen")
        thread.start()
        while server.text.count("seen") == before:
            assert thread.is_alive()
        assert post(server.url).status == 400
        thread.join()
        assert replies[0].status == 200
        assert server.stop(signal.SIGTERM) == 0
    assert "START RequestId: " in server.text and "REPORT RequestId: " in server.text


def test_extensions_are_started_and_told(root: Path, tmp_path: Path) -> None:
    variables = {
        "PATH": "/var/lang/bin:/usr/bin:/bin",
        "LD_LIBRARY_PATH": "/var/lang/lib",
        "LAMBDA_TASK_ROOT": "/var/task",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "5",
    }
    command = [shutil.which("chroot") or "/usr/sbin/chroot", str(root), "/lambda-entrypoint.sh", "app.handler"]
    (root / "dev/null").touch()
    extension, mode = root / "opt/extensions/watcher", root / "opt/mode"
    extension.parent.mkdir(parents=True, exist_ok=True)
    extension.write_text(EXTENSION)
    extension.chmod(0o755)
    mode.write_text("crash")
    with answering(command, tmp_path / "log", **variables) as server:
        crashed = post(server.url)
        assert crashed.status == 502 and crashed.json["errorType"] == "Extension.Crash"
        assert crashed.json["errorMessage"].endswith("watcher exited: exit status 7")
        mode.write_text("run")
        assert post(server.url, b'{"n": 1}').json[0] == {"n": 1}
        identity = '{"functionName": "test_function", "functionVersion": "$LATEST", "handler": "app.handler"}'
        assert f"registered {identity} []" in server.text, server.text
        first = [line.split()[2] for line in server.text.splitlines() if line.startswith("told INVOKE")]
        assert len(first) == 1 and f"END RequestId: {first[0]}" in server.text, "the extension ends the invocation too"
        assert post(server.url, b'{"kind": "exit"}').status == 502
        assert "told SHUTDOWN failure" in server.text
        assert post(server.url, b'{"n": 2}').json[0] == {"n": 2}
        assert server.text.count("registered") == 2
        assert server.stop(signal.SIGTERM) == 0
    assert "told SHUTDOWN spindown" in server.text
    extension.write_text("not a program")
    with answering(command, tmp_path / "log2", **variables) as server:
        assert post(server.url).json["errorType"] == "Extension.LaunchError"


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_it_is_one_file_for_any_python_from_3_9_on(
    version: str, interpreters: dict[str, Path], write: Write, tmp_path: Path
) -> None:
    if version not in interpreters:
        pytest.skip(f"no Python {version} on this machine")
    program = tmp_path / "lading-rie"
    program.write_text(emulator_source(str(interpreters[version])))
    program.chmod(0o755)
    loop = write(files={"runtime.py": RUNTIME_LOOP}) / "runtime.py"
    with answering([str(program), str(interpreters[version]), str(loop)], tmp_path / "log") as server:
        assert [post(server.url, b'{"n": %d}' % number).json for number in range(3)] == [
            {"custom": {"n": n}} for n in range(3)
        ]
        assert server.stop() == 0
    with answering([str(program), "/nowhere"], tmp_path / "log2") as server:
        missing = post(server.url)
        assert missing.status == 502 and missing.json["errorType"] == "Runtime.InvalidEntrypoint"


def test_it_steps_aside_where_the_runtime_api_is(interpreters: dict[str, Path], tmp_path: Path) -> None:
    python = next(iter(interpreters.values()))
    program = tmp_path / "lading-rie"
    program.write_text(emulator_source(str(python)))
    command = [str(python), str(program), str(python), "-c", "print('the command itself')"]
    done = subprocess.run(
        command, env={**os.environ, "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"}, capture_output=True, check=True
    )
    assert done.stdout == b"the command itself\n"


def test_base_rie_writes_it(lading: Command, tmp_path: Path) -> None:
    lading("base", "rie", "--python", "/usr/local/bin/python3", cwd=tmp_path)
    written = tmp_path / "lading-rie"
    assert written.read_text().startswith("#!/usr/local/bin/python3\n") and os.access(written, os.X_OK)
    assert "can't start a program" in lading("base", "rie", "--python", "python3", cwd=tmp_path, code=2).err
    assert "error: can't write" in lading("base", "rie", "--output", tmp_path / "no/file", cwd=tmp_path, code=6).err
