"""`lading serve` as a command: the real aws command against it, kills at random moments, and its refusals."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from serve_support import REGION, ROLE, client, create, served, service, zipped
from serve_victim import Victims

from lading.cli import serve
from lading.cli.main import main
from lading.service.embed import Settings
from lading.service.front.server import PREFERENCE

MADE = 20
"""Functions of a thread in a life."""
SIGNED = f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/lambda/aws4_request, SignedHeaders=host, Signature=0"
KILLS = int(os.environ.get("LADING_KILLS", "10"))


def test_a_json_line_for_each_request_and_event_and_no_secrets(tmp_path: Path) -> None:
    secret = "hush-hush-hush"
    file = tmp_path / "log"
    with (
        file.open("w") as log,
        served("--no-neighbours", "--state", ":memory:", "--log-format", "json", log=log) as (url, process),
    ):
        api = client(url)
        create(api, "f", Environment={"Variables": {"PASSWORD": secret}})
        answer = api.invoke(FunctionName="f", Payload=json.dumps(secret), ClientContext="e30=")
        with pytest.raises(ClientError) as caught:
            api.get_function(FunctionName="none")
        missing = caught.value.response
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{url}/_lading/code/x?signature={secret}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    text = file.read_text()
    assert secret not in text and "Credential" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    requests = {line["request_id"]: line for line in lines if line["event"] == "request"}
    invoked = requests[answer["ResponseMetadata"]["RequestId"]]
    assert (invoked["service"], invoked["operation"], invoked["status"]) == ("lambda", "Invoke", 200)
    assert invoked["duration"] > 0 and invoked["received"] == len(json.dumps(secret)) and "error" not in invoked
    refused = requests[missing["ResponseMetadata"]["RequestId"]]
    assert (refused["operation"], refused["status"]) == ("GetFunction", 404)
    assert refused["error"] == "ResourceNotFoundException" and refused["account"] == "000000000000"
    ended = [line for line in lines if line["event"] == "invocation"]
    assert [line["request_id"] for line in ended] == [invoked["request_id"]] and ended[0]["status"] == "success"
    states = [line["state"] for line in lines if line["event"] == "environment"]
    assert states[0] == "starting" and states[-1] == "stopped"


def test_it_is_ready_soon_and_ends_when_asked(tmp_path: Path) -> None:
    started = time.monotonic()
    with served("--no-neighbours", "--state", str(tmp_path)) as (url, process):
        with urllib.request.urlopen(f"{url}/_lading/health") as response:
            assert json.load(response)["status"] == "ok"
        ready = time.monotonic() - started
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "kept: functions, layers, images, queued events, logs"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert ready < 10, "1 s is the promise; this bound only allows for a busy machine"


EXTENSION = """#!/var/lang/bin/python3.13
import http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def call(method, path, body=None, **headers):
    api.request(method, "/2020-01-01/extension/" + path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = api.getresponse()
    return answer, json.loads(answer.read())
answer, _ = call("POST", "register", json.dumps({"events": ["SHUTDOWN"]}), Lambda_Extension_Name="watch")
_, event = call("GET", "event/next", Lambda_Extension_Identifier=answer.headers["Lambda-Extension-Identifier"])
print("extension saw", event["eventType"], event["shutdownReason"].lower(), flush=True)
"""


def wait_for_busy(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{url}/_lading/environments") as response:
            if any(one["state"] == "busy" for one in json.load(response)):
                return
        time.sleep(0.02)
    raise AssertionError("no environment ever was at work")


@pytest.mark.skipif(os.geteuid() != 0, reason="environments need root on Linux")
def test_what_is_under_way_finishes_and_environments_have_their_shutdown_phase(tmp_path: Path) -> None:
    """What they say in it is in the log that the next service reads. The service's loop is preferred, what it starts is not."""
    code = "import os, time\ndef handler(event, context):\n    time.sleep(2)\n    return ['finished', os.nice(0)]\n"
    with served("--no-neighbours", "--state", str(tmp_path)) as (url, process):
        api = client(url)
        package = {"ZipFile": zipped({"extensions/watch": EXTENSION}, mode=0o755)}
        layer = api.publish_layer_version(LayerName="watch", Content=package)["LayerVersionArn"]
        create(api, "slow", Code={"ZipFile": zipped({"app.py": code})}, Timeout=20, Layers=[layer])
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(lambda: json.load(api.invoke(FunctionName="slow")["Payload"]))
            wait_for_busy(url)
            threads_of = [int(one.name) for one in Path(f"/proc/{process.pid}/task").iterdir()]
            nices = sorted(os.getpriority(os.PRIO_PROCESS, one) for one in threads_of)
            assert nices[0] == os.getpriority(os.PRIO_PROCESS, process.pid) == PREFERENCE and set(nices[1:]) == {0}
            process.send_signal(signal.SIGTERM)
            assert answer.result(60) == ["finished", 0]
        assert process.wait(60) == 0
    with service(tmp_path, walls=None) as url:
        found = client(url, "logs").filter_log_events(logGroupName="/aws/lambda/slow", filterPattern="saw")
        assert [event["message"] for event in found["events"]] == ["extension saw SHUTDOWN spindown\n"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(state=":memory:", neighbours={}), "nothing is kept"),
        (Settings(state="dir"), "kept: functions, layers, images, queued events, logs"),
        (
            Settings(state="dir", neighbours={}),
            "not kept, in this process's memory: what is in s3, iam, sts, sqs and 9 more",
        ),
        (Settings(state="dir", neighbours={"s3": "http://a"}), "what is in iam, sts, sqs, sns and 8 more"),
    ],
)
def test_what_is_kept_is_told(settings: Settings, said: str) -> None:
    assert said in serve.tell_kept(settings)


def test_the_aws_command(tmp_path: Path) -> None:
    """The walk-through has more of it; this is the command against the command."""
    aws = shutil.which(
        "aws", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )  # early ones don't know the variable
    if aws is None:
        pytest.skip("the aws command is not installed")
    (tmp_path / "code.zip").write_bytes(zipped())
    with served("--no-neighbours", "--state", ":memory:") as (url, _):
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1", "AWS_PAGER": "",
            **{name: value for name, value in os.environ.items() if name.startswith("PYENV")},
        }  # fmt: skip

        def run(*words: str) -> Any:
            done = subprocess.run(
                [aws, "lambda", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
            )
            if "not found" in done.stderr and done.returncode == 127:
                pytest.skip(f"the aws command does not run: {done.stderr}")
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout) if done.stdout.strip() else None

        run("create-function", "--function-name", "my-function", "--runtime", "python3.13", "--role", ROLE,
            "--handler", "app.handler", "--zip-file", "fileb://code.zip")  # fmt: skip
        run("wait", "function-active-v2", "--function-name", "my-function")
        assert run("list-functions", "--query", "Functions[].FunctionName") == ["my-function"]
        if os.geteuid() == 0:
            (tmp_path / "event.json").write_text('{"key": "value"}')
            answer = run("invoke", "--function-name", "my-function", "--payload", "fileb://event.json", "response.json")
            assert answer == {"StatusCode": 200, "ExecutedVersion": "$LATEST"}
            assert json.loads((tmp_path / "response.json").read_text()) == {"key": "value"}
        run("delete-function", "--function-name", "my-function")


def load(url: str, thread: int, kept: dict[str, tuple[str, bytes]], stop: threading.Event) -> None:
    """Create functions until the service is gone, noting what it accepted: name → (digest of the code, zip)."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection), contextlib.suppress(http.client.HTTPException, OSError, ValueError):
        for number in range(MADE):
            if stop.is_set():
                return
            name = f"f-{thread}-{os.urandom(4).hex()}"
            package = zipped({"app.py": f"n = {number}  # {name}"})
            wanted = {
                "FunctionName": name, "Runtime": "python3.13", "Role": ROLE, "Handler": "app.handler",
                "Code": {"ZipFile": b64encode(package).decode()},
            }  # fmt: skip
            connection.request("POST", "/2015-03-31/functions", json.dumps(wanted), {"Authorization": SIGNED})
            answer = connection.getresponse()
            made = json.loads(answer.read())
            if answer.status == 201:
                kept[name] = (made["CodeSha256"], package)


def test_nothing_accepted_is_lost_in_a_kill_and_nothing_is_half_made(tmp_path: Path) -> None:
    random.seed(4)
    kept: dict[str, tuple[str, bytes]] = {}
    with contextlib.closing(Victims()) as victims:
        for _ in range(KILLS):
            with victims.served("--no-neighbours", "--state", str(tmp_path)) as life:
                stop = threading.Event()
                threads = [threading.Thread(target=load, args=(life.url, n, kept, stop)) for n in range(2)]
                for thread in threads:
                    thread.start()
                time.sleep(random.uniform(0.02, 0.4))
                life.kill()
                stop.set()
                for thread in threads:
                    thread.join(60)
    assert kept, "no request was ever accepted"
    with served("--no-neighbours", "--state", str(tmp_path)) as (url, _):
        api = client(url)
        pages = api.get_paginator("list_functions").paginate()
        there = {function["FunctionName"]: function for page in pages for function in page["Functions"]}
        assert set(kept) <= set(there)
        for name, function in there.items():
            api.get_waiter("function_active_v2").wait(
                FunctionName=name, WaiterConfig={"Delay": 0.02, "MaxAttempts": 500}
            )
            with urllib.request.urlopen(api.get_function(FunctionName=name)["Code"]["Location"]) as response:
                package = response.read()
            assert b64encode(hashlib.sha256(package).digest()).decode() == function["CodeSha256"]
            if name in kept:
                assert (function["CodeSha256"], package) == kept[name]
    print(f"{KILLS} kills, {len(kept)} functions accepted, {len(there)} there, all whole")


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["serve", *arguments]) != 0
    return capsys.readouterr().err


def test_a_state_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served("--no-neighbours", "--state", str(tmp_path)):
        message = fails(capsys, "--port", "0", "--state", str(tmp_path))
    assert f"another service uses the state in {tmp_path}" in message and "--state DIR" in message


def test_an_open_address_without_keys_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(capsys, "--host", "0.0.0.0", "--port", "0", "--state", str(tmp_path))
    assert "every request must be signed" in message and "--keys FILE" in message


@pytest.mark.parametrize(
    ("text", "expected"), [("no colon\n", "line 1 of"), ("# nothing\n\n", "names no keys"), ("a:b\n:c\n", "line 2 of")]
)
def test_keys_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, expected: str) -> None:
    (tmp_path / "keys").write_text(text)
    assert expected in fails(capsys, "--keys", str(tmp_path / "keys"), "--state", ":memory:")
    assert "can't read the keys" in fails(capsys, "--keys", str(tmp_path / "none"), "--state", ":memory:")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(serve, "MODULES", ("uvicorn", "no_such_module"))
    message = fails(capsys)
    assert "no_such_module" in message and "pip install 'lading[serve]'" in message and "uvicorn" not in message


def test_the_default_state_is_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert serve.default_state() == tmp_path / "lading" / "serve"
