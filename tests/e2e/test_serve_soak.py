"""Updates, publishes and invokes at the same time: no server error, and what was settled is what runs."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ClientError
from serve_support import client, create, service, settle, zipped

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="environments need root on Linux")

SECONDS = float(os.environ.get("LADING_SOAK", "4"))
CODE = "import os\ndef handler(event, context):\n    return [os.environ.get('TURN'), context.function_version]\n"
EXPECTED = {"ResourceConflictException", "TooManyRequestsException"}


def invoke(api: Any, **parameters: Any) -> Any:
    response = api.invoke(FunctionName="busy", **parameters)
    assert "FunctionError" not in response
    return json.loads(response["Payload"].read())


class Worker(threading.Thread):
    """Repeats some work until the time is over or somebody found a problem; AWS's own refusals are none."""

    problems: ClassVar[list[BaseException]] = []

    def __init__(self, url: str, work: Callable[[Any, int], None], end: float) -> None:
        super().__init__()
        self.api = client(url)
        self.work = work
        self.end = end
        self.done = 0

    def run(self) -> None:
        while time.monotonic() < self.end and not self.problems:
            try:
                self.work(self.api, self.done)
                self.done += 1
            except ClientError as error:
                if error.response["Error"]["Code"] not in EXPECTED:
                    self.problems.append(error)
            except BaseException as error:
                self.problems.append(error)


def test_everything_at_once() -> None:
    versions: dict[str, str] = {}

    def update(api: Any, turn: int) -> None:
        variables = {"TURN": str(turn)}
        api.update_function_configuration(FunctionName="busy", Environment={"Variables": variables})
        settle(api, "busy")
        assert invoke(api) == [str(turn), "$LATEST"], f"turn {turn} was settled"
        version = api.publish_version(FunctionName="busy")["Version"]
        versions[version] = str(turn)
        assert invoke(api, Qualifier=version) == [str(turn), version]

    def call_latest(api: Any, number: int) -> None:
        assert invoke(api)[1] == "$LATEST"

    def call_old(api: Any, number: int) -> None:
        for version, turn in list(versions.items())[-3:]:
            assert invoke(api, Qualifier=version) == [turn, version]

    def other_functions(api: Any, number: int) -> None:
        create(api, f"other-{number}", Code={"ZipFile": zipped({"app.py": f"x = {number}"})})
        api.list_functions()
        api.delete_function(FunctionName=f"other-{number}")

    with service() as url:
        create(
            client(url),
            "busy",
            Code={"ZipFile": zipped({"app.py": CODE})},
            Environment={"Variables": {"TURN": "x"}},
            Timeout=30,
        )
        end = time.monotonic() + SECONDS
        workers = [Worker(url, work, end) for work in (update, call_latest, call_latest, call_old, other_functions)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60 + SECONDS)
    assert not Worker.problems, Worker.problems[0]
    assert all(worker.done for worker in workers), [worker.done for worker in workers]
