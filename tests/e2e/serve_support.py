"""What the tests of the service share: zips, clients, and a service on a free port."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lading.service.embed import Settings, serving

ACCOUNT = "000000000000"
REGION = "eu-west-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/worker"
CODE = "def handler(event, context):\n    return event\n"


def zipped(files: Mapping[str, str | bytes] | None = None, *, mode: int = 0o644) -> bytes:
    """The same bytes for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (files or {"app.py": CODE}).items():
            member = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            member.external_attr = mode << 16
            archive.writestr(member, content)
    return buffer.getvalue()


def make_role(url: str) -> str:
    """The role of `ROLE`, made unless it is there: the neighbours of one process keep their state between services."""
    iam = client(url, "iam", patience=120.0)  # its first use loads AWS's policies
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName="worker", AssumeRolePolicyDocument=document)
    return ROLE


def client(url: str, service: str = "lambda", *, patience: float = 30.0, **options: Any) -> Any:
    settings = {"region_name": REGION, "aws_access_key_id": "test", "aws_secret_access_key": "test"} | options
    config = Config(retries={"max_attempts": 0}, read_timeout=patience)
    return boto3.client(service, endpoint_url=url, config=config, **settings)


@contextlib.contextmanager
def service(state: Path | str = ":memory:", **settings: Any) -> Iterator[str]:
    with serving(Settings(port=0, state=state, **settings)) as url:
        yield url


@contextlib.contextmanager
def served(*arguments: str, log: IO[str] | int = subprocess.DEVNULL) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`lading serve` on a free port; its URL and process, whose stdout goes on after the first line. `log`: takes its stderr."""
    words = [sys.executable, "-m", "lading.cli.main", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert "http://" in line, f"{line!r}, exit {process.poll()}"
        yield line.split()[2], process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)
        process.stdout.close()


def create(api: Any, name: str, **parameters: Any) -> dict[str, Any]:
    """A function, waited for until it is active."""
    defaults = {"Runtime": "python3.13", "Role": ROLE, "Handler": "app.handler", "Code": {"ZipFile": zipped()}}
    response: dict[str, Any] = api.create_function(FunctionName=name, **(defaults | parameters))
    settle(api, name)
    return response


def settle(api: Any, name: str) -> None:
    """Wait until nothing is under way, polling fast."""
    for waiter in ("function_active_v2", "function_updated_v2"):
        api.get_waiter(waiter).wait(FunctionName=name, WaiterConfig={"Delay": 0.02, "MaxAttempts": 500})


def refusal(call: Any, /, **parameters: Any) -> tuple[int, str, str]:
    """(status, code, message) of the error that a call gets."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"], response["Error"]["Message"]


def until(ask: Callable[[], Any], seconds: float = 30) -> Any:
    """What it answers once that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := ask():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come")


def clock(url: str, step: float | None = None) -> float:
    """What the service's clock shows, after a step of so many seconds."""
    request = urllib.request.Request(f"{url}/_lading/clock" + ("" if step is None else f"?step={step}"))
    request.method = "GET" if step is None else "POST"
    with urllib.request.urlopen(request, timeout=60) as answer:
        return float(json.load(answer)["now"])


def plain(response: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in response.items() if name != "ResponseMetadata"}
