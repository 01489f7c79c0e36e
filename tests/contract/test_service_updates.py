"""What serves while an update is under way, and after one that failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serve_zips import damaged, zipped

from lading.service.control.control import Control, Origin
from lading.service.control.invocation import Target, find_choice
from lading.service.control.names import FunctionReference, Scope
from lading.service.control.packages import Packages
from lading.service.state import Key, open_state

SCOPE = Scope("000000000000", "eu-west-1")
ORIGIN = Origin(SCOPE, "http://127.0.0.1:4566")


class HeldPackages(Packages):
    """Unpacks only while it isn't held back."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.free = threading.Event()
        self.free.set()

    def tree(self, digest: str) -> Path:
        assert self.free.wait(30)
        return super().tree(digest)


class Service:
    def __init__(self, root: Path) -> None:
        state = open_state(root)
        self.packages = HeldPackages(root)
        self.control = Control(state, self.packages)

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        return self.control.run(operation, {"FunctionName": "f", **parameters}, ORIGIN)

    def configuration(self) -> dict[str, Any]:
        return self.call("GetFunctionConfiguration")

    def settled(self) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = self.configuration()
            if found["State"] != "Pending" and found.get("LastUpdateStatus") != "InProgress":
                return found
            time.sleep(0.005)
        raise AssertionError("nothing came of it")

    def serving(self) -> Target:
        ((target, _),) = find_choice(self.control.state, SCOPE, FunctionReference("f")).targets
        return target


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    made.call(
        "CreateFunction",
        Runtime="python3.13",
        Role="arn:aws:iam::000000000000:role/r",
        Handler="app.handler",
        Code={"ZipFile": zipped({"app.py": "one"})},
    )
    assert made.settled()["State"] == "Active"
    yield made
    made.packages.free.set()
    made.control.close()


def test_the_old_code_serves_until_the_new_one_is_there(service: Service) -> None:
    before = service.serving()
    service.packages.free.clear()
    answer = service.call("UpdateFunctionCode", ZipFile=zipped({"app.py": "two"}))
    assert answer["LastUpdateStatus"] == "InProgress"
    assert service.configuration()["CodeSha256"] == answer["CodeSha256"] != before.configuration["CodeSha256"]
    assert service.serving().identity == before.identity
    service.packages.free.set()
    assert service.settled()["LastUpdateStatus"] == "Successful"
    assert service.serving().configuration["CodeSha256"] == answer["CodeSha256"]
    assert service.serving().identity != before.identity


def test_the_old_configuration_serves_too(service: Service) -> None:
    service.packages.free.clear()
    service.call("UpdateFunctionConfiguration", Timeout=9, Environment={"Variables": {"A": "b"}})
    assert service.serving().configuration["Timeout"] == 3
    service.packages.free.set()
    service.settled()
    assert service.serving().configuration["Timeout"] == 9


def test_after_an_update_that_failed_the_old_code_goes_on(service: Service) -> None:
    before = service.serving()
    for text in ("two", "three"):
        service.call("UpdateFunctionCode", ZipFile=damaged({"app.py": text * 100}))
        failed = service.settled()
        assert (failed["State"], failed["LastUpdateStatus"]) == ("Active", "Failed")
        assert failed["LastUpdateStatusReasonCode"] == "InvalidZipFileException"
        assert failed["LastUpdateStatusReason"].startswith("Could not unzip uploaded file.")
        assert service.serving().identity == before.identity
    service.call("UpdateFunctionCode", ZipFile=zipped({"app.py": "four"}))
    assert service.settled()["LastUpdateStatus"] == "Successful"
    assert "LastUpdateStatusReason" not in service.configuration()
    assert service.serving().identity != before.identity


def test_what_is_published_meanwhile_is_the_new_code(service: Service) -> None:
    service.packages.free.clear()
    published = service.call("UpdateFunctionCode", ZipFile=zipped({"app.py": "two"}), Publish=True)
    service.packages.free.set()
    new = service.settled()
    assert (published["Version"], published["State"]) == ("1", "Pending")
    ((target, _),) = find_choice(service.control.state, SCOPE, FunctionReference("f", "1")).targets
    assert target.configuration["CodeSha256"] == new["CodeSha256"] == published["CodeSha256"]


def test_the_old_code_is_kept_on_disk_with_the_update_under_way(service: Service) -> None:
    key = Key(SCOPE.account, SCOPE.region, "version", "f", "$LATEST")
    before = service.control.state.get(key)
    service.packages.free.clear()
    service.call("UpdateFunctionCode", ZipFile=zipped({"app.py": "two"}))
    during = service.control.state.get(key)
    assert before is not None and during is not None
    assert during["_serving"] == before and during["_digest"] != before["_digest"]
    service.packages.free.set()
    service.settled()
    assert "_serving" not in (service.control.state.get(key) or {"_serving": 1})
