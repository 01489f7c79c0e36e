"""Layers of the project: a version is published when its content or description changed. Key: layer:NAME, of the project.

Versions can't be tagged, so the description ends with a mark: project, stage, and a digest of all that a version is made of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lading.deploy.instruction import FILE, Change, Instruction, Verb, output
from lading.deploy.kinds.kind import Pen, Step, taken
from lading.deploy.unit import Package, Subject
from lading.model.project import LayerConfig
from lading.model.quotas import quotas


@dataclass(frozen=True)
class LayerWish:
    """A layer and what was built of it."""

    config: LayerConfig
    package: Package

    @property
    def digest(self) -> str:
        target = self.config.target
        parts = [self.package.digest, target.runtime.name, target.architecture.value, self.config.description]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class LayerPlan:
    """The ARN that functions use, or the output of what publishes it; and the instructions and problems."""

    arn: Any
    steps: tuple[Step, ...] = ()


def description(wish: LayerWish, mark: str) -> str:
    tail = f"{mark} {wish.digest}]"
    text = wish.config.description[: quotas().description - len(tail) - 1]
    return f"{text} {tail}" if text else tail


def plan_layer(
    subject: Subject, wish: LayerWish, newest: Mapping[str, Any] | None, versions: Sequence[Mapping[str, Any]]
) -> LayerPlan:
    """`newest` is the layer's latest version; `versions` all of them, newest first, where old ones may have to go."""
    key = f"layer:{wish.config.name}"
    mark = subject.place.layer_mark
    told = str(newest.get("Description", "")) if newest else ""
    keep = subject.place.deployment.keep_layers
    if newest is not None and told.endswith(f"{mark} {wish.digest}]"):
        gone = versions[keep:] if keep is not None else ()
        return LayerPlan(newest["LayerVersionArn"], tuple(_prune(subject, key, gone, mark)))
    if newest is not None and mark not in told and not subject.adopt:
        return LayerPlan("", (taken(f"layer {subject.name}"),))
    target = wish.config.target
    parameters = {
        "LayerName": subject.name,
        "Description": description(wish, mark),
        "Content": content(subject, wish),
        "CompatibleRuntimes": [target.runtime.name],
        "CompatibleArchitectures": [target.architecture.value],
    }
    was = newest["Version"] if newest else None
    pen = Pen(subject, key, f"layer {subject.name}")
    made = pen(
        "publish", Verb.UPDATE if newest else Verb.CREATE, "PublishLayerVersion", parameters,
        changes=(Change("version", was, "a new one"), Change("content", None, wish.package.digest)),
        after=(f"/upload-{key}",),
    )  # fmt: skip
    gone = versions[keep - 1 :] if keep is not None else ()
    return LayerPlan(output(made.id, "LayerVersionArn"), (made, *_prune(subject, key, gone, mark)))


def content(subject: Subject, wish: LayerWish) -> dict[str, Any]:
    package = wish.package
    if package.size > quotas().direct_upload:
        return {"S3Bucket": subject.place.bucket, "S3Key": layer_object(subject, package)}
    return {"ZipFile": {FILE: {"path": str(package.path), "sha256": package.digest}}}


def layer_object(subject: Subject, package: Package) -> str:
    digest = hashlib.sha256(package.digest.encode()).hexdigest()[:32]
    return f"{subject.place.project}/{subject.place.stage}/layers/{subject.name}/{digest}.zip"


def _prune(subject: Subject, key: str, versions: Sequence[Mapping[str, Any]], mark: str) -> Iterator[Instruction]:
    """Only versions of our own making. Functions that use one go on working; nothing new can use it."""
    for version in versions:
        if mark in str(version.get("Description", "")):
            yield remove_version(subject, key, int(version["Version"]))


def remove_version(subject: Subject, key: str, number: int, after: tuple[str, ...] = ()) -> Instruction:
    pen = Pen(subject, key, f"layer {subject.name}:{number}")
    parameters = {"LayerName": subject.name, "VersionNumber": number}
    first = (*after, subject.ref(key, "publish"))
    return pen(f"delete-{number}", Verb.DELETE, "DeleteLayerVersion", parameters, after=first)
