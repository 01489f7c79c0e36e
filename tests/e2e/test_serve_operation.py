"""Operating a service: environments, clock, metrics, events, forced cold starts; and that strangers can't."""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from following import Following
from serve_support import client, create, refusal, service, settle, zipped

from lading.cli.main import lading
from lading.errors import UsageError
from lading.service import sweep
from lading.service.metrics import ASYNC

CODE = (
    "import time, uuid\nME = str(uuid.uuid4())\ndef handler(event, context):\n    print('said', event)\n    return ME\n"
)
ARN = "arn:aws:lambda:eu-west-1:000000000000:function:op"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service() as url:
        create(client(url), "op", Code={"ZipFile": zipped({"app.py": CODE})})
        yield url


def get(url: str, path: str, *, method: str = "GET", **headers: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url + path, method=method, headers=headers)) as response:
        return response.read().decode()


def invoke(url: str) -> str:
    return str(json.load(client(url).invoke(FunctionName="op", LogType="Tail")["Payload"]))


def followed(*arguments: str) -> Following:
    return Following([sys.executable, "-m", "lading.cli.main", *arguments], Path(), os.environ)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(lading, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_environments_and_forced_cold_starts(url: str) -> None:
    first = invoke(url)
    assert invoke(url) == first
    [live] = json.loads(get(url, "/_lading/environments"))
    assert live["function"] == ARN and live["state"] in ("ready", "frozen", "busy")
    get(url, f"/_lading/expire?function={ARN}", method="POST")
    assert invoke(url) != first


def test_ps_shows_functions_and_environments_live(url: str) -> None:
    invoke(url)
    functions, environments = run("ps", "--endpoint", url).split("\n\n")
    [line] = [line for line in functions.splitlines() if "/op " in line]
    assert line.split()[:6] == ["eu-west-1/op", "Active", "Successful", "python3.13", "128", "MB"]
    assert any(f"1 {state}" in line for state in ("ready", "frozen", "busy"))
    assert "eu-west-1/op" in environments
    found = json.loads(run("ps", "--endpoint", url, "--json"))
    assert ARN in [one["function"] for one in found["functions"]]
    with followed("ps", "-f", "--endpoint", url) as changes:
        changes.printed("SINCE")
        invoke(url)
        assert "eu-west-1/op" in changes.printed("busy")


def test_logs_are_followed(url: str) -> None:
    with followed("logs", "-f", "op", "--endpoint", url) as log:
        client(url).invoke(FunctionName="op", Payload=b'"again"')
        log.printed("said again")
        client(url).invoke(FunctionName="op", Payload=b'"and again"')
        log.printed("said and again")


def test_idle_environments_end_by_the_clock(url: str) -> None:
    first = invoke(url)
    get(url, "/_lading/clock?step=601", method="POST")
    wait(lambda: not json.loads(get(url, "/_lading/environments")))
    assert invoke(url) != first


def test_metrics_have_cloudwatchs_names(url: str) -> None:
    invoke(url)
    text = get(url, "/_lading/metrics")
    labels = 'FunctionName="op",region="eu-west-1",account="000000000000"'

    def value(name: str) -> float:
        return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[-1])

    count = value(f"Invocations{{{labels}}}")
    assert count >= 1 and value(f"Errors{{{labels}}}") == 0 == value("AsyncEventsQueued")
    assert value(f"Duration_count{{{labels}}}") == count == value(f'Duration_bucket{{{labels},le="+Inf"}}')
    assert value(f"Duration_sum{{{labels}}}") > 0 and value(f"ConcurrentExecutions{{{labels}}}") in (0, 1)
    kinds = dict(line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE"))
    assert kinds == {
        "Invocations": "counter", "Errors": "counter", "Throttles": "counter", "Duration": "histogram",
        "ConcurrentExecutions": "gauge", "IteratorAge": "gauge", "AsyncEventsQueued": "gauge",
        "FailedInvocations": "counter", "NumberOfNotificationsFailed": "counter", "TargetErrorCount": "counter",
            "DeliveryErrors": "counter", **dict.fromkeys(ASYNC, "counter"), "AsyncEventAge": "gauge",
    }  # fmt: skip


def test_a_throttle_has_its_reason(url: str) -> None:
    api = client(url)
    create(api, "narrow", Code={"ZipFile": zipped({"app.py": "import time\ndef handler(e, c): time.sleep(2)\n"})})
    api.put_function_concurrency(FunctionName="narrow", ReservedConcurrentExecutions=1)
    api.invoke(FunctionName="narrow", InvocationType="Event")
    for _ in range(200):
        if any(live["function"].endswith(":narrow") for live in json.loads(get(url, "/_lading/environments"))):
            break
    assert refusal(api.invoke, FunctionName="narrow")[1] == "TooManyRequestsException"
    assert 'reason="ReservedFunctionConcurrentInvocationLimitExceeded"} 1' in get(url, "/_lading/metrics")


def test_the_clock_is_driven(url: str) -> None:
    before = json.loads(get(url, "/_lading/clock"))["now"]
    assert json.loads(get(url, "/_lading/clock?step=3600", method="POST"))["now"] >= before + 3600
    assert "1 times as fast" in run("clock", "--endpoint", url)
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(url, "/_lading/clock?step=-1", method="POST")
    assert caught.value.code == 400


def test_the_event_stream(url: str) -> None:
    """Events that were kept from a number on, then each that comes: every one numbered, named, and JSON."""
    invoke(url)

    def read(since: int, most: int = 3000) -> Iterator[tuple[int | None, str, dict[str, Any]]]:
        with urllib.request.urlopen(f"{url}/_lading/events?since={since}", timeout=60) as stream:
            assert stream.headers["Content-Type"] == "text/event-stream"
            number, name = None, ""
            for line in itertools.islice(stream, most):
                field, _, text = line.decode().rstrip("\n").partition(": ")
                if field == "id":
                    number = int(text)
                elif field == "event":
                    name = text
                elif field == "data":
                    yield number, name, json.loads(text)
                    number = None

    def first(name: str, since: int = 0) -> tuple[int, dict[str, Any]]:
        number, _, data = next(one for one in read(since) if one[1] == name and one[2].get("function", ARN) == ARN)
        assert number is not None
        return number, data

    number, ended = first("InvocationEnded")
    assert ended["status"] == "success" and ended["duration"] > 0 and len(ended["request_id"]) == 36
    assert first("InvocationEnded", number) == (number, ended)
    assert first("EnvironmentChanged")[1]["state"] in ("starting", "ready", "busy", "frozen", "stopped")
    assert first("LogLine")[1]["source"] in ("platform", "function")
    following = read(10**9)  # nothing of before
    with ThreadPoolExecutor(1) as threads:
        said = threads.submit(lambda: next(data for _, name, data in following if name == "LogLine"))
        while not said.done():
            invoke(url)
            time.sleep(0.1)
    assert said.result()["group"] == "/aws/lambda/op"


def test_the_logs_command(url: str) -> None:
    invoke(url)
    assert "said {}" in run("logs", "op", "--endpoint", url)


def test_pages_of_other_sites_cannot_drive_it(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(url, "/_lading/clock?step=1", method="POST", Origin="http://evil.example")
    assert caught.value.code == 403


def test_with_keys_it_is_closed() -> None:
    with service(keys={"test": "test"}) as url, pytest.raises(urllib.error.HTTPError) as caught:
        get(url, "/_lading/events")
    assert caught.value.code == 403


def test_no_service_there() -> None:
    with pytest.raises(UsageError, match="no service answers"):
        CliRunner().invoke(lading, ["ps", "--endpoint", "http://127.0.0.1:9"], catch_exceptions=False)


def test_code_that_nothing_uses_goes_while_the_service_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted code stays while an environment runs it, then goes; the same zip uploaded again runs again."""
    monkeypatch.setattr(sweep, "LEAST", 0.5)
    package = zipped(
        {
            "app.py": "import time\ndef handler(event, context):\n    time.sleep(event)\n    import late\n    return 1\n",
            "late.py": "",
        }
    )
    other = zipped({"app.py": "def handler(event, context):\n    return 2\n"})
    with service(tmp_path) as url:
        api = client(url)
        create(api, "swept", Code={"ZipFile": package}, Timeout=60)
        trees = tmp_path / "trees"
        [tree] = trees.iterdir()

        def look_twice() -> None:
            """Let the clock pass over two looks, which the service makes seconds apart."""
            for _ in range(3):
                get(url, "/_lading/clock?step=601", method="POST")
                time.sleep(sweep.LEAST + 0.5)

        answers: list[Any] = []
        caller = threading.Thread(
            target=lambda: answers.append(json.load(client(url).invoke(FunctionName="swept", Payload=b"8")["Payload"]))
        )
        caller.start()
        wait(lambda: any(one["state"] == "busy" for one in json.loads(get(url, "/_lading/environments"))))
        api.update_function_code(FunctionName="swept", ZipFile=other)
        settle(api, "swept")
        api.delete_function(FunctionName="swept")
        look_twice()
        assert tree.is_dir() or answers, "an environment at work lost its code"
        caller.join()
        assert answers == [1]
        wait(lambda: not json.loads(get(url, "/_lading/environments")))
        wait(lambda: not list(trees.iterdir()), step=lambda: get(url, "/_lading/clock?step=601", method="POST"))
        create(api, "swept", Code={"ZipFile": package}, Timeout=60)
        assert json.load(api.invoke(FunctionName="swept", Payload=b"0")["Payload"]) == 1


def wait(condition: Callable[[], bool], step: Callable[[], object] | None = None) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        if step is not None:
            step()
        time.sleep(0.1)
