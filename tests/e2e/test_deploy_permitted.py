"""What the caller may not do is known before the first write: each denied action with the line of policy that allows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from deploy_proxy import Answer, Trouble, troubled
from deploy_support import Endpoint, Site, deploy, endpoint, lines, shape, writes
from iam_simulator import Simulator

from lading.aws.account import Access, Account, Identity, open_account
from lading.aws.permissions import principal_of
from lading.aws.refusal import AwsError, DeniedError, translate
from lading.aws.resources import Where, resources_of
from lading.deploy.instruction import Problem
from lading.deploy.permitted import check_permissions, needs_of
from lading.deploy.place import Place
from lading.deploy.plan import PlanError, make_plan
from lading.deploy.policy import deployer_policy

QUEUE = "arn:aws:sqs:eu-west-1:000000000000:permitted"
ALL = f"""
alias = "live"
url = {{ auth = "none" }}
layers = ["shared"]
async = {{ retries = 1 }}
reserved-concurrency = 1
logging = {{ retention = 7 }}
permissions.a = {{ principal = "s3.amazonaws.com" }}
events.often = {{ type = "schedule", schedule = "rate(5 minutes)" }}
events.early = {{ type = "scheduler", schedule = "rate(5 minutes)" }}
events.queue = {{ type = "sqs", source = "{QUEUE}" }}
events.upload = {{ type = "s3", bucket = "permitted" }}
role.statements = [{{ actions = ["s3:GetObject"], resources = ["*"] }}]
rollout = {{ strategy = "canary", smoke-event = {{ ping = true }} }}
"""
LAYER = '[tool.lading.layers.shared]\ncontent = "layer"'


@pytest.fixture(scope="module")
def target() -> Iterator[Endpoint]:
    with endpoint("local") as found:
        found.client("s3").create_bucket(
            Bucket="permitted", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        found.client("sqs").create_queue(QueueName="permitted")
        yield found


@pytest.fixture(scope="module")
def keys(target: Endpoint) -> Mapping[str, str]:
    """Of a user: nobody asks IAM what the account's own user may do."""
    iam = target.client("iam")
    iam.create_user(UserName="deployer")
    made = iam.create_access_key(UserName="deployer")["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, shape("permitted", {"p": ALL}, LAYER))


@pytest.fixture(autouse=True)
def user(keys: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in keys.items():
        monkeypatch.setenv(name, value)


def through(url: str) -> Account:
    return open_account(Access(region="eu-west-1", endpoint_url=url))


def policy_of(site: Site) -> dict[str, Any]:
    project = site.wish().project
    return deployer_policy(project, Place("000000000000", "eu-west-1", "aws", project.deployment))


class Caller:
    """Somebody whose policy the test chooses, and what IAM tells of the writes of the site's first plan."""

    def __init__(self, site: Site, target: Endpoint, account: Account, simulator: Simulator) -> None:
        self._account, self._simulator = account, simulator
        self.policy = policy_of(site)
        self._place = Place("000000000000", "eu-west-1", "aws", site.wish().project.deployment)
        self._plan = make_plan(site.wish(), target.account()).plan

    def told(self, statements: list[dict[str, Any]]) -> list[Problem]:
        self._simulator.take({**self.policy, "Statement": statements})
        found = list(check_permissions(self._account, self._place, self._plan.instructions))
        assert all(isinstance(one, Problem) for one in found), found
        return [one for one in found if isinstance(one, Problem)]


@pytest.fixture
def caller(site: Site, target: Endpoint) -> Iterator[Caller]:
    simulator = Simulator({"Version": "2012-10-17", "Statement": []})
    with troubled(target.url, Trouble(say=simulator.say)) as url:
        yield Caller(site, target, through(url), simulator)


def lines_of(said: list[str]) -> list[dict[str, Any]]:
    return [json.loads(found[1]) for line in said if (found := re.search(r"this statement allows it: (\{.*\})", line))]


def test_the_printed_policy_is_enough_and_none_of_it_is_missed_in_silence(caller: Caller) -> None:
    """Without any one of its statements what is denied is named, and with the lines that are named all is well again."""
    statements = caller.policy["Statement"]
    assert caller.told(statements) == []
    noticed = set()
    for left_out in statements:
        rest = [one for one in statements if one is not left_out]
        found = caller.told(rest)
        added = lines_of([one.hint for one in found])
        assert len(added) == len(found), found
        assert {one["Action"] for one in added} <= set(left_out["Action"])
        if found:
            assert caller.told([*rest, *added]) == []
            noticed.add(re.sub(r"\d+$", "", left_out["Sid"]))
    assert noticed == {
        "Functions", "Roles", "Logs", "Layers", "Versions", "Aliases", "Rollout", "Urls", "Permissions", "Async",
        "Mappings", "Rules", "Schedules", "Notifications",
    }  # fmt: skip


def test_problems_of_permission_are_among_a_plan_s_problems(site: Site, target: Endpoint) -> None:
    deny = {"Effect": "Deny", "Action": ["lambda:CreateFunction", "iam:PassRole"], "Resource": "*"}
    simulator = Simulator({"Version": "2012-10-17", "Statement": [deny, *policy_of(site)["Statement"]]})
    site.text = site.text.replace('bucket = "permitted"', 'bucket = "not-there"')
    with troubled(target.url, Trouble(say=simulator.say)) as url:
        account = through(url)
        with pytest.raises(PlanError) as caught:
            make_plan(site.wish(), account)
    said = caught.value.details
    for action in ("lambda:CreateFunction", "iam:PassRole"):
        assert any(f"not allowed: {action} on arn:" in one and "no statement can allow it" in one for one in said), said
    assert any("the bucket not-there is not there" in one for one in said)
    assert writes(account) == [("iam", "SimulatePrincipalPolicy")]
    assert set(simulator.principals) == {"arn:aws:iam::000000000000:user/deployer"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(403, "AccessDenied", "User: arn:x is not authorized to perform: iam:SimulatePrincipalPolicy"), "not allowed"),
        (None, "SimulatePrincipalPolicy"),
    ],
    ids=["denied", "not served"],
)  # fmt: skip
def test_where_it_cant_be_told_that_is_said(site: Site, target: Endpoint, answer: Answer | None, expected: str) -> None:
    trouble = Trouble(answer=lambda seen: answer if seen.operation == "SimulatePrincipalPolicy" else None)
    with troubled(target.url, trouble) as url:
        account = through(url)
        plan = make_plan(site.wish(), account).plan
        [note] = plan.notes
        assert note.startswith("can't tell before whether every write is allowed: ") and expected in note
        assert sum(seen.operation == "SimulatePrincipalPolicy" for seen in trouble.seen) == 1, "not tried again"


def test_nobody_asks_where_nothing_is_to_be_written(tmp_path: Path, target: Endpoint) -> None:
    plain = Site(tmp_path, shape("quiet", {"q": ""}))
    simulator = Simulator(policy_of(plain))
    with troubled(target.url, Trouble(say=simulator.say)) as url:
        account = through(url)
        deploy(account, plain.wish())
        asked = len(simulator.principals)
        assert 0 < asked < 8
        assert lines(make_plan(plain.wish(), account).plan) == []
        assert len(simulator.principals) == asked
        deploy(account, replace(plain.wish(), gone=True))


@pytest.mark.parametrize(
    ("arn", "expected"),
    [
        ("arn:aws:iam::111122223333:user/team/me", "arn:aws:iam::111122223333:user/team/me"),
        ("arn:aws:sts::111122223333:assumed-role/deployer/ci", "arn:aws:iam::111122223333:role/deployer"),
        ("arn:aws-cn:sts::111122223333:assumed-role/d/ci", "arn:aws-cn:iam::111122223333:role/d"),
        ("arn:aws:sts::111122223333:federated-user/me", ""),
    ],
)
def test_whose_policies_are_asked_about(target: Endpoint, arn: str, expected: str) -> None:
    account = through(target.url)
    account.identity = Identity("111122223333", arn)
    if expected:
        assert principal_of(account) == expected
    else:
        with pytest.raises(AwsError, match="doesn't simulate"):
            principal_of(account)


def test_a_denied_call_names_a_line_that_covers_it_whatever_aws_says(site: Site, target: Endpoint) -> None:
    """Of every write of a plan, where AWS tells no resource, or the bare name that IAM tells."""
    where = Where("aws", "eu-west-1", "000000000000")
    plan = make_plan(site.wish(), through(target.url)).plan
    assert len(plan.instructions) > 20
    for one in plan.instructions:
        if one.operation == "rollout":
            continue
        for said in ("", f"User: arn:x is not authorized to perform: {{action}} on resource: role {one.key} because"):
            [own, *_] = needs_of(one, Place("000000000000", "eu-west-1", "aws", site.wish().project.deployment))
            error = {"Code": "AccessDenied", "Message": said.format(action=own.action)}
            metadata = {"HTTPStatusCode": 403}
            refused = ClientError({"Error": error, "ResponseMetadata": metadata}, one.operation)  # type: ignore[typeddict-item]
            found = translate(
                refused, one.service, one.operation, resources_of(one.service, one.operation, one.parameters, where)
            )
            assert isinstance(found, DeniedError)
            [line] = lines_of([found.hint])
            simulated = Simulator({"Version": "2012-10-17", "Statement": [line]})
            assert any(simulated.decide(own.action, resource) == "allowed" for resource in own.resources), line
