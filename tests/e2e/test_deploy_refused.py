"""What can't be deployed: every reason that can be known is told at once, with the next step, before anything is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Command, Write
from deploy_proxy import Answer, Seen, Trouble, troubled
from deploy_support import ENVIRONMENT, Endpoint, Site, deploy, endpoint, shape, writes

from lading.aws.account import Access, Account, open_account
from lading.aws.refusal import DeniedError
from lading.cli.deployment import open_accounts
from lading.deploy.plan import PlanError, make_plan
from lading.deploy.wish import Wish
from lading.errors import DeployError

QUEUE = "arn:aws:sqs:eu-west-1:000000000000:orders"
ARN = "arn:aws:iam::000000000000:role/{name}"


@pytest.fixture(scope="module")
def target() -> Iterator[Endpoint]:
    with endpoint("local") as found:
        yield found


def denied(action: str, resource: str) -> Answer:
    said = f"User: arn:aws:iam::000000000000:user/me is not authorized to perform: {action} on resource: {resource}"
    return Answer(403, "AccessDeniedException", said)


def refused(wish: Wish, account: Account) -> list[str]:
    """The lines of the PlanError, with their hints."""
    with pytest.raises(PlanError) as caught:
        make_plan(wish, account)
    assert writes(account) == []
    return list(caught.value.details) or [f"{caught.value.message} ({caught.value.hint})"]


def test_denied_reads_are_told_together_each_with_its_statement(tmp_path: Path, target: Endpoint) -> None:
    def answer(seen: Seen) -> Answer | None:
        if seen.service == "iam" and seen.operation == "ListRoles":
            return denied("iam:ListRoles", "arn:aws:iam::000000000000:role/lading/")
        if seen.path.endswith("/functions/one"):
            return denied("lambda:GetFunction", "arn:aws:lambda:eu-west-1:000000000000:function:one")
        if seen.operation == "DescribeLogGroups":
            return denied("logs:DescribeLogGroups", "*")
        return None

    site = Site(tmp_path, shape("denied", {"one": "", "two": "environment = { DB = { ssm = '/not/there' } }"}))
    with troubled(target.url, Trouble(answer=answer)) as url:
        said = refused(site.wish(), open_account(Access(region="eu-west-1", endpoint_url=url)))
    for action, resource in (
        ("iam:ListRoles", "arn:aws:iam::000000000000:role/lading/"),
        ("lambda:GetFunction", "arn:aws:lambda:eu-west-1:000000000000:function:one"),
        ("logs:DescribeLogGroups", "*"),
    ):
        statement = json.dumps({"Effect": "Allow", "Action": action, "Resource": resource})
        assert any(f"not allowed: {action} on {resource}" in line and statement in line for line in said), said
    assert any("there is no parameter '/not/there'" in line for line in said)


def test_limits_are_known_before_the_first_write(tmp_path: Path, target: Endpoint) -> None:
    target.client("ssm").put_parameter(Name="/long", Value="x" * 4000, Type="String", Overwrite=True)
    statements = ", ".join(
        f"{{ actions = ['s3:GetObject'], resources = ['arn:aws:s3:::bucket-of-number-{number}/*'] }}"
        for number in range(120)
    )
    functions = {
        "greedy": "reserved-concurrency = 950",
        "wordy": "environment = { AA = { ssm = '/long' }, BB = '" + "y" * 200 + "' }",
        "mighty": f"role = {{ statements = [{statements}] }}",
        "strange": f"role = '{ARN.format(name='for-others')}'",
        "named": "",
        "ready": "alias = 'live'\nprovisioned-concurrency = 2000",
        "open": "\n".join(
            f"permissions.of-number-{number} = {{ principal = '{number:012}' }}" for number in range(120)
        ),
        "slow": f"timeout = 60\nevents.work = {{ type = 'sqs', source = '{QUEUE}' }}",
        "lost": f"events.work = {{ type = 'sqs', source = '{QUEUE}s' }}",
        "heavy": "",
        "vast": "alias = 'live'",
    }
    target.client("sqs").create_queue(QueueName="orders")
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}}]}
    trust["Statement"][0]["Action"] = "sts:AssumeRole"  # type: ignore[index]
    target.client("iam").create_role(RoleName="for-others", AssumeRolePolicyDocument=json.dumps(trust))
    site = Site(tmp_path, shape("limits", functions))
    site.text = site.text.replace("[tool.lading.deploy]", "[tool.lading.deploy]\nnames = '{function}" + "x" * 60 + "'")
    wish = site.wish()
    # Sizes as the manifests of such builds would tell them.
    packages = dict(wish.packages)
    packages["heavy"] = replace(packages["heavy"], unzipped=262_144_001)
    packages["vast"] = replace(packages["vast"], size=400 * 10**9)
    said = "\n".join(refused(replace(wish, packages=packages), target.account()))
    for expected in (
        "950 more would leave 50 unreserved; AWS keeps 100",
        "wordy: its environment has 4,204 bytes",
        "mighty: its role's statements have",
        "provisioned-concurrency: 2000 more, and 0 are left for it",
        "open: its own policy would have",
        "heavy: 262,144,001 bytes unzipped, layers included; Lambda takes 262,144,000",
        "code storage: 800,",
        "slow: event work: its queue hides a message for 30 s; the function may take 60",
        f"lost: event work: there is no queue {QUEUE}s",
        f"the role {ARN.format(name='for-others')} can't be assumed by Lambda",
        "named: 'named" + "x" * 60 + "' is no name of a function",
    ):
        assert expected in said


def test_a_role_to_deploy_as(tmp_path: Path, target: Endpoint) -> None:
    """Every call is made with the role's own keys; one that can't be assumed is told before anything else."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
    arn = ARN.format(name="deployer")
    target.client("iam").create_role(RoleName="deployer", AssumeRolePolicyDocument=json.dumps(trust))
    account = target.account(assume_role=arn)
    assert account.identity.arn.startswith("arn:aws:sts::000000000000:assumed-role/deployer/")
    site = Site(tmp_path, shape("assumed", {"a": ""}))
    deploy(account, site.wish())
    assert account.calls["sts", "AssumeRole"] == 0 and account.calls["lambda", "CreateFunction"] == 1
    deploy(account, site.wish(gone=True))
    trouble = Trouble(answer=lambda seen: denied("sts:AssumeRole", arn) if seen.operation == "AssumeRole" else None)
    with troubled(target.url, trouble) as url, pytest.raises(DeniedError) as caught:
        open_account(Access(region="eu-west-1", endpoint_url=url, assume_role=arn))
    assert f"not allowed: sts:AssumeRole on {arn}" in caught.value.message
    assert "trust policy" in caught.value.hint


PROJECT = """
    [tool.lading.deploy]
    project = "places"
    regions = ["eu-west-1", "us-east-1"]
    [tool.lading.functions.greet]
    handler = "greet.handler"
    requirements = []
    [tool.lading.stages.prod.deploy]
    regions = ["eu-central-1"]
    assume-role = "{role}"
"""


def test_stages_say_where_to_and_as_whom(write: Write, lading: Command, target: Endpoint) -> None:
    """One project in two regions, and its stage in a third, through a role."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
    target.client("iam").create_role(RoleName="to-prod", AssumeRolePolicyDocument=json.dumps(trust))
    files = {
        "pyproject.toml": PROJECT.format(role=ARN.format(name="to-prod")),
        "greet.py": "def handler(event, context):\n    return 'hello'\n",
    }
    project = write("places", files)
    (project / ".git").mkdir()
    place = ("--endpoint-url", target.url)
    lading("deploy", *place, cwd=project, env=ENVIRONMENT)
    lading("deploy", *place, "--stage", "prod", cwd=project, env=ENVIRONMENT)
    found = {
        region: [
            one["FunctionName"]
            for one in target.client("lambda", region_name=region).list_functions()["Functions"]
            if one["FunctionName"].startswith("greet")
        ]
        for region in ("eu-west-1", "us-east-1", "eu-central-1")
    }
    assert found == {"eu-west-1": ["greet"], "us-east-1": ["greet"], "eu-central-1": ["greet-prod"]}


def test_what_is_wrong_with_every_place_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad regions together; what is wrong everywhere, such as missing credentials, once."""
    site = Site(tmp_path, shape("nowhere", {"n": ""}))
    given = {"regions": ("eu-west-9", "us-nowhere-1"), "profile": "", "assume_role": "", "endpoint_url": ""}
    nobody = {
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name in (*ENVIRONMENT, "AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in nobody.items():
        monkeypatch.setenv(name, value)

    def told(**more: object) -> str:
        with pytest.raises(DeployError) as caught:
            open_accounts(site.wish().project, given | more)
        return "\n".join([caught.value.message, *caught.value.details])

    wrong = told()
    assert "no region 'eu-west-9'" in wrong and "no region 'us-nowhere-1'" in wrong
    assert told(regions=("eu-west-1", "us-east-1")).count("there are no AWS credentials here") == 1
    monkeypatch.setenv("AWS_PROFILE", "shop")
    assert told(regions=("eu-west-1", "us-east-1")).count("no profile 'shop' in AWS's configuration files") == 1
