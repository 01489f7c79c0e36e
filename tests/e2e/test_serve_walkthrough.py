"""The classical walk-through, as people type it, with the real `aws` command against `lading serve`."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from following import Following
from serve_support import client, service

AWS = shutil.which("aws", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
"""The one beside this interpreter before any other."""
pytestmark = pytest.mark.skipif(AWS is None, reason="the aws command is not on PATH")
TRUST = """{
    "Version": "2012-10-17","Statement":
    [{ "Effect": "Allow", "Principal":
    {"Service": "lambda.amazonaws.com"},
    "Action": "sts:AssumeRole"}]}"""
HANDLER = "def lambda_handler(event, context):\n    print('got', event)\n    return {'v': 1}\n"


class Shell:
    """`aws …` in a folder, against one service."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder

    @property
    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
        return own | {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": "/dev/null", "AWS_PAGER": "",
        }  # fmt: skip

    def __call__(self, *arguments: str, fails: bool = False) -> Any:
        done = subprocess.run(
            [str(AWS), *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, (
            f"aws {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        if fails:
            return done.stderr
        try:
            return json.loads(done.stdout) if done.stdout.strip() else None
        except ValueError:
            return done.stdout


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with service(neighbours={}) as url:
        shell = Shell(url, tmp_path_factory.mktemp("walk"))
        shell("iam", "create-role", "--role-name", "lambda-ex", "--assume-role-policy-document", TRUST)
        policy = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
        shell("iam", "attach-role-policy", "--role-name", "lambda-ex", "--policy-arn", policy)
        yield shell


def pack(folder: Path, name: str, files: dict[str, str]) -> None:
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in files.items():
            member = zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0))
            member.external_attr = 0o644 << 16
            archive.writestr(member, text)


def create(aws: Shell, name: str, files: dict[str, str], *more: str) -> None:
    pack(aws.folder, f"{name}.zip", files)
    aws(
        "lambda", "create-function", "--function-name", name, "--runtime", "python3.13", "--zip-file", f"fileb://{name}.zip",
        "--handler", "lambda_function.lambda_handler", "--role", "arn:aws:iam::000000000000:role/lambda-ex", *more,
    )  # fmt: skip
    aws("lambda", "wait", "function-active-v2", "--function-name", name)


def test_create_and_invoke(aws: Shell) -> None:
    create(aws, "hello-world", {"lambda_function.py": HANDLER})
    answer = aws("lambda", "invoke", "--function-name", "hello-world", "response.json")
    assert answer == {"StatusCode": 200, "ExecutedVersion": "$LATEST"}
    assert json.loads((aws.folder / "response.json").read_text()) == {"v": 1}
    found = aws("logs", "filter-log-events", "--log-group-name", "/aws/lambda/hello-world")["events"]
    messages = [event["message"] for event in found]
    assert "got {}\n" in messages and any(message.startswith("REPORT RequestId:") for message in messages)


@functools.cache
def second_version() -> str | None:
    """Version 2 of the command, wherever on PATH it is: only that has `logs tail`. Set-up installs Debian's."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        command = shutil.which("aws", path=folder)
        if command and "aws-cli/2" in subprocess.run([command, "--version"], capture_output=True, text=True).stdout:
            return command
    return None


def test_logs_tail(aws: Shell) -> None:
    command = second_version()
    if command is None:
        pytest.skip("version 2 of the aws command, which has `logs tail`, is not on PATH")
    create(aws, "tailed", {"lambda_function.py": HANDLER})
    aws("lambda", "invoke", "--function-name", "tailed", "tailed.json")
    # early releases of version 2 don't know AWS_ENDPOINT_URL
    words = [command, "logs", "tail", "/aws/lambda/tailed", "--endpoint-url", aws.url]
    tail = subprocess.run(words, env=aws.environment, capture_output=True, text=True, timeout=120)
    assert "got {}" in tail.stdout and "REPORT RequestId:" in tail.stdout, tail.stderr
    unbuffered = aws.environment | {"PYTHONUNBUFFERED": "1"}
    with Following([*words, "--follow", "--since", "10m"], aws.folder, unbuffered) as followed:
        followed.printed("REPORT RequestId:")
        client(aws.url, region_name="us-east-1").invoke(FunctionName="tailed", Payload=b'{"again": 1}')
        followed.printed("got {'again': 1}")


def test_a_role_that_is_not_there(aws: Shell) -> None:
    pack(aws.folder, "norole.zip", {"lambda_function.py": HANDLER})
    said = aws(
        "lambda", "create-function", "--function-name", "norole", "--runtime", "python3.13", "--zip-file",
        "fileb://norole.zip", "--handler", "lambda_function.lambda_handler", "--role",
        "arn:aws:iam::000000000000:role/none", fails=True,
    )  # fmt: skip
    assert "(InvalidParameterValueException)" in said
    assert "The role defined for the function cannot be assumed by Lambda." in said


def test_a_layer(aws: Shell) -> None:
    pack(aws.folder, "lambda_layer.zip", {"python/shared.py": "ANSWER = 42\n"})
    layer = aws(
        "lambda", "publish-layer-version", "--layer-name", "shared", "--zip-file", "fileb://lambda_layer.zip",
        "--compatible-runtimes", "python3.13",
    )  # fmt: skip
    code = "from shared import ANSWER\ndef lambda_handler(event, context):\n    return ANSWER\n"
    create(aws, "layered", {"lambda_function.py": code}, "--layers", layer["LayerVersionArn"])
    aws("lambda", "invoke", "--function-name", "layered", "layered.json")
    assert (aws.folder / "layered.json").read_text() == "42"


def test_code_from_a_bucket_and_an_alias_that_shifts(aws: Shell) -> None:
    create(aws, "shifting", {"lambda_function.py": HANDLER})
    aws("lambda", "publish-version", "--function-name", "shifting")
    pack(aws.folder, "two.zip", {"lambda_function.py": HANDLER.replace("'v': 1", "'v': 2")})
    aws("s3", "mb", "s3://bucket")
    aws("s3", "cp", "two.zip", "s3://bucket/two.zip")
    aws("lambda", "update-function-code", "--function-name", "shifting", "--s3-bucket", "bucket", "--s3-key", "two.zip")
    aws("lambda", "wait", "function-updated-v2", "--function-name", "shifting")
    aws("lambda", "publish-version", "--function-name", "shifting")
    aws(
        "lambda", "create-alias", "--function-name", "shifting", "--name", "live", "--function-version", "1",
        "--routing-config", '{"AdditionalVersionWeights": {"2": 0.1}}',
    )  # fmt: skip
    api = client(aws.url, region_name="us-east-1")
    answers = [api.invoke(FunctionName="shifting:live") for _ in range(400)]
    for answer in answers:
        assert json.load(answer["Payload"]) == {"v": int(answer["ExecutedVersion"])}
    shifted = sum(answer["ExecutedVersion"] == "2" for answer in answers)
    assert 10 <= shifted <= 80, f"{shifted} of 400 at a weight of 0.1"  # six standard deviations either way


def test_ten_at_once_make_ten_environments_and_the_next_reuses_one(aws: Shell) -> None:
    code = (
        "import time\nNAME = __import__('os').environ['AWS_LAMBDA_LOG_STREAM_NAME']\n"
        "def lambda_handler(event, context):\n    time.sleep(event.get('wait', 0))\n    return NAME\n"
    )
    create(aws, "ten", {"lambda_function.py": code}, "--timeout", "30")
    api = client(aws.url, region_name="us-east-1")

    def call(wait: float) -> str:
        return str(json.load(api.invoke(FunctionName="ten", Payload=json.dumps({"wait": wait}))["Payload"]))

    with ThreadPoolExecutor(10) as threads:
        names = set(threads.map(call, [3.0] * 10))
    assert len(names) == 10
    assert call(0) in names


INSTALLS = """
import subprocess, sys
sys.path.insert(1, "/tmp/packages")
def lambda_handler(event, context):
    subprocess.run("pip install tabulate==0.9.0 -t /tmp/packages --no-cache-dir".split(), check=True, capture_output=True)
    import tabulate
    return tabulate.__file__, tabulate.tabulate([[1, 2]])
"""


@pytest.mark.network
@pytest.mark.root
def test_a_package_installed_with_pip_at_run_time(aws: Shell) -> None:
    """With the default timeout AWS's error, with a longer one it works."""
    settings = json.dumps(
        {"Variables": {name: os.environ[name] for name in ("PIP_CERT", "PIP_INDEX_URL") if name in os.environ}}
    )
    create(aws, "pip", {"lambda_function.py": INSTALLS}, "--environment", settings, "--memory-size", "128")
    aws("lambda", "invoke", "--function-name", "pip", "first.json")
    assert json.loads((aws.folder / "first.json").read_text())["errorType"] == "Sandbox.Timedout"
    aws(
        "lambda", "update-function-configuration", "--function-name", "pip", "--timeout", "110", "--memory-size", "1769"
    )  # fmt: skip
    aws("lambda", "wait", "function-updated-v2", "--function-name", "pip")
    answer = aws("lambda", "invoke", "--function-name", "pip", "second.json")
    place, text = json.loads((aws.folder / "second.json").read_text())
    assert "FunctionError" not in answer and place.startswith("/tmp/packages/") and "1" in text


def test_installing_at_run_time_needs_more_than_three_seconds(aws: Shell) -> None:
    """The default timeout's error; the function waits as an install does, without a network."""
    code = (
        "import subprocess, sys, time\ndef lambda_handler(event, context):\n"
        "    subprocess.call([sys.executable, '-c', 'import time; time.sleep(5)'])\n    return 1\n"
    )
    create(aws, "installer", {"lambda_function.py": code})
    answer = aws("lambda", "invoke", "--function-name", "installer", "slow.json")
    assert answer == {"StatusCode": 200, "FunctionError": "Unhandled", "ExecutedVersion": "$LATEST"}
    said = json.loads((aws.folder / "slow.json").read_text())
    assert said["errorType"] == "Sandbox.Timedout" and said["errorMessage"].endswith(
        "Task timed out after 3.00 seconds"
    )
    aws("lambda", "update-function-configuration", "--function-name", "installer", "--timeout", "60")
    aws("lambda", "wait", "function-updated-v2", "--function-name", "installer")
    assert "FunctionError" not in aws("lambda", "invoke", "--function-name", "installer", "slow.json")
    assert (aws.folder / "slow.json").read_text() == "1"
