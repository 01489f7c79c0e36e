"""The project's layers: which have to be published, what ARN functions will use, and which are no longer wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lading.aws.account import Account
from lading.aws.functions import FunctionFound, list_layer_versions, list_layers
from lading.deploy.kinds.kind import Step
from lading.deploy.kinds.layer import LayerWish, layer_object, plan_layer, remove_version
from lading.deploy.kinds.package import upload
from lading.deploy.place import Place
from lading.deploy.unit import Package, Subject
from lading.model.quotas import quotas

if TYPE_CHECKING:
    from lading.deploy.wish import Wish


@dataclass(frozen=True)
class Layers:
    """Layer of the project → ARN (or the output that will be it), and the package."""

    arns: Mapping[str, Any] = field(default_factory=dict, hash=False)
    packages: Mapping[str, Package] = field(default_factory=dict, hash=False)
    steps: tuple[Step, ...] = ()


def plan_layers(wish: Wish, account: Account, place: Place, functions: Iterable[FunctionFound | None]) -> Layers:
    """AWS is asked only where the project has layers, or a function of it uses one of this account."""
    used = {
        layer["Arn"].split(":")[4]
        for found in functions
        if found is not None
        for layer in found.configuration.get("Layers") or ()
    }
    if not wish.layers and place.account not in used and wish.functions:
        return Layers()
    newest = {str(layer["LayerName"]): layer["LatestMatchingVersion"] for layer in list_layers(account)}
    arns: dict[str, Any] = {}
    steps: list[Step] = []
    packages = {layer.name: wish.packages[layer.name] for layer in wish.layers}
    for config in wish.layers:
        subject = Subject("", place.name(config.name), place, wish.adopt)
        one = LayerWish(config, packages[config.name])
        there = newest.get(subject.name)
        versions = list_layer_versions(account, subject.name) if there and place.deployment.keep_layers else []
        planned = plan_layer(subject, one, there, versions)
        arns[config.name] = planned.arn
        steps += planned.steps
        if one.package.size > quotas().direct_upload and isinstance(planned.arn, Mapping):
            key = f"upload-layer:{config.name}"
            steps += upload(subject, key, layer_object(subject, one.package), one.package, planned.arn["$output"][0])
    steps += _gone(wish, account, place, newest)
    return Layers(arns, packages, tuple(steps))


def _gone(wish: Wish, account: Account, place: Place, newest: Mapping[str, Any]) -> list[Step]:
    """Every version of a layer that is ours and no longer in the project, when functions don't use it any more."""
    if wish.names:
        return []
    wanted = {place.name(layer.name) for layer in wish.layers}
    steps: list[Step] = []
    for name, version in newest.items():
        if name in wanted or f"{place.layer_mark} " not in str(version.get("Description", "")):
            continue
        subject = Subject("", name, place)
        for one in list_layer_versions(account, name):
            if f"{place.layer_mark} " in str(one.get("Description", "")):
                steps.append(remove_version(subject, f"layer:{name}", int(one["Version"]), ("*/function",)))
    return steps
