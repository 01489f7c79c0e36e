"""Every setting of a function: from nothing stated to it and back, on both endpoints. One project holds a function for each.

What an endpoint can't keep is said by GAPS, warned of, and left out there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from deploy_support import Endpoint, Site, changes_of, deploy, endpoint, everything, lines, plan_of, shape

UNKEPT = "moto's UpdateFunctionConfiguration ignores it"
NOT_HERE = "the local service has no networks of the user's own, and refuses it"
GAPS: Mapping[tuple[str, str], str] = {
    ("moto", "open url"): "moto forgets FunctionUrlAuthType and InvokedViaFunctionUrl of a permission",
    ("moto", "cors"): "moto doesn't keep what a URL's Cors leaves out",
    ("moto", "stream url"): "moto's UpdateFunctionUrlConfig ignores InvokeMode",
    ("moto", "file-systems"): "moto keeps no FileSystemConfigs",
    ("moto", "snap-start"): "moto answers SnapStart None whatever was asked",
    ("moto", "code-signing"): "moto has no PutFunctionCodeSigningConfig",
    **{("moto", name): UNKEPT for name in ("ephemeral-storage", "tracing", "json logging", "dead-letter", "kms-key")},
    ("local", "vpc"): NOT_HERE,
    ("local", "file-systems"): NOT_HERE,
}


@dataclass(frozen=True)
class Field:
    """A function's table with and without the setting, and the names of what changes between the two."""

    stated: str
    changes: frozenset[str]
    plain: str = ""
    back: frozenset[str] | None = None
    """Where other changes lead back than there."""
    gap: str = ""
    """Of an endpoint that can't do it: its name in GAPS."""


def field(stated: str, *changes: str, **more: Any) -> Field:
    return Field(stated, frozenset(changes), **more)


FIELDS = (
    # What changes under names of its own shares a function: the names are all, and no more, that may change.
    field(
        "memory = 256\ntimeout = 30\ndescription = 'what it does'\nhandler = 'app.other'\nruntime = 'python3.12'\n"
        "environment = { AB = 'c' }\ntags = { a = 'b' }\nlogging = { retention = 7 }\nreserved-concurrency = 3\n"
        "async = { retries = 0 }\nalias = 'live'",
        "memory", "timeout", "description", "handler", "runtime", "environment.AB", "tags.a", "retention",
        "reserved-concurrency", "retries", "version", plain="handler = 'app.handler'",
    ),
    field("ephemeral-storage = 1024", "ephemeral-storage", gap="ephemeral-storage"),
    field("tracing = 'active'", "tracing", "policy", gap="tracing"),
    field("logging = { format = 'JSON', application-level = 'WARN' }", "logging", gap="json logging"),
    field(
        "async = { on-failure = 'QUEUE' }\nurl = true\nrole = { policies = ['AmazonS3ReadOnlyAccess'] }\npublish = true",
        "on-failure", "statement", "auth", "invoke-mode", "policy", "version",
        back=frozenset({"on-failure", "statement", "auth", "invoke-mode", "policy"}),
    ),
    field("dead-letter = 'QUEUE'", "dead-letter", "statement", gap="dead-letter"),
    field("url = { invoke-mode = 'stream' }", "invoke-mode", plain="url = true", gap="stream url"),
    field("url = { cors = { origins = ['*'], max-age = 60 } }", "auth", "invoke-mode", "cors", gap="cors"),
    field(
        "url = { auth = 'none' }", "auth", "invoke-mode", "Action", "Principal", "FunctionUrlAuthType",
        "InvokedViaFunctionUrl", gap="open url",
    ),
    field(
        "permissions.api = { principal = 's3.amazonaws.com', source-account = '111122223333' }\n"
        "role = { statements = [{ actions = ['s3:*'], resources = ['*'] }] }",
        "Action", "Principal", "SourceAccount", "statement",
    ),
    field(
        "events.often = { type = 'schedule', schedule = 'rate(5 minutes)' }", "schedule", "state", "function",
        "Action", "Principal", "SourceArn",
    ),
    field(
        "events.made = { type = 'rule', pattern = { source = ['shop'] } }", "pattern", "state", "function", "Action",
        "Principal", "SourceArn",
    ),
    field(
        "events.early = { type = 'scheduler', schedule = 'cron(0 9 * * ? *)', flexible-window = 15 }", "schedule",
        "time-zone", "flexible-window", "state", "function", "role", "retries", "max-age", "statement",
    ),
    field(
        "events.early = { type = 'scheduler', schedule = 'rate(2 days)', time-zone = 'Europe/Berlin', retries = 3, "
        "input = { a = 1 }, enabled = false, end = '2099-01-31T08:00:00+01:00', on-failure = 'QUEUE' }",
        "schedule", "time-zone", "retries", "input", "state", "end", "on-failure", "statement",
        plain="events.early = { type = 'scheduler', schedule = 'at(2099-01-01T08:00:00)' }",
    ),
    field("kms-key = 'KEY'", "kms-key", "statement", gap="kms-key"),
    field("vpc = { subnets = ['SUBNET'], security-groups = ['GROUP'] }", "vpc", "policy", gap="vpc"),
    field(
        "file-systems = [{ arn = 'ACCESS', path = '/mnt/data' }]\nvpc = { subnets = ['SUBNET'], security-groups = ['GROUP'] }",
        "file-systems", "statement", plain="vpc = { subnets = ['SUBNET'], security-groups = ['GROUP'] }",
        gap="file-systems",
    ),
    field("runtime = 'python3.12'\nsnap-start = true", "snap-start", plain="runtime = 'python3.12'", gap="snap-start"),
    field("code-signing = 'SIGNING'", "code-signing", gap="code-signing"),
    field("code-signing = 'OTHER'", "code-signing", plain="code-signing = 'SIGNING'", gap="code-signing"),
)  # fmt: skip


@pytest.fixture(scope="module", params=["local", "moto"])
def target(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    with endpoint(request.param) as found:
        yield found


def neighbours(target: Endpoint) -> dict[str, str]:
    """What settings refer to, made on the endpoint where it looks whether they are there."""
    ec2, sqs, kms = target.client("ec2"), target.client("sqs"), target.client("kms")
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [subnet["VpcId"]]}])["SecurityGroups"][0]
    url = sqs.create_queue(QueueName="fields")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    account = target.account().identity.account
    found = {
        "SUBNET": subnet["SubnetId"],
        "GROUP": group["GroupId"],
        "QUEUE": queue,
        "KEY": kms.create_key()["KeyMetadata"]["Arn"],
        "ACCESS": f"arn:aws:elasticfilesystem:eu-west-1:{account}:access-point/fsap-0123456789abcdef0",
    }
    if target.name == "local":
        for name in ("SIGNING", "OTHER"):
            publishers = {"SigningProfileVersionArns": [f"arn:aws:signer:eu-west-1:{account}:/signing-profiles/a/b"]}
            made = target.client("lambda").create_code_signing_config(AllowedPublishers=publishers)
            found[name] = made["CodeSigningConfig"]["CodeSigningConfigArn"]
    return found


def project(fields: Mapping[str, Field], names: Mapping[str, str], *, stated: bool) -> str:
    tables = {}
    for name, one in fields.items():
        text = one.stated if stated else one.plain
        for word, value in names.items():
            text = text.replace(f"'{word}'", f"'{value}'")
        tables[name] = text if "handler =" in text else f"handler = 'app.handler'\n{text}"
    return shape("fields", tables).replace('handler = "app.handler"\n', "")


def expected(one: Field, stated: bool) -> frozenset[str]:
    return one.changes if stated or one.back is None else one.back


def test_each_field(tmp_path: Path, target: Endpoint) -> None:
    """Exactly what is stated changes, and then nothing is left to do; back again too; and nothing stays in the end."""
    fields = {f"f{number}": one for number, one in enumerate(FIELDS) if (target.name, one.gap) not in GAPS}
    for one in FIELDS:
        if (target.name, one.gap) in GAPS:
            warnings.warn(f"not on {target.name}: {one.stated!r}: {GAPS[target.name, one.gap]}", stacklevel=1)
    account, names, before = target.account(), neighbours(target), everything(target)
    site = Site(tmp_path, project(fields, names, stated=False))
    deploy(account, site.wish())
    assert lines(plan_of(account, site.wish())) == []
    for stated in (True, False):
        site.text = project(fields, names, stated=stated)
        plan = deploy(account, site.wish()).plan
        found = {name: changes_of(plan, name) for name in fields}
        wrong = {fields[name].stated: found[name] for name in fields if found[name] != expected(fields[name], stated)}
        assert wrong == {}
        assert lines(plan_of(account, site.wish())) == []
    deploy(account, replace(site.wish(), gone=True))
    assert everything(target) == before
