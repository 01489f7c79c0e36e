"""Deploying when things go wrong: throttled, in conflict, with answers lost, refused, and killed at any call."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deploy_killing import kill_around, victims
from deploy_proxy import Answer, Seen, Trouble, troubled
from deploy_support import ENVIRONMENT, Endpoint, Site, deploy, endpoint, everything, lines, plan_of, shape

from lading.aws.account import Access, RegionError, open_account
from lading.aws.refusal import AwsError, CredentialsError, UnreachableError
from lading.deploy.apply import ApplyError
from lading.errors import DeployError

SEED = 20261126
KILLS = 3
"""Of each endpoint, one while all is made, changed and removed; `python -m bench deploy-kills` does many more."""
BUSY = Answer(
    409, "ResourceConflictException", "The operation cannot be performed at this time. An update is in progress"
)
THROTTLED = Answer(429, "TooManyRequestsException", "Rate exceeded")
FRESH = Answer(400, "InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.")
TEXT = shape(
    "trouble",
    {
        "first": 'alias = "live"\nurl = true\nlayers = ["shared"]\nasync = { retries = 1 }\n'
        'events.often = { type = "schedule", schedule = "rate(5 minutes)" }\nlogging = { retention = 7 }',
        "second": "reserved-concurrency = 2",
    },
    '[tool.lading.layers.shared]\ncontent = "layer"',
)


@pytest.fixture(scope="module", params=["local", "moto"])
def target(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    with endpoint(request.param) as found:
        yield found


@pytest.fixture
def site(tmp_path: Path, target: Endpoint) -> Iterator[Site]:
    site = Site(tmp_path, TEXT)
    yield site
    deploy(target.account(), replace(site.wish(), gone=True))


def through(url: str) -> Any:
    return open_account(Access(region="eu-west-1", endpoint_url=url))


def each_once(answer: Answer, wanted: Callable[[Seen], bool]) -> Callable[[Seen], Answer | None]:
    """The answer for the first request of each (method, path, operation) that is wanted."""
    told: set[tuple[str, str, str]] = set()
    lock = threading.Lock()

    def decide(seen: Seen) -> Answer | None:
        key = (seen.method, seen.path, seen.operation)
        with lock:
            if key in told or not wanted(seen):
                return None
            told.add(key)
        return answer

    return decide


def to_lambda(seen: Seen) -> bool:
    return seen.service == "lambda"


def test_what_passes_is_tried_again(site: Site, target: Endpoint) -> None:
    """Reads throttled, writes in conflict, a role too fresh to be taken, other services unavailable: once each."""
    seen_of = {
        "throttled": (THROTTLED, lambda seen: to_lambda(seen) and not seen.writes),
        "in conflict": (BUSY, lambda seen: to_lambda(seen) and seen.writes),
        "a fresh role": (
            FRESH,
            lambda seen: to_lambda(seen) and seen.method == "POST" and seen.path.endswith("/functions"),
        ),
        "unavailable": (
            Answer(503, "ServiceUnavailable", "try later"),
            lambda seen: seen.service in ("iam", "logs", "events"),
        ),
    }
    answers = {name: each_once(answer, wanted) for name, (answer, wanted) in seen_of.items()}
    told: set[str] = set()

    def answer(seen: Seen) -> Answer | None:
        for name, decide in answers.items():
            if (found := decide(seen)) is not None:
                told.add(name)
                return found
        return None

    with troubled(target.url, Trouble(answer=answer)) as url:
        deploy(through(url), site.wish())
    assert told == set(answers)
    assert lines(plan_of(target.account(), site.wish())) == []


def test_lost_answers_make_nothing_twice(site: Site, target: Endpoint) -> None:
    lost: set[tuple[str, str, str]] = set()
    lock = threading.Lock()

    def lose(seen: Seen) -> bool:
        key = (seen.method, seen.path, seen.operation)
        with lock:
            first = seen.writes and key not in lost
            lost.add(key)
        return first

    with troubled(target.url, Trouble(lose=lose)) as url:
        deploy(through(url), site.wish())
    assert len(lost) > 8
    assert lines(plan_of(target.account(), site.wish())) == []
    api = target.client("lambda")
    assert [one["Version"] for one in api.list_versions_by_function(FunctionName="first")["Versions"]] == [
        "$LATEST",
        "1",
    ]


def test_a_denied_action_names_the_statement_that_allows_it(site: Site, target: Endpoint) -> None:
    said = (
        "User: arn:aws:iam::000000000000:user/me is not authorized to perform: lambda:CreateFunction on resource: arn:x"
    )
    denied = Answer(403, "AccessDeniedException", said)
    trouble = Trouble(
        answer=lambda seen: denied if seen.method == "POST" and seen.path.endswith("/functions") else None
    )
    with troubled(target.url, trouble) as url, pytest.raises(ApplyError) as caught:
        deploy(through(url), site.wish())
    assert "not allowed: lambda:CreateFunction on arn:x" in "\n".join(caught.value.details)
    assert '{"Effect": "Allow", "Action": "lambda:CreateFunction", "Resource": "arn:x"}' in caught.value.hint


def test_an_endpoint_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(UnreachableError, match="GetCallerIdentity"):
        open_account(Access(region="eu-west-1", endpoint_url="http://127.0.0.1:9"))


def test_an_answer_that_is_nobody_s(target: Endpoint) -> None:
    page = "<!doctype html><title>Proxy</title><p>Sign in first"
    with troubled(target.url, Trouble(say=lambda seen, body: page)) as url, pytest.raises(AwsError) as caught:
        through(url)
    assert (
        "sts:GetCallerIdentity: the answer isn't AWS's: " in caught.value.message and "Sign in" in caught.value.message
    )
    assert "--endpoint-url" in caught.value.hint


def test_missing_credentials_and_regions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*ENVIRONMENT, "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(RegionError, match="no region is stated"):
        open_account(Access())
    with pytest.raises(RegionError, match="no region 'eu-west-9'") as region:
        open_account(Access(region="eu-west-9"))
    assert "did you mean 'eu-west-" in region.value.hint
    with pytest.raises(CredentialsError, match="no AWS credentials") as missing:
        open_account(Access(region="eu-west-1"))
    assert "--profile" in missing.value.hint
    with pytest.raises(CredentialsError, match="no profile 'shop'"):
        open_account(Access(region="eu-west-1", profile="shop"))


def test_killed_anywhere_the_next_run_ends_in_the_same_state(tmp_path: Path, target: Endpoint) -> None:
    empty = everything(target)
    with victims() as process:
        found = kill_around(target, tmp_path, KILLS, random.Random(SEED), process)
    assert (found.runs, found.different, found.unfinished) == (KILLS, 0, 0)
    assert found.killed >= KILLS - 1
    assert everything(target) == empty, "nothing is orphaned"


def test_killed_and_then_not_wanted_any_more(site: Site, target: Endpoint) -> None:
    """What an interrupted run made is removed by destroy, whatever it was."""
    empty, wish, chosen = everything(target), site.wish(), random.Random(SEED + 1)
    with victims() as process:
        assert process.kill_at(chosen.randint(12, 40), target, site, gone=False, answered=True)
    deploy(target.account(), replace(wish, gone=True))
    assert everything(target) == empty


def test_a_part_that_fails_lets_the_rest_be_done(site: Site, target: Endpoint) -> None:
    broken = Answer(400, "InvalidParameterValueException", "no such thing")
    trouble = Trouble(answer=lambda seen: broken if seen.path.endswith("/functions/first/url") else None)
    with troubled(target.url, trouble) as url, pytest.raises(DeployError) as caught:
        deploy(through(url), site.wish())
    assert "URL of first:live" in "\n".join(caught.value.details)
    assert "run it again" in caught.value.hint
    deploy(target.account(), site.wish())
    assert lines(plan_of(target.account(), site.wish())) == []
