"""Which images of the project's own repository go: beyond the newest that are kept, and used by no function or version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lading.aws.account import Account
from lading.aws.functions import list_versions
from lading.aws.images import list_images, repository_tags
from lading.deploy.instruction import Change, Instruction, Verb
from lading.deploy.kinds.kind import Pen, Step
from lading.deploy.kinds.package import repository_name
from lading.deploy.unit import Subject
from lading.deploy.wish import Wish

AT_ONCE = 100
"""Images that one BatchDeleteImage takes."""


def plan_pruning(
    wish: Wish, account: Account, project: Subject, functions: Iterable[str], steps: Iterable[Step]
) -> Iterator[Step]:
    """`functions` are the names of those that are there and stay; `steps` what is planned besides. Nothing is read unless
    `keep-images` is stated, and versions only where an image may go."""
    place = project.place
    keep = place.deployment.keep_images
    wanted = {f"sha256:{one.digest}" for one in wish.packages.values() if one.image}
    if keep is None or wish.names or not wanted:
        return
    name = repository_name(place)
    there = [digest for digest in list_images(account, name) if digest not in wanted]
    old = there[max(0, keep - len(wanted)) :]
    if not old or not place.owns(repository_tags(account, place.repository_arn(name))):
        return
    pruned = _pruned_versions(steps)
    used = {
        f"sha256:{version['CodeSha256']}"
        for function in functions
        for version in list_versions(account, function)
        if str(version["Version"]) not in pruned.get(function, ())
    }
    gone = [digest for digest in old if digest not in used]
    pen = Pen(project, "images", f"images of repository {name}", "ecr")
    for start in range(0, len(gone), AT_ONCE):
        part = gone[start : start + AT_ONCE]
        parameters = {"repositoryName": name, "imageIds": [{"imageDigest": digest} for digest in part]}
        changes = (Change("keep-images", None, keep), *(Change("image", digest, None) for digest in part))
        after = ("*/function", "*/version", "*/alias:*")
        yield pen(f"prune-{start}", Verb.DELETE, "BatchDeleteImage", parameters, changes=changes, after=after)


def _pruned_versions(steps: Iterable[Step]) -> Mapping[str, set[str]]:
    """Function → versions that this plan removes."""
    found: dict[str, set[str]] = {}
    for one in steps:
        if isinstance(one, Instruction) and one.operation == "DeleteFunction" and "Qualifier" in one.parameters:
            parameters: Mapping[str, Any] = one.parameters
            found.setdefault(str(parameters["FunctionName"]), set()).add(str(parameters["Qualifier"]))
    return found
