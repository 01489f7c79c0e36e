"""One project in two accounts and three places, by a profile and by a role to assume there; the accounts share nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from deploy_support import Endpoint, Site, endpoint, lines, shape

from lading.aws.account import Account
from lading.cli.deployment import accesses, apply_everywhere, open_accounts, plan_everywhere
from lading.deploy.plan import PlanError
from lading.deploy.status import read_status
from lading.errors import DeployError

OWN = {"local": "111111111111", "moto": "123456789012"}
OTHER = "222222222222"
ROLE = f"arn:aws:iam::{OTHER}:role/deployer"
PLACES = f"""
regions = ["eu-west-1"]
accounts = [{{ profile = "own" }}, {{ profile = "own", assume-role = "{ROLE}", regions = ["eu-west-1", "us-east-1"] }}]
"""
NOTHING: Mapping[str, Any] = {"regions": (), "profile": "", "assume_role": "", "endpoint_url": ""}


@pytest.fixture(scope="module", params=["local", "moto"])
def target(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    with endpoint(request.param) as found:
        yield found


@pytest.fixture
def site(tmp_path: Path, target: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Credentials are a profile's, of a file; those of the environment would be another account's at the local service."""
    key = OWN[target.name] if target.name == "local" else "test"
    files = {"config": "[profile own]\nregion = eu-west-1\n", "credentials": f"[own]\naws_access_key_id = {key}\n"}
    files["credentials"] += "aws_secret_access_key = test\n"
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    text = shape("accounts", {"greet": "memory = 256\nalias = 'live'"})
    return Site(tmp_path / "project", text.replace("[tool.lading.deploy]", f"[tool.lading.deploy]{PLACES}"))


def opened(site: Site, target: Endpoint, **given: Any) -> list[Account]:
    return open_accounts(site.wish().project, {**NOTHING, "endpoint_url": target.url, **given})


def names(account: Account) -> list[str]:
    return [one["FunctionName"] for one in account.pages("lambda", "ListFunctions", "Functions")]


def test_each_account_is_deployed_to_and_left_alone_by_the_others(site: Site, target: Endpoint) -> None:
    accounts, wish = opened(site, target), site.wish()
    assert [(one.identity.account, one.region) for one in accounts] == [
        (OWN[target.name], "eu-west-1"), (OTHER, "eu-west-1"), (OTHER, "us-east-1"),
    ]  # fmt: skip
    plans = plan_everywhere(wish, accounts)
    assert {plan.plan.account for plan in plans} == {OWN[target.name], OTHER}
    apply_everywhere(plans, accounts)
    assert [names(one) for one in accounts] == [["greet"]] * 3
    assert [lines(plan.plan) for plan in plan_everywhere(wish, accounts)] == [[], [], []]
    for account in accounts:
        role = account.call("lambda", "GetFunction", FunctionName="greet")["Configuration"]["Role"]
        assert role.split(":")[4] == account.identity.account
        [status] = read_status(wish.project, account)
        assert (status.account, status.region, status.aliases) == (
            account.identity.account, account.region, ("live → 1",),
        )  # fmt: skip

    accounts[1].call("lambda", "UpdateFunctionConfiguration", FunctionName="greet", MemorySize=512)
    drifted = [lines(plan.plan) for plan in plan_everywhere(wish, accounts)]
    assert [bool(one) for one in drifted] == [False, True, False]

    gone = site.wish(gone=True)
    alone = opened(site, target, profile="own")
    apply_everywhere(plan_everywhere(gone, alone), alone)
    assert [names(one) for one in accounts] == [[], ["greet"], ["greet"]]
    apply_everywhere(plan_everywhere(gone, accounts), accounts)
    assert [names(one) for one in accounts] == [[], [], []]
    assert [lines(plan.plan) for plan in plan_everywhere(gone, accounts)] == [[], [], []]


def test_problems_tell_where_they_are_and_nobody_is_changed(site: Site, target: Endpoint) -> None:
    site.text += 'environment = { DB = { ssm = "/of/one/account" } }\n'
    accounts = opened(site, target)
    accounts[0].call("ssm", "PutParameter", Name="/of/one/account", Value="x", Type="String", Overwrite=True)
    with pytest.raises(PlanError) as caught:
        plan_everywhere(site.wish(), accounts)
    for region in ("eu-west-1", "us-east-1"):
        assert any(
            line.startswith(f"{OTHER} {region}: ") and "there is no parameter '/of/one/account'" in line
            for line in caught.value.details
        ), caught.value.details
    assert [names(one) for one in accounts] == [[], [], []]


def test_the_same_place_twice_is_refused(site: Site, target: Endpoint) -> None:
    site.text = site.text.replace(
        'accounts = [{ profile = "own" }', 'accounts = [{ profile = "own" }, { profile = "own" }'
    )
    with pytest.raises(DeployError, match=f"the same: {OWN[target.name]} eu-west-1"):
        opened(site, target)


def test_the_command_line_s_account_takes_the_place_of_all(site: Site, target: Endpoint) -> None:
    def found(**given: Any) -> list[tuple[str, str, str]]:
        return [
            (one.profile, one.assume_role, one.region) for one in accesses(site.wish().project, {**NOTHING, **given})
        ]

    assert found(profile="ci", regions=("eu-north-1",)) == [("ci", "", "eu-north-1")]
    assert found(regions=("eu-north-1",)) == [("own", "", "eu-north-1"), ("own", ROLE, "eu-north-1")]
