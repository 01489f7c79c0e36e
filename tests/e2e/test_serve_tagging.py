"""The Resource Groups Tagging API through boto3: Lambda's resources by their tags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from serve_support import ACCOUNT, REGION, client, create, refusal, service

SERVICE = "resourcegroupstaggingapi"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with service(walls=None) as url:
        for name in ("one", "two", "three"):
            create(client(url), name, Tags={"project": "p", "name": name})
        create(client(url), "bare")
        yield url


@pytest.fixture(scope="module")
def tagging(url: str) -> Any:
    return client(url, SERVICE)


def arn(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def arns(answer: dict[str, Any]) -> list[str]:
    return [one["ResourceARN"] for one in answer["ResourceTagMappingList"]]


def test_functions_are_found_by_their_tags(url: str, tagging: Any) -> None:
    answer = tagging.get_resources(
        TagFilters=[{"Key": "project", "Values": ["p", "q"]}, {"Key": "name", "Values": ["two"]}],
        ResourceTypeFilters=["lambda:function"],
    )
    assert answer["ResourceTagMappingList"] == [
        {"ResourceARN": arn("two"), "Tags": [{"Key": "project", "Value": "p"}, {"Key": "name", "Value": "two"}]}
    ]
    assert answer["PaginationToken"] == ""
    assert len(arns(tagging.get_resources(TagFilters=[{"Key": "name"}]))) == 3, "without values any will do"
    assert arns(tagging.get_resources(ResourceTypeFilters=["lambda:code-signing-config"])) == []
    assert arns(tagging.get_resources(ResourceARNList=[arn("one"), arn("none")])) == [arn("one")]
    pages = list(tagging.get_paginator("get_resources").paginate(ResourcesPerPage=2, ResourceTypeFilters=["lambda"]))
    assert [len(arns(page)) for page in pages] == [2, 1]
    assert tagging.get_tag_keys()["TagKeys"] == ["name", "project"]
    assert tagging.get_tag_values(Key="name")["TagValues"] == ["one", "three", "two"]
    assert arns(client(url, SERVICE, region_name="us-east-1").get_resources()) == []


def test_tags_are_put_and_removed(url: str, tagging: Any) -> None:
    bucket = "arn:aws:s3:::elsewhere"
    failed = tagging.tag_resources(ResourceARNList=[arn("bare"), arn("none"), bucket], Tags={"late": "1"})
    assert set(failed["FailedResourcesMap"]) == {arn("none"), bucket}
    assert failed["FailedResourcesMap"][arn("none")]["StatusCode"] == 404
    assert client(url).list_tags(Resource=arn("bare"))["Tags"] == {"late": "1"}
    assert not tagging.untag_resources(ResourceARNList=[arn("bare")], TagKeys=["late"])["FailedResourcesMap"]
    assert client(url).list_tags(Resource=arn("bare"))["Tags"] == {}


def test_what_is_refused(tagging: Any) -> None:
    both = {"ResourceARNList": [arn("one")], "ResourceTypeFilters": ["lambda"]}
    assert refusal(tagging.get_resources, **both)[1] == "InvalidParameterException"
    assert refusal(tagging.get_resources, PaginationToken="nonsense")[0] == 400
    status, code, message = refusal(tagging.get_compliance_summary)
    assert (status, code) == (501, "NotImplementedException") and "GetComplianceSummary" in message
