"""How code that doesn't fit a request gets there: the bucket and its objects, the repository and its images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from lading.deploy.instruction import FILE, Instruction, Problem, Verb, output
from lading.deploy.kinds.kind import Pen, Step
from lading.deploy.place import PROJECT_TAG, Place
from lading.deploy.unit import Package, Subject, Unit

SHARED = "lading"
"""The bucket's owner in its tag: it serves every project of the account and region."""


def object_key(unit: Unit) -> str:
    digest = hashlib.sha256(unit.package.digest.encode()).hexdigest()[:32]
    return f"{unit.place.project}/{unit.place.stage}/functions/{unit.name}/{digest}.zip"


def image_uri(unit: Unit) -> Any:
    """What the push tells, where the repository is only made before it."""
    if isinstance(unit.repository, Mapping):
        return output(unit.subject.ref("push", "push"), "ImageUri")
    return f"{unit.repository}@sha256:{unit.package.digest}"


def repository_name(place: Place) -> str:
    """Each stage has its own, which goes with it."""
    own = f"{place.project}-{place.deployment.stage}" if place.deployment.stage else place.project
    return place.deployment.repository or own.lower()


def is_elsewhere(repository: str) -> bool:
    """Whether a repository names its registry."""
    host = repository.partition("/")[0]
    return "/" in repository and ("." in host or ":" in host or host == "localhost")


def bucket_steps(subject: Subject, tags: Mapping[str, str] | None) -> Iterator[Step]:
    """The bucket that large zips go through; None: it isn't there."""
    place = subject.place
    bucket = place.bucket
    if tags is not None:
        if not place.deployment.bucket and PROJECT_TAG not in tags:
            yield Problem(f"the bucket {bucket} is there and isn't lading's", 'name another one: bucket = "…"')
        return
    if place.deployment.bucket:
        yield Problem(f"the bucket {bucket} is not there", "make it first, or leave `bucket` out")
        return
    pen = Pen(subject, "bucket", f"bucket {bucket}", "s3")
    where = {} if place.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": place.region}}
    name = {"Bucket": bucket}
    first = pen("create", Verb.CREATE, "CreateBucket", name | where)
    yield first
    tagging = {"Tagging": {"TagSet": [{"Key": PROJECT_TAG, "Value": SHARED}]}}
    yield pen("tag", Verb.CREATE, "PutBucketTagging", name | tagging, after=(first.id,))
    closed = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    block = {"PublicAccessBlockConfiguration": closed}
    yield pen("close", Verb.CREATE, "PutPublicAccessBlock", name | block, after=(first.id,))
    # What an interrupted run left there goes by itself.
    rule = {"ID": "lading", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    rules = {"LifecycleConfiguration": {"Rules": [rule]}}
    yield pen("expire", Verb.CREATE, "PutBucketLifecycleConfiguration", name | rules, after=(first.id,))


def upload(subject: Subject, key: str, name: str, package: Package, after: str) -> tuple[Instruction, Instruction]:
    """An object for as long as the instruction that reads it needs it."""
    pen = Pen(subject, key, f"upload of {package.path.name}", "s3")
    where = {"Bucket": subject.place.bucket, "Key": name}
    body = {"Body": {FILE: {"path": str(package.path), "sha256": package.digest}}}
    put = pen("put", Verb.CREATE, "PutObject", where | body, after=("/bucket",))
    clean = Pen(subject, f"clean-{key}", f"upload of {package.path.name}", "s3")
    return put, clean("delete", Verb.DELETE, "DeleteObject", where, after=(after, put.id))


def create_repository(subject: Subject) -> Instruction:
    place = subject.place
    name = repository_name(place)
    tags = [{"Key": key, "Value": value} for key, value in place.marks().items()]
    pen = Pen(subject, "repository", f"repository {name}", "ecr")
    parameters = {"repositoryName": name, "imageTagMutability": "IMMUTABLE", "tags": tags}
    return pen("create", Verb.CREATE, "CreateRepository", parameters)


def push_step(unit: Unit) -> Instruction:
    pen = Pen(unit.subject, "push", f"image {unit.package.path.name}", "ecr")
    parameters = {
        "Layout": str(unit.package.path), "Repository": unit.repository, "Digest": unit.package.digest,
        "Login": not is_elsewhere(unit.place.deployment.repository),
    }  # fmt: skip
    return pen("push", Verb.CREATE, "push", parameters, after=("/repository",))
