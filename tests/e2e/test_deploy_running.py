"""Deploying what the endpoint runs: event sources, provisioned concurrency, roll-outs. The local service with environments."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from deploy_support import ENVIRONMENT, Endpoint, Site, changes_of, deploy, endpoint, lines, plan_of, shape
from serve_support import service

LOCAL = pytest.param("local", marks=pytest.mark.root)


@pytest.fixture(scope="module", params=[LOCAL, "moto"])
def target(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    """Without environments the local service leaves mappings in Creating, and nothing is provisioned."""
    if request.param == "moto":
        with endpoint("moto") as found:
            yield found
        return
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with service(neighbours={}) as url:
            yield Endpoint("local", url)


def queue(target: Endpoint) -> str:
    sqs = target.client("sqs")
    url = sqs.create_queue(QueueName="sources")["QueueUrl"]
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def stream(target: Endpoint) -> str:
    kinesis = target.client("kinesis")
    kinesis.create_stream(StreamName="sources", ShardCount=1)
    return str(kinesis.describe_stream_summary(StreamName="sources")["StreamDescriptionSummary"]["StreamARN"])


def table(target: Endpoint) -> str:
    made = target.client("dynamodb").create_table(
        TableName="sources", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )  # fmt: skip
    return str(made["TableDescription"]["LatestStreamArn"])


SOURCES = {
    "sqs": ("batch-size = 5", "batch-size = 7, max-concurrency = 3", {"BatchSize", "ScalingConfig"}),
    "kinesis": (
        "batch-size = 5, retries = 3",
        "batch-size = 5, retries = 4, bisect-on-error = true, window = 2, report-batch-item-failures = true",
        {"MaximumRetryAttempts", "BisectBatchOnFunctionError", "MaximumBatchingWindowInSeconds", "FunctionResponseTypes"},
    ),
    "dynamodb": (
        "parallelization = 2, filters = [{ eventName = ['INSERT'] }]",
        "parallelization = 3, max-record-age = 60, filters = [{ eventName = ['MODIFY'] }], enabled = false",
        {"ParallelizationFactor", "MaximumRecordAgeInSeconds", "FilterCriteria", "Enabled"},
    ),
}  # fmt: skip


def served(target: Endpoint, kind: str, arn: str) -> bool:
    """Whether the endpoint reads such sources: said loudly where it doesn't."""
    start = {} if kind == "sqs" else {"StartingPosition": "LATEST"}
    try:
        target.client("lambda").create_event_source_mapping(FunctionName="nobody", EventSourceArn=arn, **start)
    except ClientError as error:
        if "not implemented by" not in str(error):
            return True
        warnings.warn(f"not on {target.name}: {error}", stacklevel=1)
    return False


def test_sources_are_mapped_changed_and_let_go(tmp_path: Path, target: Endpoint) -> None:
    account, api = target.account(), target.client("lambda")
    arns = {"sqs": queue(target), "kinesis": stream(target), "dynamodb": table(target)}
    arns = {kind: arn for kind, arn in arns.items() if served(target, kind, arn)}
    assert "sqs" in arns

    def text(place: int | None) -> str:
        def table_of(kind: str) -> str:
            if place is None:
                return "alias = 'live'"
            return f"alias = 'live'\nevents.e = {{ type = '{kind}', source = '{arns[kind]}', {SOURCES[kind][place]} }}"

        return shape("sources", {f"of-{kind}": table_of(kind) for kind in arns})

    site = Site(tmp_path, text(0))
    deploy(account, site.wish())
    assert lines(plan_of(account, site.wish())) == []
    for kind, arn in arns.items():
        [mapping] = api.list_event_source_mappings(FunctionName=f"of-{kind}:live")["EventSourceMappings"]
        assert mapping["EventSourceArn"] == arn
    site.text = text(1)
    plan = deploy(account, site.wish()).plan
    for kind in arns:
        assert changes_of(plan, f"of-{kind}") == SOURCES[kind][2], kind
    assert lines(plan_of(account, site.wish())) == []
    site.text = text(None)
    deploy(account, site.wish())
    for kind in arns:
        left = api.list_event_source_mappings(FunctionName=f"of-{kind}:live")["EventSourceMappings"]
        assert [one for one in left if one["State"] != "Deleting"] == []
    assert lines(plan_of(account, site.wish())) == []
    deploy(account, replace(site.wish(), gone=True))


def test_provisioned_concurrency_is_waited_for_changed_and_removed(tmp_path: Path, target: Endpoint) -> None:
    if target.name == "moto":
        pytest.skip("moto has no PutProvisionedConcurrencyConfig")
    account, api = target.account(), target.client("lambda")

    def text(number: int) -> str:
        return shape("ready", {"ready": "alias = 'live'\n" + (f"provisioned-concurrency = {number}" if number else "")})

    site = Site(tmp_path, text(1))
    deploy(account, site.wish())
    found = api.get_provisioned_concurrency_config(FunctionName="ready", Qualifier="live")
    assert (found["Status"], found["AvailableProvisionedConcurrentExecutions"]) == ("READY", 1)
    assert lines(plan_of(account, site.wish())) == []
    site.text, site.code["ready"] = text(2), "def handler(event, context):\n    return 2\n"
    plan = deploy(account, site.wish()).plan
    assert lines(plan)[-1] == "update provisioned concurrency of ready:live: PutProvisionedConcurrencyConfig"
    found = api.get_provisioned_concurrency_config(FunctionName="ready", Qualifier="live")
    assert (found["Status"], found["AvailableProvisionedConcurrentExecutions"]) == ("READY", 2)
    site.text = text(0)
    deploy(account, site.wish())
    with pytest.raises(api.exceptions.ProvisionedConcurrencyConfigNotFoundException):
        api.get_provisioned_concurrency_config(FunctionName="ready", Qualifier="live")
    assert lines(plan_of(account, site.wish())) == []
    deploy(account, replace(site.wish(), gone=True))
