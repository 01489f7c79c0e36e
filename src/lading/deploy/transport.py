"""What has to be there before code can be sent: the bucket for large zips, the repository for images; and the sending."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lading.aws.account import Account
from lading.aws.buckets import find_bucket_tags, is_empty
from lading.aws.functions import FunctionFound
from lading.aws.images import find_repository, repository_tags
from lading.deploy.instruction import Verb, output
from lading.deploy.kinds.kind import Pen, Step, taken
from lading.deploy.kinds.package import (
    SHARED,
    bucket_steps,
    create_repository,
    is_elsewhere,
    object_key,
    push_step,
    repository_name,
    upload,
)
from lading.deploy.place import PROJECT_TAG, Place
from lading.deploy.unit import Subject, Unit
from lading.deploy.wish import Wish
from lading.model.quotas import quotas


@dataclass(frozen=True)
class Transport:
    """`repository` is registry and path, or the output that will tell them; empty without images."""

    repository: Any = ""
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Load:
    """What has to be sent. `large`: a zip goes through S3; `pushes`: an image does not lie in the repository yet; `images`: the
    project has or had some."""

    large: bool = False
    pushes: bool = False
    images: bool = False


def find_transport(wish: Wish, account: Account, place: Place, load: Load) -> Transport:
    """Bucket and repository, made where the project needs them and they aren't there."""
    project = Subject("", place.project, place)
    steps: list[Step] = []
    if load.large:
        steps += bucket_steps(project, find_bucket_tags(account, place.bucket))
    if wish.gone:
        return Transport("", tuple(_remove(project, account, images=load.images)))
    if not any(wish.packages[one.name].image for one in wish.functions):
        return Transport("", tuple(steps))
    stated = place.deployment.repository
    if is_elsewhere(stated):
        return Transport(stated, tuple(steps))
    found = find_repository(account, repository_name(place))
    if found is not None:
        ours = not load.pushes or stated or wish.adopt or place.owns(repository_tags(account, found["repositoryArn"]))
        if not ours:
            steps.append(taken(f"repository {found['repositoryName']}"))
        return Transport(str(found["repositoryUri"]), tuple(steps))
    made = create_repository(project)
    # Where a repository is reached is the endpoint's to say: it isn't amazonaws.com everywhere.
    return Transport(output(made.id, "repository.repositoryUri"), (*steps, made))


def sending(unit: Unit, seen: FunctionFound | None) -> list[Step]:
    """The upload or push of one function's code, where its digest isn't there already."""
    package = unit.package
    if seen is not None and seen.configuration.get("CodeSha256") == package.digest:
        return []
    if package.image:
        return [push_step(unit)]
    if package.size <= quotas().direct_upload:
        return []
    step = "create" if seen is None else "code"
    return list(upload(unit.subject, "upload", object_key(unit), package, unit.subject.ref("function", step)))


def _remove(project: Subject, account: Account, *, images: bool) -> list[Step]:
    """The repository when it is the project's; the bucket when it is lading's and nothing is in it."""
    place = project.place
    steps: list[Step] = []
    own = images and not is_elsewhere(place.deployment.repository)
    found = find_repository(account, repository_name(place)) if own else None
    if found is not None and place.owns(repository_tags(account, found["repositoryArn"])):
        pen = Pen(project, "repository", f"repository {found['repositoryName']}", "ecr")
        parameters = {"repositoryName": found["repositoryName"], "force": True}
        steps.append(pen("delete", Verb.DELETE, "DeleteRepository", parameters, after=("*/function",)))
    tags = None if place.deployment.bucket else find_bucket_tags(account, place.bucket)
    if tags and tags.get(PROJECT_TAG) == SHARED and is_empty(account, place.bucket):
        pen = Pen(project, "bucket", f"bucket {place.bucket}", "s3")
        steps.append(pen("delete", Verb.DELETE, "DeleteBucket", {"Bucket": place.bucket}))
    return steps
