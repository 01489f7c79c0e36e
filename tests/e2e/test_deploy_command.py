"""The commands as a user runs them: plan, deploy, a plan carried out later, rollback, destroy, and the policy they need."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Command, Write
from deploy_support import ENVIRONMENT, Endpoint, Site, endpoint, everything, shape

from lading.aws.actions import action_of
from lading.deploy.apply import apply_plan
from lading.deploy.place import Place
from lading.deploy.plan import make_plan
from lading.deploy.policy import deployer_policy
from lading.model.progress import Silent

ROOT = Path(__file__).parents[2]
PROJECT = {
    "pyproject.toml": """
        [tool.lading]
        alias = "live"
        [tool.lading.deploy]
        project = "commands"
        [tool.lading.functions.greet]
        handler = "greet.handler"
        requirements = []
        environment = { API_TOKEN = "hush-hush", KIND = "plain" }
    """,
    "greet.py": "def handler(event, context):\n    return 'hello'\n",
}


@pytest.fixture(scope="module")
def target() -> Iterator[Endpoint]:
    with endpoint("local") as found:
        yield found


def test_from_a_plan_to_nothing(write: Write, lading: Command, target: Endpoint) -> None:
    project = write("commands", PROJECT)
    (project / ".git").mkdir()
    place = ("--endpoint-url", target.url)
    planned = lading("plan", *place, "--detailed-exitcode", cwd=project, env=ENVIRONMENT, code=2)
    assert "+ function greet: CreateFunction" in planned.out
    assert "environment.API_TOKEN: (hidden)" in planned.out and "hush" not in planned.out
    file = project / "dist" / "plan.json"
    printed = lading("plan", *place, "--json", "--out", file, cwd=project, env=ENVIRONMENT).out
    assert file.read_text() == printed
    assert "hush" not in file.read_text()
    lading("deploy", *place, "--plan", file, cwd=project, env=ENVIRONMENT)
    stale = lading("deploy", *place, "--plan", file, cwd=project, env=ENVIRONMENT, code=8)
    assert "has changed since the plan was made" in stale.err
    (project / "greet.py").write_text("def handler(event, context):\n    return 'good morning'\n")
    changed = lading("deploy", *place, cwd=project, env=ENVIRONMENT)
    assert "~ alias greet:live: UpdateAlias" in changed.out
    back = lading("rollback", *place, cwd=project, env=ENVIRONMENT)
    assert "version: 2 → 1" in back.out
    text = (project / "pyproject.toml").read_text().replace("functions.greet", "functions.welcome")
    (project / "pyproject.toml").write_text(text)
    refused = lading("deploy", *place, cwd=project, env=ENVIRONMENT, code=2)
    assert "this would remove function greet" in refused.err
    assert list(everything(target)["functions"]) == ["greet"], "a function goes only where that is asked for"
    lading("deploy", *place, "--yes", cwd=project, env=ENVIRONMENT)
    assert list(everything(target)["functions"]) == ["welcome"]
    refused = lading("destroy", *place, cwd=project, env=ENVIRONMENT, code=2)
    assert "nothing was removed" in refused.err
    lading("destroy", *place, "--yes", cwd=project, env=ENVIRONMENT)
    left = everything(target)
    assert left["functions"] == left["groups"] == {}
    assert not [name for name in left["roles"] if name.startswith(("greet", "welcome"))], (
        "IAM is one for all tests of a process"
    )


def test_errors_are_of_the_kind_that_scripts_can_tell(write: Write, lading: Command, target: Endpoint) -> None:
    project = write("commands", PROJECT)
    (project / ".git").mkdir()
    assert "isn't built yet" in lading("plan", "--no-build", cwd=project, env=ENVIRONMENT, code=2).err
    wrong = lading("plan", "--region", "eu-west-9", cwd=project, env={**ENVIRONMENT, "AWS_ENDPOINT_URL": ""}, code=8)
    assert "error: there is no region 'eu-west-9'" in wrong.err and "did you mean 'eu-west-" in wrong.err
    assert "no stage 'prod'" in lading("plan", "--stage", "prod", cwd=project, env=ENVIRONMENT, code=2).err
    assert "no function 'x'" in lading("deploy", "-n", "x", cwd=project, env=ENVIRONMENT, code=2).err
    (project / "plan.json").write_text("{}")
    place = ("--endpoint-url", target.url)
    assert "not a plan" in lading("deploy", *place, "--plan", "plan.json", cwd=project, env=ENVIRONMENT, code=8).err
    coded = lading("plan", "--detailed-exitcode", "--stage", "prod", cwd=project, env=ENVIRONMENT, code=1)
    assert "no stage 'prod'" in coded.err


def test_the_printed_policy_allows_what_a_deployment_does(
    tmp_path: Path, target: Endpoint, lading: Command, request: pytest.FixtureRequest
) -> None:
    """Every operation that was called is among the actions; nothing but reads that can't be narrowed is allowed on all."""
    target.client("ssm").put_parameter(Name="/policy/x", Value="1", Type="String", Overwrite=True)
    wishes = (
        'alias = "live"\nurl = true\nasync = { retries = 1 }\nlogging = { retention = 7 }\nreserved-concurrency = 1\n'
        'environment = { DB = { ssm = "/policy/x" } }\nlayers = ["shared"]\n'
        'events.often = { type = "schedule", schedule = "rate(5 minutes)" }\npermissions.a = { principal = "s3.amazonaws.com" }'
    )
    site = Site(tmp_path, shape("policed", {"p": wishes}, '[tool.lading.layers.shared]\ncontent = "layer"'))
    account = target.account()
    project = site.wish().project
    for wish in (site.wish(), site.wish(), site.wish(gone=True)):
        apply_plan(make_plan(wish, account), account, Silent())
    place = Place(account.identity.account, account.region, account.identity.partition, project.deployment)
    policy = deployer_policy(project, place)
    allowed = {action for one in policy["Statement"] for action in one["Action"]}
    # What the tagging API tells on AWS is asked function by function here.
    needed = {action_of(*call) for call in account.calls} - {"lambda:ListFunctions", "lambda:ListTags"}
    assert {one for one in needed if not any(fnmatch.fnmatch(one, pattern) for pattern in allowed)} == set()
    wide = {action for one in policy["Statement"] if one["Resource"] == ["*"] for action in one["Action"]}
    assert all(action.partition(":")[2].startswith(("Get", "List", "Simulate")) for action in wide)
    printed = lading("deploy", "--print-policy", "--endpoint-url", target.url, cwd=tmp_path, env=ENVIRONMENT)
    assert json.loads(printed.out) == policy
