"""ECR's API with boto3: repositories, images, layers, policies, tags, and its errors in AWS's words."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serve_support import client, plain, refusal, service

from lading.oci import media

PART = 5 << 20


@pytest.fixture(scope="module")
def ecr() -> Iterator[Any]:
    with service(walls=None) as url:
        yield client(url, "ecr")


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(ecr: Any, name: str, data: bytes) -> dict[str, Any]:
    """Sent in parts; its descriptor."""
    begun = ecr.initiate_layer_upload(repositoryName=name)
    for start in range(0, len(data), begun["partSize"]):
        blob = data[start : start + begun["partSize"]]
        ecr.upload_layer_part(
            repositoryName=name, uploadId=begun["uploadId"], partFirstByte=start, partLastByte=start + len(blob) - 1,
            layerPartBlob=blob,
        )  # fmt: skip
    done = ecr.complete_layer_upload(repositoryName=name, uploadId=begun["uploadId"], layerDigests=[digest(data)])
    assert done["layerDigest"] == digest(data)
    return {"mediaType": media.OCI_LAYER_GZIP, "digest": digest(data), "size": len(data)}


def manifest(ecr: Any, name: str, text: str) -> str:
    parts = [layer(ecr, name, f"{text} {kind}".encode()) for kind in ("config", "layer")]
    config = parts[0] | {"mediaType": media.OCI_CONFIG}
    return json.dumps(
        {"schemaVersion": 2, "mediaType": media.OCI_MANIFEST, "config": config, "layers": parts[1:], "note": text}
    )


def test_a_repository_from_its_making_to_its_end(ecr: Any) -> None:
    made = ecr.create_repository(
        repositoryName="one/app", imageScanningConfiguration={"scanOnPush": True}, tags=[{"Key": "team", "Value": "a"}]
    )["repository"]
    assert made["repositoryArn"] == "arn:aws:ecr:eu-west-1:000000000000:repository/one/app"
    assert (made["registryId"], made["imageTagMutability"]) == ("000000000000", "MUTABLE")
    assert made["encryptionConfiguration"] == {"encryptionType": "AES256"}
    assert ecr.describe_repositories(repositoryNames=["one/app"])["repositories"] == [made]
    assert refusal(ecr.create_repository, repositoryName="one/app") == (
        400, "RepositoryAlreadyExistsException",
        "The repository with name 'one/app' already exists in the registry with id '000000000000'",
    )  # fmt: skip
    ecr.put_image(repositoryName="one/app", imageManifest=manifest(ecr, "one/app", "a"), imageTag="v1")
    assert refusal(ecr.delete_repository, repositoryName="one/app")[1:] == (
        "RepositoryNotEmptyException",
        (
            "The repository with name 'one/app' in registry with id '000000000000' cannot be deleted because it still "
            "contains images"
        ),
    )
    assert ecr.delete_repository(repositoryName="one/app", force=True)["repository"] == made
    assert refusal(ecr.describe_repositories, repositoryNames=["one/app"])[1:] == (
        "RepositoryNotFoundException",
        "The repository with name 'one/app' does not exist in the registry with id '000000000000'",
    )


def test_lists_come_in_pages(ecr: Any) -> None:
    names = [f"page/{number}" for number in range(5)]
    for name in names:
        ecr.create_repository(repositoryName=name)
    pages = list(ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 2}))
    found = [one["repositoryName"] for page in pages for one in page["repositories"]]
    assert [name for name in found if name.startswith("page/")] == names and len(pages) > 2
    assert refusal(ecr.describe_repositories, nextToken="x")[1] == "InvalidParameterException"


def test_names_are_checked_in_ecrs_words(ecr: Any) -> None:
    status, code, message = refusal(ecr.create_repository, repositoryName="Upper")
    assert (status, code) == (400, "InvalidParameterException")
    assert message.startswith(
        "Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular exp"
    )


def test_images_are_put_listed_described_and_got(ecr: Any) -> None:
    ecr.create_repository(repositoryName="images")
    first, second = manifest(ecr, "images", "one"), manifest(ecr, "images", "two")
    put = ecr.put_image(repositoryName="images", imageManifest=first, imageTag="v1")["image"]
    assert put["imageId"] == {"imageDigest": digest(first.encode()), "imageTag": "v1"}
    assert (put["imageManifest"], put["imageManifestMediaType"]) == (first, media.OCI_MANIFEST)
    assert refusal(ecr.put_image, repositoryName="images", imageManifest=first, imageTag="v1")[1:] == (
        "ImageAlreadyExistsException",
        (
            f"Image with digest '{digest(first.encode())}' and tag 'v1' already exists in the repository with name 'images' in "
            "registry with id '000000000000'"
        ),
    )
    ecr.put_image(repositoryName="images", imageManifest=first, imageTag="v2")
    ecr.put_image(repositoryName="images", imageManifest=second)
    identities = ecr.list_images(repositoryName="images")["imageIds"]
    assert sorted(one.get("imageTag", "") for one in identities) == ["", "v1", "v2"]
    only = ecr.list_images(repositoryName="images", filter={"tagStatus": "UNTAGGED"})["imageIds"]
    assert only == [{"imageDigest": digest(second.encode())}]
    details = ecr.describe_images(repositoryName="images", imageIds=[{"imageTag": "v2"}])["imageDetails"]
    assert [one["imageTags"] for one in details] == [["v1", "v2"]]
    assert details[0]["imageSizeInBytes"] == len("one config") + len("one layer")
    tagged = ecr.describe_images(repositoryName="images", filter={"tagStatus": "TAGGED"})["imageDetails"]
    assert [one["imageDigest"] for one in tagged] == [digest(first.encode())]
    wanted = [{"imageTag": "v1"}, {"imageTag": "none"}, {"imageTag": "v1", "imageDigest": digest(b"")}]
    got = ecr.batch_get_image(repositoryName="images", imageIds=wanted)
    assert [one["imageManifest"] for one in got["images"]] == [first]
    assert [one["failureCode"] for one in got["failures"]] == ["ImageNotFound", "ImageTagDoesNotMatchDigest"]
    assert got["failures"][0]["failureReason"] == "Requested image not found"
    assert refusal(ecr.describe_images, repositoryName="images", imageIds=[{"imageTag": "x"}])[1:] == (
        "ImageNotFoundException",
        (
            "The image with imageId {imageDigest:'null', imageTag:'x'} does not exist within the repository with name 'images' "
            "in the registry with id '000000000000'"
        ),
    )
    assert refusal(ecr.describe_image_scan_findings, repositoryName="images", imageId={"imageTag": "v1"})[1] == (
        "ScanNotFoundException"
    )


def test_the_last_tag_takes_its_image_along(ecr: Any) -> None:
    ecr.create_repository(repositoryName="deleted")
    text = manifest(ecr, "deleted", "x")
    for tag in ("a", "b", "c"):
        ecr.put_image(repositoryName="deleted", imageManifest=text, imageTag=tag)
    one = ecr.batch_delete_image(repositoryName="deleted", imageIds=[{"imageTag": "a"}, {"imageTag": "none"}])
    assert [found["imageTag"] for found in one["imageIds"]] == ["a"]
    assert [found["failureCode"] for found in one["failures"]] == ["ImageNotFound"]
    assert len(ecr.list_images(repositoryName="deleted")["imageIds"]) == 2
    ecr.batch_delete_image(repositoryName="deleted", imageIds=[{"imageTag": "b"}, {"imageTag": "c"}])
    assert ecr.list_images(repositoryName="deleted")["imageIds"] == []
    ecr.put_image(repositoryName="deleted", imageManifest=text, imageTag="a")
    index = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [
        {"mediaType": media.OCI_MANIFEST, "digest": digest(text.encode()), "size": len(text)}
    ]}  # fmt: skip
    ecr.put_image(repositoryName="deleted", imageManifest=json.dumps(index), imageTag="all")
    kept = ecr.batch_delete_image(repositoryName="deleted", imageIds=[{"imageDigest": digest(text.encode())}])
    assert kept["failures"][0]["failureCode"] == "ImageReferencedByManifestList"


def test_tags_can_be_immutable(ecr: Any) -> None:
    ecr.create_repository(repositoryName="fixed", imageTagMutability="IMMUTABLE")
    first, second = manifest(ecr, "fixed", "one"), manifest(ecr, "fixed", "two")
    ecr.put_image(repositoryName="fixed", imageManifest=first, imageTag="v1")
    message = "The image tag 'v1' already exists in the 'fixed' repository and cannot be overwritten because "
    message += "the tag is immutable."
    assert refusal(ecr.put_image, repositoryName="fixed", imageManifest=second, imageTag="v1") == (
        400, "ImageTagAlreadyExistsException", message,
    )  # fmt: skip
    answer = httpx.put(
        f"{ecr.meta.endpoint_url}/v2/fixed/manifests/v1", content=second, headers={"Content-Type": media.OCI_MANIFEST}
    )
    assert (answer.status_code, answer.json()["errors"][0]) == (400, {"code": "TAG_INVALID", "message": message})
    changed = ecr.put_image_tag_mutability(repositoryName="fixed", imageTagMutability="MUTABLE")
    assert changed["imageTagMutability"] == "MUTABLE"
    ecr.put_image(repositoryName="fixed", imageManifest=second, imageTag="v1")
    assert (
        refusal(ecr.put_image_tag_mutability, repositoryName="fixed", imageTagMutability="IMMUTABLE_WITH_EXCLUSION")[1]
        == "InvalidParameterException"
    )


def test_layers_in_parts(ecr: Any) -> None:
    ecr.create_repository(repositoryName="layers")
    data = os.urandom(2 * PART + 100)
    begun = ecr.initiate_layer_upload(repositoryName="layers")
    upload = {"repositoryName": "layers", "uploadId": begun["uploadId"]}

    def send(start: int, end: int) -> Any:
        return ecr.upload_layer_part(**upload, partFirstByte=start, partLastByte=end - 1, layerPartBlob=data[start:end])

    assert send(0, PART)["lastByteReceived"] == PART - 1
    with pytest.raises(ecr.exceptions.InvalidLayerPartException) as caught:
        send(PART + 1, 2 * PART)
    assert caught.value.response["lastValidByteReceived"] == PART - 1
    send(PART, 2 * PART)
    send(2 * PART, len(data))
    done = ecr.complete_layer_upload(**upload, layerDigests=[digest(data)])
    assert done["layerDigest"] == digest(data)
    checked = ecr.batch_check_layer_availability(
        repositoryName="layers", layerDigests=[digest(data), digest(b""), "x:1"]
    )
    assert [one["layerAvailability"] for one in checked["layers"]] == ["AVAILABLE", "UNAVAILABLE"]
    assert checked["layers"][0]["layerSize"] == len(data)
    assert [one["failureCode"] for one in checked["failures"]] == ["InvalidLayerDigest"]
    link = ecr.get_download_url_for_layer(repositoryName="layers", layerDigest=digest(data))["downloadUrl"]
    assert httpx.get(link).content == data
    assert httpx.get(link, headers={"Range": "bytes=5-9"}).content == data[5:10]
    assert httpx.get(link.replace("signature=", "signature=0")).status_code == 403
    assert (
        refusal(ecr.get_download_url_for_layer, repositoryName="layers", layerDigest=digest(b""))[1]
        == "LayersNotFoundException"
    )


def test_uploads_that_are_none(ecr: Any) -> None:
    ecr.create_repository(repositoryName="uploads")

    def begin() -> dict[str, str]:
        return {
            "repositoryName": "uploads",
            "uploadId": ecr.initiate_layer_upload(repositoryName="uploads")["uploadId"],
        }

    assert refusal(ecr.complete_layer_upload, **begin(), layerDigests=[digest(b"")])[1] == "EmptyUploadException"
    small = begin()
    ecr.upload_layer_part(**small, partFirstByte=0, partLastByte=2, layerPartBlob=b"abc")
    assert (
        refusal(ecr.upload_layer_part, **small, partFirstByte=3, partLastByte=5, layerPartBlob=b"def")[1]
        == "LayerPartTooSmallException"
    )
    assert refusal(ecr.complete_layer_upload, **small, layerDigests=[digest(b"x")])[1] == "InvalidLayerException"
    assert refusal(ecr.complete_layer_upload, **small, layerDigests=[digest(b"x")])[1] == "UploadNotFoundException"
    missing = {"schemaVersion": 2, "mediaType": media.OCI_MANIFEST, "layers": [], "config": {
        "mediaType": media.OCI_CONFIG, "digest": digest(b"nothing"), "size": 7
    }}  # fmt: skip
    assert (
        refusal(ecr.put_image, repositoryName="uploads", imageManifest=json.dumps(missing))[1]
        == "LayersNotFoundException"
    )
    assert refusal(ecr.put_image, repositoryName="uploads", imageManifest="{}")[1] == "UnsupportedImageTypeException"


def test_policies_are_checked_and_kept(ecr: Any) -> None:
    ecr.create_repository(repositoryName="policies")
    where = {"repositoryName": "policies"}
    assert refusal(ecr.get_lifecycle_policy, **where)[1:] == (
        "LifecyclePolicyNotFoundException",
        "Lifecycle policy does not exist for the repository with name 'policies' in the registry with id '000000000000'",
    )
    rule = {
        "rulePriority": 1, "action": {"type": "expire"},
        "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 3},
    }  # fmt: skip
    text = json.dumps({"rules": [rule]})
    ecr.put_lifecycle_policy(**where, lifecyclePolicyText=text)
    assert ecr.get_lifecycle_policy(**where)["lifecyclePolicyText"] == text
    for bad in ("{", "[]", "{}", json.dumps({"rules": [rule, rule]}), json.dumps({"rules": [rule | {"action": {}}]})):
        code = refusal(ecr.put_lifecycle_policy, **where, lifecyclePolicyText=bad.ljust(100))[1]
        assert code == "InvalidParameterException"
    ecr.delete_lifecycle_policy(**where)
    policy = json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "ecr:*"}]}
    )
    assert refusal(ecr.get_repository_policy, **where)[1] == "RepositoryPolicyNotFoundException"
    assert ecr.set_repository_policy(**where, policyText=policy)["policyText"] == policy
    assert ecr.delete_repository_policy(**where)["policyText"] == policy
    assert refusal(ecr.set_repository_policy, **where, policyText="{}")[1] == "InvalidParameterException"


def test_repositories_have_tags(ecr: Any) -> None:
    arn = ecr.create_repository(repositoryName="tagged")["repository"]["repositoryArn"]
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    ecr.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert plain(ecr.list_tags_for_resource(resourceArn=arn)) == {"tags": [{"Key": "b", "Value": "2"}]}
    many = [{"Key": f"k{number}", "Value": ""} for number in range(51)]
    assert refusal(ecr.tag_resource, resourceArn=arn, tags=many)[1] == "TooManyTagsException"
    assert refusal(ecr.list_tags_for_resource, resourceArn=f"{arn}x")[1] == "RepositoryNotFoundException"


def test_accounts_and_regions_are_apart(ecr: Any) -> None:
    ecr.create_repository(repositoryName="apart")
    for options in ({"aws_access_key_id": "111122223333"}, {"region_name": "us-west-2"}):
        other = client(ecr.meta.endpoint_url, "ecr", **options)
        assert other.describe_repositories()["repositories"] == []
    assert refusal(ecr.describe_repositories, registryId="111122223333")[1] == "AccessDeniedException"


def test_what_is_not_there_says_so(ecr: Any) -> None:
    status, code, message = refusal(ecr.describe_pull_through_cache_rules)
    assert (status, code) == (501, "NotImplementedException")
    assert "DescribePullThroughCacheRules" in message
