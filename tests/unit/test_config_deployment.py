"""What a project says about its deployment: read whole, stages laid over it, and all that is wrong said at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lading.config import load
from lading.config.problems import InvalidConfigError
from lading.model.deployment import (
    AsyncConfig,
    Cors,
    Destination,
    Reference,
    Rollout,
    Statement,
    Trigger,
    UrlConfig,
    Vpc,
)
from lading.model.schedule import schedule_problem

HANDLER = "def lambda_handler(event, context):\n    return event\n"
QUEUE = "arn:aws:sqs:eu-west-1:111122223333:orders"
FULL = f"""
[tool.lading]
alias = "live"
tags = {{ team = "shop", cost = "1" }}
logging = {{ retention = 30, format = "JSON", application-level = "DEBUG" }}
[tool.lading.deploy]
project = "shop"
regions = ["eu-west-1", "us-east-1"]
names = "{{project}}-{{stage}}-{{function}}"
keep-layers = 3
[tool.lading.functions.orders]
memory = 256
environment = {{ TABLE = "orders", DB = {{ ssm = "/shop/db" }}, KEY = {{ secret = "shop/key", field = "api" }} }}
tags = {{ cost = "2" }}
reserved-concurrency = 20
provisioned-concurrency = 2
keep-versions = 5
async = {{ retries = 1, on-failure = "{QUEUE}" }}
url = {{ auth = "none", cors = {{ origins = ["*"], max-age = 60 }} }}
vpc = {{ subnets = ["subnet-1"], security-groups = ["sg-1"] }}
rollout = {{ strategy = "canary", step = 20, interval = 300, smoke-event = {{ ping = true }} }}
[tool.lading.functions.orders.role]
policies = ["AmazonSSMReadOnlyAccess"]
statements = [{{ actions = ["s3:GetObject"], resources = ["arn:aws:s3:::b/*"] }}]
[tool.lading.functions.orders.events.queue]
type = "sqs"
source = "{QUEUE}"
batch-size = 5
[tool.lading.functions.orders.events.nightly]
type = "schedule"
schedule = "cron(0 3 * * ? *)"
[tool.lading.stages.prod]
deploy = {{ regions = ["eu-central-1"] }}
[tool.lading.stages.prod.functions.orders]
memory = 1024
events = {{ queue = {{ batch-size = 10 }} }}
"""


def make(root: Path, text: str) -> Path:
    (root / ".git").mkdir()
    (root / "pyproject.toml").write_text(text, "utf-8")
    (root / "lambda_function.py").write_text(HANDLER, "utf-8")
    return root


def test_everything_is_read(tmp_path: Path) -> None:
    project = load(make(tmp_path, FULL))
    assert (project.deployment.project, project.deployment.stage) == ("shop", "")
    assert project.deployment.regions == ("eu-west-1", "us-east-1")
    function = project.functions[0]
    deployment = function.deployment
    assert function.environment == {"TABLE": "orders"}
    assert deployment.references == (
        Reference("DB", "ssm", "/shop/db"),
        Reference("KEY", "secret", "shop/key", "api"),
    )
    assert deployment.tags == {"team": "shop", "cost": "2"}
    assert deployment.role.statements == (Statement(("s3:GetObject",), ("arn:aws:s3:::b/*",)),)
    assert deployment.url == UrlConfig("none", cors=Cors(origins=("*",), max_age=60))
    assert deployment.asynchronous == AsyncConfig(retries=1, on_failure=QUEUE)
    assert deployment.vpc == Vpc(("subnet-1",), ("sg-1",))
    assert deployment.rollout == Rollout("canary", 20, 300, '{"ping": true}')
    assert deployment.triggers[0] == Trigger("queue", "sqs", {"source": QUEUE, "batch-size": 5})
    assert deployment.publish and deployment.alias == "live"


def test_a_stage_is_laid_over_the_project(tmp_path: Path) -> None:
    project = load(make(tmp_path, FULL), stage="prod")
    assert (project.deployment.stage, project.deployment.regions) == ("prod", ("eu-central-1",))
    function = project.functions[0]
    assert function.memory == 1024
    assert function.deployment.triggers[0].settings == {"source": QUEUE, "batch-size": 10}
    assert function.deployment.reserved_concurrency == 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("role = { polices = [] }", "role.polices: unknown key|did you mean 'policies'"),
        ("role = 'worker'", "role: 'worker' is not what AWS takes|arn:aws:iam"),
        ("role = { statements = [{ actions = ['s3:*'] }] }", r"statements\[0\]: 'resources' is missing"),
        ("logging = { retention = 29 }", "retention: CloudWatch doesn't keep logs for 29 days|such as 30"),
        ("logging = { application-level = 'INFO' }", "application-level without JSON"),
        ("url = 1", "url: must be true or false or a table, not 1"),
        ("url = { auth = 'nobody' }", "unknown auth 'nobody'"),
        ("events.a = { type = 'sqss' }", "unknown type 'sqss'|did you mean 'sqs'"),
        ("events.a = { type = 'sqs' }", "events.a: 'source' is missing"),
        ("events.a = { type = 'sqs', source = 'arn:aws:sns:eu-west-1:1:a' }", "belongs to another service than sqs"),
        (f"events.a = {{ type = 'sqs', source = '{QUEUE}', batch-size = 100 }}", "above 10 a queue needs a window"),
        (f"events.a = {{ type = 'sqs', source = '{QUEUE}.fifo', batch-size = 11 }}", "the 10 of FIFO"),
        (f"events.a = {{ type = 'sqs', source = '{QUEUE}', topics = ['x'] }}", "topics: unknown key"),
        ("events.a = { type = 'dynamodb', source = 'arn:aws:dynamodb:r:1:table/a' }", "is a table|stream"),
        ("events.a = { type = 'kafka', topics = ['x'] }", "one of `source` and `bootstrap-servers`"),
        ("events.a = { type = 'schedule', schedule = 'cron(0 25 * * ? *)' }", "'25' is no hours"),
        ("events.a = { type = 'schedule', schedule = 'rate(5 minute)' }", "write rate\\(5 minutes\\)"),
        ("events.a = { type = 'schedule' }", "events.a: 'schedule' is missing"),
        ("events.a = { type = 'schedule', schedule = 'at(2027-01-31T08:00:00)' }", "neither rate"),
        ("events.a = { type = 'schedule', schedule = 'rate(1 day)', time-zone = 'UTC' }", "time-zone: unknown key"),
        ("events.a = { type = 'scheduler', schedule = 'at(2027-02-30T08:00:00)' }", "day is out of range"),
        ("events.a = { type = 'scheduler', schedule = 'cron(0 25 * * ? *)' }", "'25' is no hours"),
        (
            "events.a = { type = 'scheduler', schedule = 'rate(1 day)', time-zone = 'Europe/Berlim' }",
            "no time zone 'Europe/Berlim'|did you mean 'Europe/Berlin'",
        ),
        (
            "events.a = { type = 'scheduler', schedule = 'rate(1 day)', flexible-window = 2000 }",
            "2000 is not in 1–1440",
        ),
        (
            "events.a = { type = 'scheduler', schedule = 'rate(1 day)', start = '2027-01-31T08:00:00' }",
            "not what AWS takes",
        ),
        (
            "events.a = { type = 'scheduler', schedule = 'rate(1 day)', start = '2027-13-31T08:00:00Z' }",
            "month must be in",
        ),
        (
            (
                "events.a = { type = 'scheduler', schedule = 'rate(1 day)', start = '2027-01-31T08:00:00Z', "
                "end = '2027-01-31T08:00:00+01:00' }"
            ),
            "is not after the start",
        ),
        (
            "events.a = { type = 'scheduler', schedule = 'rate(1 day)', on-failure = 'arn:aws:sns:eu-west-1:1:t' }",
            "is no queue",
        ),
        ("[tool.lading.deploy]\naccounts = [{ assume-role = 'deployer' }]", "not what AWS takes|arn:aws:iam"),
        ("[tool.lading.deploy]\naccounts = [{ region = 'x' }]", "region: unknown key|did you mean 'regions'"),
        ("events.a = { type = 's3', bucket = 'b-1', events = ['created'] }", "'created' is no event of S3"),
        ("provisioned-concurrency = 1", "provisioned-concurrency: works on published versions only|alias"),
        ("rollout = { strategy = 'linear' }", "rollout: works on published versions only"),
        ("alias = 'live'\nsnap-start = true\nephemeral-storage = 1024", "does not work with more than 512 MB"),
        ("alias = '7'", "alias: '7' is not what AWS takes"),
        ("environment = { DB = { ssm = '/a', secret = 'b' } }", "neither or both"),
        ("environment = { DB = { smm = '/a' } }", "DB.smm: unknown key|did you mean 'ssm'"),
        ("tags = { 'aws:x' = 'y' }", "a prefix that is reserved"),
        ("tags = { a = 1 }", "tags.a: must be a string"),
        ("code-signing = 'arn:aws:lambda:r:1:code-signing-config:csc-1'\npackage = 'image'", "can't be signed"),
        ("async = { retries = 3 }", "retries: 3 is not in 0–2"),
        ("[tool.lading.deploy]\nkeep-images = 2\nrepository = 'own'", "keep-images: others may use a repository"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, expected: str) -> None:
    root = make(tmp_path, f"[tool.lading.functions.f]\n{text}\n")
    with pytest.raises(InvalidConfigError) as caught:
        load(root)
    error = caught.value
    said = "\n".join([error.message, *error.details, error.hint])
    for part in expected.split("|"):
        assert re.search(part, said), said


@pytest.mark.parametrize(
    ("text", "stage", "expected"),
    [
        ("[tool.lading.stages.prod]\nmemory = 256\n", "prd", "no stage 'prd'|did you mean 'prod'"),
        ("[tool.lading]\nmemory = 256\n", "prod", r"no stage 'prod'|add \[tool.lading.stages.prod\]"),
        ("[tool.lading.stages.prod]\nmemroy = 1\n", "", "stages.prod.memroy: unknown key|did you mean 'memory'"),
        ("[tool.lading.stages.prod.functions.x]\nmemory = 256\n", "", "the project has no such function"),
        ("[tool.lading.deploy]\nnames = '{fnction}'\n", "", "is no pattern"),
        ("[tool.lading.deploy]\nnames = 'x'\n", "", "would be every function's name"),
        ("[tool.lading.deploy]\nregion = 'x'\n", "", "deploy.region: unknown key|did you mean 'regions'"),
    ],
)
def test_stages_and_the_project(tmp_path: Path, text: str, stage: str, expected: str) -> None:
    root = make(tmp_path, text)
    with pytest.raises(InvalidConfigError) as caught:
        load(root, stage=stage)
    said = "\n".join([caught.value.message, *caught.value.details, caught.value.hint])
    for part in expected.split("|"):
        assert re.search(part, said), said


@pytest.mark.parametrize(
    "expression",
    ["rate(1 minute)", "rate(7 days)", "cron(0/15 8-18 ? * MON-FRI *)", "cron(0 0 L * ? 2027-2030)",
     "cron(5,35 14 * * ? *)", "cron(0 9 ? JAN,JUL 2#1 *)", "cron(0 9 15W * ? *)", "cron(0 9 ? * 6L *)"],
)  # fmt: skip
def test_good_schedules(expression: str) -> None:
    assert schedule_problem(expression) == ""


@pytest.mark.parametrize(
    "expression",
    ["", "every day", "rate(0 minutes)", "rate(1 minutes)", "cron(0 0 * * *)", "cron(60 0 * * ? *)", "cron(0 0 * * * *)",
     "cron(0 0 ? * ? *)", "cron(0 0 32 * ? *)", "cron(0 0 * FOO ? *)", "cron(0/0 0 * * ? *)", "cron(30-10 0 * * ? *)"],
)  # fmt: skip
def test_bad_schedules(expression: str) -> None:
    assert schedule_problem(expression)
    assert schedule_problem(expression, once=True)


def test_a_schedule_for_once_is_one_of_the_scheduler_only() -> None:
    assert schedule_problem("at(2027-01-31T08:00:00)", once=True) == ""
    assert schedule_problem("at(2027-01-31T08:00:00)")
    assert schedule_problem("at(2027-01-31 08:00)", once=True)


def test_accounts_are_read_each_with_its_regions(tmp_path: Path) -> None:
    role = "arn:aws:iam::111122223333:role/deployer"
    text = (
        f"[tool.lading.deploy]\naccounts = [{{ profile = 'a' }}, {{ assume-role = '{role}', regions = ['eu-west-1'] }}]"
    )
    project = load(make(tmp_path, f"[tool.lading.functions.f]\n{text}\n"))
    assert project.deployment.accounts == (Destination("a"), Destination("", role, ("eu-west-1",)))
