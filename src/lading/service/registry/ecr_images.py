"""ECR's operations on images: listed, described, got, put, deleted. They block."""

from __future__ import annotations

from typing import Any

from lading.service.contract.errors import ApiError
from lading.service.registry.catalog import Document, stored_as
from lading.service.registry.ecr_call import EcrCall, Operation, Parameters, Result, moment, page
from lading.service.registry.manifest import read_manifest
from lading.service.registry.names import Place
from lading.service.registry.refusals import image_exists, invalid, no_image, no_scan

Identity = dict[str, str]


def list_images(call: EcrCall, parameters: Parameters) -> Result:
    """An entry for each tag, and one for an image without any."""
    place, _ = call.repository(parameters)
    wanted = parameters.get("filter", {}).get("tagStatus", "ANY")
    entries: list[Identity] = []
    for digest, tags in _tags_by_image(call, place).items():
        if tags and wanted != "UNTAGGED":
            entries += [{"imageDigest": digest, "imageTag": tag} for tag in tags]
        elif not tags and wanted != "TAGGED":
            entries.append({"imageDigest": digest})
    shown, token = page(parameters, entries)
    return {"imageIds": shown, "nextToken": token}


def _tags_by_image(call: EcrCall, place: Place) -> dict[str, list[str]]:
    """Every image's tags, by digest."""
    found: dict[str, list[str]] = {record.key.name: [] for record in call.catalog.images(place)}
    for record in call.catalog.tags(place):
        found[record.document["digest"]].append(record.key.name)
    return found


def describe_images(call: EcrCall, parameters: Parameters) -> Result:
    place, _ = call.repository(parameters)
    tags = _tags_by_image(call, place)
    wanted = parameters.get("filter", {}).get("tagStatus", "ANY")
    if "imageIds" in parameters:
        images = {}
        for identity in parameters["imageIds"]:
            image = _find(call, place, identity)
            images[image["digest"]] = image
        found = list(images.values())
    else:
        found = [record.document for record in call.catalog.images(place)]
    kept = [one for one in found if wanted == "ANY" or bool(tags[one["digest"]]) == (wanted == "TAGGED")]
    shown, token = page(parameters, kept)
    return {"imageDetails": [_detail(call, place, one, tags[one["digest"]]) for one in shown], "nextToken": token}


def _detail(call: EcrCall, place: Place, image: Document, tags: list[str]) -> Result:
    return {
        **call.named(place),
        "imageDigest": image["digest"],
        "imageTags": tags or None,
        "imageSizeInBytes": image["size"],
        "imagePushedAt": moment(image["pushed"]),
        "imageManifestMediaType": image["mediaType"],
        "artifactMediaType": image["configType"] or image["artifactType"] or None,
        "lastRecordedPullTime": moment(image["pulled"]) if "pulled" in image else None,
        "subjectManifestDigest": image["subject"] or None,
        "imageStatus": "ACTIVE",
    }


def _find(call: EcrCall, place: Place, identity: Identity) -> Document:
    """Raises ImageNotFoundException, also for a tag of another digest."""
    tag, digest = identity.get("imageTag", ""), identity.get("imageDigest", "")
    if not tag and not digest:
        raise invalid("Invalid request parameters: both tag and digest cannot be null")
    image = call.catalog.find(place, tag=tag) if tag else call.catalog.find(place, digest=digest)
    if digest and image["digest"] != digest:
        raise no_image(place, tag=tag, digest=digest)
    return image


def _failure(call: EcrCall, place: Place, identity: Identity) -> Result | None:
    """Why an identity names no image, as batches tell it; None when it names one."""
    tag, digest = identity.get("imageTag", ""), identity.get("imageDigest", "")
    code, reason = "", ""
    if not tag and not digest:
        code, reason = "MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null"
    else:
        try:
            image = call.catalog.find(place, tag=tag) if tag else call.catalog.find(place, digest=digest)
        except ApiError:
            code, reason = "ImageNotFound", "Requested image not found"
        else:
            if digest and image["digest"] != digest:
                code, reason = "ImageTagDoesNotMatchDigest", "The image tag does not match the image digest"
    return {"imageId": identity, "failureCode": code, "failureReason": reason} if code else None


def batch_get_image(call: EcrCall, parameters: Parameters) -> Result:
    """In the form that they were pushed in, whatever media types are accepted."""
    place, _ = call.repository(parameters)
    images, failures = [], []
    for identity in parameters["imageIds"]:
        failure = _failure(call, place, identity)
        if failure is not None:
            failures.append(failure)
            continue
        image = _find(call, place, identity)
        call.catalog.pulled(place, image["digest"])
        images.append(_got(call, place, image, identity.get("imageTag")))
    return {"images": images, "failures": failures}


def _got(call: EcrCall, place: Place, image: Document, tag: str | None) -> Result:
    manifest = call.content.blobs.read(stored_as(image)).decode()
    return {
        **call.named(place),
        "imageId": {"imageDigest": image["digest"], "imageTag": tag},
        "imageManifest": manifest,
        "imageManifestMediaType": image["mediaType"],
    }


def batch_delete_image(call: EcrCall, parameters: Parameters) -> Result:
    """By digest with all tags; by tag the tag, and the image with its last one (BatchDeleteImage)."""
    deleted: list[Any] = []
    failures: list[Result] = []
    with call.catalog.state.transaction():
        place, _ = call.repository(parameters)
        for identity in parameters["imageIds"]:
            failure = _failure(call, place, identity) or _used_by_index(call, place, identity)
            if failure is not None:
                failures.append(failure)
            else:
                deleted += _delete(call, place, identity)
    return {"imageIds": deleted, "failures": failures}


def _delete(call: EcrCall, place: Place, identity: Identity) -> list[Identity]:
    digest = _find(call, place, identity)["digest"]
    tags = call.catalog.tags_of(place, digest)
    tag = identity.get("imageTag")
    if tag:
        call.catalog.delete_tag(place, tag)
        if len(tags) > 1:
            return [{"imageDigest": digest, "imageTag": tag}]
    call.catalog.delete_image(place, digest)
    return [{"imageDigest": digest, "imageTag": one} for one in tags] or [{"imageDigest": digest}]


def _used_by_index(call: EcrCall, place: Place, identity: Identity) -> Result | None:
    digest = _find(call, place, identity)["digest"]
    parents = call.catalog.parents(place, digest)
    others = [one for one in call.catalog.tags_of(place, digest) if one != identity.get("imageTag")]
    if not parents or ("imageTag" in identity and others):
        return None
    reason = f"Requested image referenced by manifest list: [{', '.join(parents)}]"
    return {"imageId": identity, "failureCode": "ImageReferencedByManifestList", "failureReason": reason}


def put_image(call: EcrCall, parameters: Parameters) -> Result:
    place, _ = call.repository(parameters)
    data = parameters["imageManifest"].encode()
    facts = read_manifest(data, parameters.get("imageManifestMediaType", ""))
    digest, tag = parameters.get("imageDigest"), parameters.get("imageTag", "")
    if digest and digest != facts.digest:
        message = f"Image digest does not match: the manifest is {facts.digest}, not {digest}"
        raise ApiError("ImageDigestDoesNotMatchException", message)
    if not call.content.keep(data, lambda: call.catalog.put_image(place, facts, tag)):
        raise image_exists(place, facts.digest, tag)
    image = call.catalog.find(place, digest=facts.digest)
    return {"image": _got(call, place, image, tag or None)}


def list_image_referrers(call: EcrCall, parameters: Parameters) -> Result:
    place, _ = call.repository(parameters)
    wanted = parameters.get("filter", {}).get("artifactTypes")
    found = call.catalog.referrers(place, parameters["subjectId"]["imageDigest"])
    kept = [one for one in found if not wanted or one["artifactType"] in wanted]
    shown, token = page(parameters, kept)
    return {"referrers": [_referrer(one) for one in shown], "nextToken": token}


def _referrer(image: Document) -> Result:
    return {
        "digest": image["digest"],
        "mediaType": image["mediaType"],
        "artifactType": image["artifactType"] or None,
        "size": image["manifestSize"],
        "annotations": image["annotations"] or None,
        "artifactStatus": "ACTIVE",
    }


def describe_image_scan_findings(call: EcrCall, parameters: Parameters) -> Result:
    """No image has any: nothing here scans."""
    place, _ = call.repository(parameters)
    _find(call, place, parameters["imageId"])
    raise no_scan(place, parameters["imageId"])


OPERATIONS: dict[str, Operation] = {
    "ListImages": list_images,
    "DescribeImages": describe_images,
    "BatchGetImage": batch_get_image,
    "BatchDeleteImage": batch_delete_image,
    "PutImage": put_image,
    "ListImageReferrers": list_image_referrers,
    "DescribeImageScanFindings": describe_image_scan_findings,
}
