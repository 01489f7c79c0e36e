"""Deploying against two endpoints that know nothing of each other: the local service and moto's server, with the real boto3.

What one of them can't do is said by GAPS, case by case, and skipped there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from deploy_support import Endpoint, Site, deploy, endpoint, everything, lines, plan_of, shape, writes

from lading.aws.account import Access, Account, open_account
from lading.deploy.instruction import Plan, read_plans, write_plans
from lading.deploy.plan import PlanError, make_plan

GAPS = {
    ("moto", "prune"): "moto gives the numbers of removed versions again",
}


@pytest.fixture(scope="module", params=["local", "moto"])
def target(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    with endpoint(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def account(target: Endpoint) -> Account:
    return target.account()


def skip_gap(target: Endpoint, case: str) -> None:
    if (target.name, case) in GAPS:
        pytest.skip(f"{target.name}: {GAPS[target.name, case]}")


FULL = """
alias = "live"
environment = { TABLE = "orders", DB = { ssm = "/shop/db" }, API_TOKEN = "t0ken" }
url = true
layers = ["shared"]
async = { retries = 1, max-age = 600 }
tags = { team = "shop" }
reserved-concurrency = 5
logging = { retention = 30 }
permissions.api = { principal = "apigateway.amazonaws.com" }
events.nightly = { type = "schedule", schedule = "rate(1 day)", input = { kind = "nightly" } }
events.early = { type = "scheduler", schedule = "cron(0 6 * * ? *)", time-zone = "Europe/Berlin" }
events.upload = { type = "s3", bucket = "uploads-BUCKET", prefix = "in/" }
role.statements = [{ actions = ["s3:GetObject"], resources = ["arn:aws:s3:::uploads/*"] }]
"""
LAYER = '[tool.lading.layers.shared]\ncontent = "layer"\ndescription = "what both need"'


@pytest.fixture
def full(tmp_path: Path, target: Endpoint, request: pytest.FixtureRequest) -> Site:
    """A function with nearly everything, under names of the test's own."""
    name = request.node.originalname.replace("_", "-")[5:30].strip("-")
    target.client("ssm").put_parameter(Name="/shop/db", Value="secret-dsn", Type="SecureString", Overwrite=True)
    bucket = f"uploads-{name}"[:60]
    target.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    text = shape(name, {"orders": FULL.replace("uploads-BUCKET", bucket), "mail": ""}, LAYER)
    return Site(tmp_path, text.replace("[tool.lading.deploy]", '[tool.lading.deploy]\nnames = "{project}-{function}"'))


def test_from_nothing_to_everything_and_what_changes_after(full: Site, target: Endpoint, account: Account) -> None:
    """1. planned, as text, in an order that holds 2. made 3. nothing to do 4. code changes the code 5. drift is mended."""
    plan = plan_of(account, full.wish())
    check_plan(plan)
    assert deploy(account, full.wish()).plan == plan
    check_made(target, plan.project)

    account.calls.clear()
    assert lines(plan_of(account, full.wish())) == []
    assert writes(account) == []
    # Two functions with three roles: no operation reads any of them twice.
    most = {("iam", "GetRole"): 3}
    again = {call: count for call, count in account.calls.items() if count > most.get(call, 2)}
    assert again == {}, again

    full.code["orders"] = "def handler(event, context):\n    return 2\n"
    account.calls.clear()
    operations = [one.operation for one in deploy(account, full.wish()).plan.instructions]
    assert operations == ["UpdateFunctionCode", "PublishVersion", "UpdateAlias"]
    assert sorted(operation for _, operation in writes(account)) == sorted(operations)

    before, name = everything(target), f"{plan.project}-orders"
    target.client("lambda").update_function_configuration(FunctionName=name, MemorySize=512, Timeout=60)
    target.client("logs").put_retention_policy(logGroupName=f"/aws/lambda/{name}", retentionInDays=1)
    drift = deploy(account, full.wish()).plan
    changes = {change.name: (change.was, change.will) for one in drift.instructions for change in one.changes}
    assert (changes["memory"], changes["timeout"], changes["retention"]) == ((512, 128), (60, 3), (1, 30))
    after = everything(target)["functions"][name]["configuration"]
    assert after == before["functions"][name]["configuration"]
    assert lines(plan_of(account, full.wish())) == []


def check_plan(plan: Plan) -> None:
    """It survives being written, tells no secret, and nothing comes before what it needs."""
    assert {one.verb for one in plan.instructions} >= {"create"}
    assert read_plans(write_plans([plan])) == (plan,)
    done: set[str] = set()
    for one in plan.instructions:
        assert done.issuperset(one.after), f"{one.id} before {set(one.after) - done}"
        done.add(one.id)
    text = write_plans([plan])
    assert "secret-dsn" not in text and "t0ken" not in text


def check_made(target: Endpoint, name: str) -> None:
    api = target.client("lambda")
    got = api.get_function(FunctionName=f"{name}-orders")
    variables = got["Configuration"]["Environment"]["Variables"]
    assert variables == {"TABLE": "orders", "DB": "secret-dsn", "API_TOKEN": "t0ken"}
    assert got["Tags"]["lading:project"] == name and got["Tags"]["team"] == "shop"
    alias = api.get_alias(FunctionName=f"{name}-orders", Name="live")
    assert alias["FunctionVersion"] == "1"
    assert got["Configuration"]["Layers"][0]["Arn"].endswith(f"layer:{name}-shared:1")


def test_what_is_no_longer_wanted_goes_and_nothing_else(full: Site, target: Endpoint, account: Account) -> None:
    """First a part of the project, then all of it: then everything is as it was, what others made included."""
    before = everything(target)
    target.client("logs").create_log_group(logGroupName="/aws/lambda/wanted-strange")
    deploy(account, full.wish())
    project = full.wish().project.deployment.project
    text = shape(project, {"orders": ""})
    full.text = text.replace("[tool.lading.deploy]", '[tool.lading.deploy]\nnames = "{project}-{function}"')
    planned = deploy(account, full.wish())
    removed = [line for line in lines(planned.plan) if line.startswith("delete")]
    assert any("DeleteFunctionUrlConfig" in line for line in removed)
    assert f"delete function {project}-mail: DeleteFunction" in removed
    assert "secret-dsn" not in write_plans([planned.plan]) and "t0ken" not in write_plans([planned.plan])
    assert lines(plan_of(account, full.wish())) == []
    left = everything(target)
    assert [name for name in left["functions"] if name.startswith(project)] == [f"{project}-orders"]
    assert [name for name in left["roles"] if name.startswith(f"{project}-mail")] == []
    assert left["functions"][f"{project}-orders"]["aliases"] == []
    assert not any(name.startswith(project) for name in [*left["layers"], *left["rules"], *left["schedules"]])
    bucket = f"uploads-{project}"[:60]
    told = target.client("s3").get_bucket_notification_configuration(Bucket=bucket)
    assert not told.get("LambdaFunctionConfigurations")

    wish = replace(full.wish(), gone=True)
    planned = deploy(account, wish)
    assert all(one.verb == "delete" for one in planned.plan.instructions)
    assert lines(plan_of(account, wish)) == []
    after = everything(target)
    assert after["groups"].pop("/aws/lambda/wanted-strange", "gone") != "gone"
    assert after == before, "functions, roles, rules, layers and groups are as they were"


def test_a_name_that_is_taken_is_not_touched_without_adopt(tmp_path: Path, target: Endpoint, account: Account) -> None:
    deploy(account, Site(tmp_path / "one", shape("owner", {"taken": "memory = 256"})).wish())
    other = Site(tmp_path / "two", shape("thief", {"taken": "", "free": ""}))
    account.calls.clear()
    with pytest.raises(PlanError) as caught:
        make_plan(other.wish(), account)
    said = "\n".join([caught.value.message, *caught.value.details, caught.value.hint])
    assert "function taken is there and isn't this project's" in said and "--adopt" in said
    assert writes(account) == []
    # The role carries the first project's path, which can't be taken over; the function can.
    other.text = shape("thief", {"taken": 'role = { name = "thief-role" }'})
    deploy(account, other.wish(adopt=True))
    tags = target.client("lambda").get_function(FunctionName="taken")["Tags"]
    assert tags["lading:project"] == "thief"
    assert lines(plan_of(account, other.wish())) == []


def test_stages_stand_beside_each_other(tmp_path: Path, target: Endpoint, account: Account) -> None:
    text = shape("staged", {"s": "memory = 128"}, "[tool.lading.stages.prod.functions.s]\nmemory = 512\n")
    site = Site(tmp_path, text)
    deploy(account, site.wish())
    deploy(account, site.wish(stage="prod"))
    api = target.client("lambda")
    sizes = [api.get_function_configuration(FunctionName=name)["MemorySize"] for name in ("s", "s-prod")]
    assert sizes == [128, 512]
    deploy(account, site.wish(stage="prod", gone=True))
    assert api.get_function_configuration(FunctionName="s")["MemorySize"] == 128
    assert lines(plan_of(account, site.wish())) == []


def test_regions_leave_each_others_roles_alone(tmp_path: Path, target: Endpoint, account: Account) -> None:
    site = Site(tmp_path, shape("regions", {"r": ""}))
    other = open_account(Access(region="us-east-1", endpoint_url=target.url))
    for place in (account, other, account):
        deploy(place, site.wish())
    roles = target.client("iam").list_roles(PathPrefix="/lading/regions/")["Roles"]
    assert sorted(role["RoleName"] for role in roles) == ["r-eu-west-1", "r-us-east-1"]
    deploy(other, site.wish(gone=True))
    assert lines(plan_of(account, site.wish())) == []


def test_every_problem_comes_before_the_first_write(tmp_path: Path, target: Endpoint, account: Account) -> None:
    missing = f"arn:aws:iam::{account.identity.account}:role/nowhere"
    site = Site(
        tmp_path,
        shape(
            "broken",
            {
                "first": f'role = "{missing}"',
                "second": 'role = "arn:aws:iam::999999999999:role/elsewhere"',
                "third": "environment = { DB = { ssm = '/not/there' } }",
                "fourth": "events.up = { type = 's3', bucket = 'no-such-bucket-here' }",
            },
        ),
    )
    account.calls.clear()
    with pytest.raises(PlanError) as caught:
        make_plan(site.wish(), account)
    said = "\n".join(caught.value.details)
    for expected in (
        f"there is no role {missing}",
        "is of another account",
        "third: DB: there is no parameter '/not/there'",
        "the bucket no-such-bucket-here is not there",
    ):
        assert expected in said
    assert writes(account) == []


def test_old_versions_and_layers_are_pruned(tmp_path: Path, target: Endpoint, account: Account) -> None:
    skip_gap(target, "prune")
    text = shape("pruned", {"p": 'alias = "live"\nkeep-versions = 2\nlayers = ["shared"]'}, LAYER)
    site = Site(tmp_path, text.replace("[tool.lading.deploy]", "[tool.lading.deploy]\nkeep-layers = 1"))
    for number in range(4):
        site.code = {"p": f"{CODE_OF}{number}\n", "shared": f"x = {number}\n"}
        deploy(account, site.wish())
    api = target.client("lambda")
    versions = [one["Version"] for one in api.list_versions_by_function(FunctionName="p")["Versions"]]
    assert versions == ["$LATEST", "3", "4"]
    assert [one["Version"] for one in api.list_layer_versions(LayerName="shared")["LayerVersions"]] == [4]
    assert api.get_alias(FunctionName="p", Name="live")["FunctionVersion"] == "4"
    assert lines(plan_of(account, site.wish())) == []


CODE_OF = "def handler(event, context):\n    return "


def test_large_zips_go_through_a_bucket_that_is_empty_afterwards(
    tmp_path: Path, target: Endpoint, account: Account
) -> None:
    text = shape("large", {"big": 'layers = ["shared"]'}, LAYER)
    site = Site(tmp_path, text.replace("[tool.lading.deploy]", '[tool.lading.deploy]\nnames = "large-{function}"'))
    wish = site.wish()
    # Above the limit of requests by its own account; the content is small so that the test is quick.
    wish = replace(wish, packages={name: replace(one, size=60_000_000) for name, one in wish.packages.items()})
    planned = deploy(account, wish)
    assert any("PutObject" in line for line in lines(planned.plan))
    assert lines(plan_of(account, wish)) == []
    bucket = f"lading-{account.identity.account}-eu-west-1"
    s3 = target.client("s3")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    deploy(account, replace(wish, gone=True))
    assert bucket not in [one["Name"] for one in s3.list_buckets()["Buckets"]]
