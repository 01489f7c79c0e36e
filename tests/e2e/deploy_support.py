"""What the tests of deploying share: two endpoints, projects with their packages, and what is there."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve_support import REGION, client, service, zipped

from lading.aws.account import Access, Account, open_account
from lading.config import load
from lading.deploy.apply import apply_plan
from lading.deploy.instruction import Plan
from lading.deploy.plan import Planned, make_plan
from lading.deploy.unit import Package
from lading.deploy.wish import Wish
from lading.errors import LadingError
from lading.model.progress import Silent

CODE = "def handler(event, context):\n    return event\n"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
}
_PIPES: list[subprocess.Popen[bytes]] = []
"""Kept, and with them open what their processes end with."""
READS = ("Get", "List", "Describe", "Head")


@dataclass(frozen=True)
class Endpoint:
    """Where a test deploys to. `name` is "local" or "moto"."""

    name: str
    url: str

    def account(self, **more: Any) -> Account:
        return open_account(Access(region=REGION, endpoint_url=self.url, **more))

    def client(self, name: str, **options: Any) -> Any:
        # IAM's first use loads AWS's policies, which takes its time on a loaded machine.
        return client(self.url, name, **{"patience": 120.0, **options})


@contextlib.contextmanager
def endpoint(name: str) -> Iterator[Endpoint]:
    """The local service, which keeps functions and doesn't run them here; or moto's own server."""
    os.environ.update(ENVIRONMENT)
    if name == "local":
        with service(neighbours={}, walls=None) as url:
            yield Endpoint(name, url)
        return
    url = moto_server()
    try:
        yield Endpoint(name, url)
    finally:
        with urllib.request.urlopen(
            urllib.request.Request(f"{url}/moto-api/reset", method="POST"), timeout=240
        ) as answer:
            answer.read()


@functools.cache
def moto_server() -> str:
    """One for all tests of a worker, empty before and after each that uses it; it ends when the pipe to it does. A process of
    its own: in this one it would share its state with the local service's neighbours."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(__file__).with_name("moto_process.py")), str(port)]
    process = subprocess.Popen(
        command,
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _PIPES.append(process)
    deadline = time.monotonic() + 240
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return f"http://127.0.0.1:{port}"
        assert process.poll() is None and time.monotonic() < deadline, "moto's server does not start"
        time.sleep(0.05)


@dataclass
class Site:
    """A project in a folder: its text, and packages whose content the test chooses."""

    root: Path
    text: str
    code: dict[str, str] = field(default_factory=dict)

    def wish(self, **more: Any) -> Wish:
        """As it is now; written, loaded and packed."""
        (self.root / ".git").mkdir(exist_ok=True, parents=True)
        (self.root / "layer").mkdir(exist_ok=True)
        (self.root / "layer" / "data").write_text("x", "utf-8")
        (self.root / "app.py").write_text(CODE, "utf-8")
        (self.root / "pyproject.toml").write_text(self.text, "utf-8")
        stage = more.pop("stage", "")
        project = load(self.root, stage=stage)
        names = [*(one.name for one in project.functions), *(one.name for one in project.layers)]
        return Wish(project, {name: pack(self.root, name, self.code.get(name, CODE)) for name in names}, **more)


def pack(folder: Path, name: str, code: str) -> Package:
    """A zip as `lading build` would leave it, made in no time."""
    data = zipped({"app.py": code})
    path = folder / f"{name}.zip"
    path.write_bytes(data)
    return Package(path, base64.b64encode(hashlib.sha256(data).digest()).decode(), len(data), len(code))


def deploy(account: Account, wish: Wish) -> Planned:
    """Plan and apply; an error shows its details in the test's own report."""
    try:
        planned = make_plan(wish, account)
        apply_plan(planned, account, Silent())
    except LadingError as error:
        error.add_note("\n".join(error.details))
        raise
    return planned


def plan_of(account: Account, wish: Wish) -> Plan:
    return make_plan(wish, account).plan


def lines(plan: Plan) -> list[str]:
    """ "create function orders: CreateFunction" for each instruction."""
    return [f"{one.verb} {one.subject}: {one.operation}" for one in plan.instructions]


def changes_of(plan: Plan, function: str) -> set[str]:
    """Names of what changes of a function, its log group included; but for the tag in which lading keeps books."""
    own = [one for one in plan.instructions if one.scope == function or one.key == f"log-group:/aws/lambda/{function}"]
    return {change.name for one in own for change in one.changes} - {"tags.lading:parts"}


def writes(account: Account) -> list[tuple[str, str]]:
    return [call for call in account.calls if not call[1].startswith(READS)]


def everything(target: Endpoint) -> dict[str, Any]:
    """What is there, less what is made anew each time: times, revisions, ids."""
    api, iam, events = target.client("lambda"), target.client("iam"), target.client("events")
    found: dict[str, Any] = {"functions": {}, "roles": {}, "rules": {}}
    for function in api.list_functions()["Functions"]:
        found["functions"][function["FunctionName"]] = _function(api, function["FunctionName"])
    for role in iam.list_roles(PathPrefix="/lading/")["Roles"]:
        name = role["RoleName"]
        found["roles"][name] = {
            "attached": iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"],
            "inline": {
                policy: iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
                for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
            },
        }
    found["layers"] = {
        layer["LayerName"]: [
            version["Description"] for version in api.list_layer_versions(LayerName=layer["LayerName"])["LayerVersions"]
        ]
        for layer in api.list_layers()["Layers"]
    }
    for rule in events.list_rules()["Rules"]:
        targets = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
        found["rules"][rule["Name"]] = [rule.get("ScheduleExpression"), rule["State"], targets]
    scheduler = target.client("scheduler")
    found["schedules"] = {
        one["Name"]: scheduler.get_schedule(Name=one["Name"])["Target"]
        for one in scheduler.list_schedules()["Schedules"]
    }
    groups = target.client("logs").describe_log_groups()["logGroups"]
    found["groups"] = {group["logGroupName"]: group.get("retentionInDays") for group in groups}
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


def _function(api: Any, name: str) -> dict[str, Any]:
    volatile = {"LastModified", "RevisionId", "Version", "FunctionArn", "MasterArn", "Layers"}
    got = api.get_function(FunctionName=name)
    # Numbers of a layer's versions are never given again, so they tell how often it was made.
    layers = [layer["Arn"].rpartition(":")[0] for layer in got["Configuration"].get("Layers") or ()]
    versions = api.list_versions_by_function(FunctionName=name)["Versions"]
    aliases = api.list_aliases(FunctionName=name)["Aliases"]
    policies = {}
    for qualifier in (None, *(alias["Name"] for alias in aliases)):
        with contextlib.suppress(api.exceptions.ResourceNotFoundException):
            answer = api.get_policy(FunctionName=name, **({"Qualifier": qualifier} if qualifier else {}))
            statements = json.loads(answer["Policy"])["Statement"]
            policies[str(qualifier)] = sorted(statements, key=lambda one: str(one["Sid"]))
    return {
        "configuration": {key: value for key, value in got["Configuration"].items() if key not in volatile},
        "layers": layers,
        "tags": got.get("Tags"),
        "reserved": got.get("Concurrency"),
        "versions": [(version["Version"], version["CodeSha256"]) for version in versions],
        "aliases": [(alias["Name"], alias["FunctionVersion"], alias.get("RoutingConfig")) for alias in aliases],
        "policies": policies,
    }


def shape(project: str, functions: Mapping[str, str], extra: str = "") -> str:
    """A pyproject.toml with these functions, each with further lines of its table."""
    tables = [f'[tool.lading.functions.{name}]\nhandler = "app.handler"\n{more}\n' for name, more in functions.items()]
    return f'[tool.lading.deploy]\nproject = "{project}"\n{"".join(tables)}{extra}\n'
