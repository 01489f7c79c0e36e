"""An alias moves step by step, watched, and goes back by itself: metrics on moto, traffic and logs on the local service."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deploy_support import ENVIRONMENT, Endpoint, Site, deploy, endpoint, lines, plan_of, shape
from serve_support import service

from lading.deploy.apply import ApplyError
from lading.deploy.plan import PlanError
from lading.deploy.rollback import plan_rollback

FIRST, SECOND = "def handler(e, c):\n    return 1\n", "def handler(e, c):\n    return 2\n"
BROKEN = "def handler(e, c):\n    raise ValueError('broken')\n"


@pytest.fixture(scope="module")
def moto() -> Iterator[Endpoint]:
    with endpoint("moto") as found:
        yield found


def site_of(root: Path, name: str, rollout: str) -> Site:
    return Site(root, shape(name, {name: f'alias = "live"\nrollout = {{ {rollout} }}'}), {name: FIRST})


def weights(api: Any, name: str) -> tuple[str, Any]:
    alias = api.get_alias(FunctionName=name, Name="live")
    return alias["FunctionVersion"], (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}


def test_a_canary_moves_when_all_is_well(tmp_path: Path, moto: Endpoint) -> None:
    site, account = site_of(tmp_path, "well", 'strategy = "linear", step = 50, interval = 1'), moto.account()
    deploy(account, site.wish())
    site.code["well"] = SECOND
    account.calls.clear()
    deploy(account, site.wish())
    assert weights(moto.client("lambda"), "well") == ("2", {})
    assert account.calls["lambda", "UpdateAlias"] == 2, "half, then all"
    assert account.calls["cloudwatch", "GetMetricStatistics"] >= 1
    assert lines(plan_of(account, site.wish())) == []


def test_errors_of_the_new_version_take_it_back(tmp_path: Path, moto: Endpoint) -> None:
    site, account = site_of(tmp_path, "ill", 'strategy = "canary", step = 10, interval = 1'), moto.account()
    deploy(account, site.wish())
    dimensions = [
        {"Name": "FunctionName", "Value": "ill"},
        {"Name": "Resource", "Value": "ill:live"},
        {"Name": "ExecutedVersion", "Value": "2"},
    ]
    data = {"MetricName": "Errors", "Dimensions": dimensions, "Value": 3, "Timestamp": dt.datetime.now(dt.UTC)}
    moto.client("cloudwatch").put_metric_data(Namespace="AWS/Lambda", MetricData=[data])
    site.code["ill"] = SECOND
    with pytest.raises(ApplyError) as caught:
        deploy(account, site.wish())
    assert "version 2 was taken back: 3 errors" in "\n".join(caught.value.details)
    assert weights(moto.client("lambda"), "ill") == ("1", {})


def test_a_roll_out_that_was_interrupted_is_begun_again(tmp_path: Path, moto: Endpoint) -> None:
    site, account = site_of(tmp_path, "cut", 'strategy = "canary", step = 10, interval = 1'), moto.account()
    deploy(account, site.wish())
    site.code["cut"] = SECOND
    deploy(account, site.wish())
    api = moto.client("lambda")
    # As a kill in the middle leaves it.
    half = {"AdditionalVersionWeights": {"2": 0.1}}
    api.update_alias(FunctionName="cut", Name="live", FunctionVersion="1", RoutingConfig=half)
    assert lines(plan_of(account, site.wish())) == ["update alias cut:live: rollout"]
    deploy(account, site.wish())
    assert weights(api, "cut") == ("2", {})


def test_back_to_the_version_before_and_to_a_certain_one(tmp_path: Path, moto: Endpoint) -> None:
    site, account = site_of(tmp_path, "back", ""), moto.account()
    for code in (FIRST, SECOND, "def handler(e, c):\n    return 3\n"):
        site.code["back"] = code
        deploy(account, site.wish())
    api, project = moto.client("lambda"), site.wish().project

    def roll(version: str) -> None:
        from lading.deploy.apply import apply_plan
        from lading.model.progress import Silent

        apply_plan(plan_rollback(project, account, project.functions, version), account, Silent())

    roll("")
    assert weights(api, "back")[0] == "2"
    roll("")
    assert weights(api, "back")[0] == "1"
    with pytest.raises(PlanError, match="no version before 1"):
        roll("")
    roll("3")
    assert weights(api, "back")[0] == "3"
    with pytest.raises(PlanError, match="has no version 9") as caught:
        roll("9")
    assert "there are: 1, 2, 3" in caught.value.hint
    # The version that an alias was moved back from is found again, not published anew.
    roll("1")
    assert lines(plan_of(account, site.wish())) == ["update alias back:live: UpdateAlias"]


@pytest.fixture(scope="module")
def local() -> Iterator[Endpoint]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with service(neighbours={}) as url:
            yield Endpoint("local", url)


@pytest.mark.root
def test_a_smoke_event_that_fails_keeps_the_alias(tmp_path: Path, local: Endpoint) -> None:
    account = local.account()
    site = site_of(tmp_path, "smoke", "strategy = 'canary', step = 50, interval = 1, smoke-event = { ping = true }")
    deploy(account, site.wish())
    site.code["smoke"] = BROKEN
    account.calls.clear()
    with pytest.raises(ApplyError) as caught:
        deploy(account, site.wish())
    assert "version 2 failed its smoke test" in "\n".join(caught.value.details)
    assert weights(local.client("lambda"), "smoke") == ("1", {})
    assert account.calls["lambda", "UpdateAlias"] == 0, "no traffic was given to it"
    site.code["smoke"] = SECOND
    deploy(account, site.wish())
    assert weights(local.client("lambda"), "smoke") == ("3", {})
    deploy(account, replace(site.wish(), gone=True))


class Callers:
    """Invokes the alias again and again while the context lasts; remembers versions that answered, and failures."""

    def __init__(self, target: Endpoint, name: str) -> None:
        self._api, self._name = target.client("lambda"), name
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self.answered: set[str] = set()
        self.failed: set[str] = set()

    def __enter__(self) -> Callers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _call(self) -> None:
        while not self._end.is_set():
            found = self._api.invoke(FunctionName=self._name, Qualifier="live", Payload=b"{}")
            (self.failed if found.get("FunctionError") else self.answered).add(found["ExecutedVersion"])
            self._end.wait(0.02)


@pytest.mark.root
def test_a_canary_that_fails_under_traffic_is_taken_back(tmp_path: Path, local: Endpoint) -> None:
    """The new version passes its smoke test and fails for callers; nobody does anything, and the alias is where it was."""
    account, api = local.account(), local.client("lambda")
    site = site_of(tmp_path, "bird", "strategy = 'canary', step = 50, interval = 6, smoke-event = { smoke = true }")
    deploy(account, site.wish())
    site.code["bird"] = "def handler(e, c):\n    return 2 if e else 1 / 0\n"
    with Callers(local, "bird") as callers, pytest.raises(ApplyError) as caught:
        deploy(account, site.wish())
    assert "version 2 was taken back:" in "\n".join(caught.value.details)
    assert weights(api, "bird") == ("1", {})
    assert (callers.answered, callers.failed) == ({"1"}, {"2"})
    site.code["bird"] = SECOND
    with Callers(local, "bird") as callers:
        deploy(account, site.wish())
    assert weights(api, "bird") == ("3", {})
    assert callers.answered >= {"1", "3"} and not callers.failed
    deploy(account, replace(site.wish(), gone=True))
