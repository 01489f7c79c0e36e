"""Published versions and the alias that points at one: publish, move, prune. Keys: version, alias:NAME."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lading.aws.account import Account
from lading.aws.functions import list_aliases, list_versions
from lading.deploy.instruction import Change, Verb, output
from lading.deploy.kinds.function import configuration_changes, log_group
from lading.deploy.kinds.kind import Pen, Step, Wanted, rest_of
from lading.deploy.unit import Subject, Unit, qualified


def wanted(unit: Unit) -> Wanted:
    if unit.wish.alias:
        return {f"alias:{unit.wish.alias}": unit}
    return {"version": unit} if unit.wish.publish else {}


def observe(account: Account, subject: Subject, keys: Mapping[str, bool]) -> Mapping[str, Any]:
    """Versions oldest first, and every alias of the function."""
    if not any(keys.values()):
        return {key: {"versions": [], "aliases": list_aliases(account, subject.name)} for key in keys}
    versions, aliases = list_versions(account, subject.name), list_aliases(account, subject.name)
    return {key: {"versions": versions, "aliases": aliases} for key in keys}


def diff(subject: Subject, key: str, want: Unit | None, seen: Any) -> Iterator[Step]:
    versions, aliases = (seen["versions"], seen["aliases"]) if seen else ([], [])
    name = rest_of(key)
    alias = next((one for one in aliases if one["Name"] == name), None)
    if want is None:
        if alias is not None:
            # The URL and the mappings that used it go first; the function itself stays.
            after = tuple(subject.ref(qualified(kind, name)) for kind in ("url", "permission", "async", "provisioned"))
            pen = Pen(subject, key, f"alias {subject.name}:{name}")
            gone = (Change("version", alias["FunctionVersion"]),)
            parameters = {"FunctionName": subject.name, "Name": name}
            yield pen("delete", Verb.DELETE, "DeleteAlias", parameters, changes=gone, after=after)
        return
    target = find_version(want, versions)
    if target is None:
        yield _publish(subject, key, want, versions)
    goal = target or output(subject.ref(key, "publish"), "Version")
    if name:
        yield from _alias(subject, key, want, alias, goal)
    if want.wish.keep_versions is not None:
        yield from _prune(subject, key, want, versions, aliases, target)


def find_version(unit: Unit, versions: Sequence[Mapping[str, Any]]) -> str | None:
    """The newest published version that is what the project wants."""
    for version in reversed(versions):
        if version.get("CodeSha256") == unit.package.digest and not configuration_changes(unit, version)[0]:
            return str(version["Version"])
    return None


def _publish(subject: Subject, key: str, unit: Unit, versions: Sequence[Mapping[str, Any]]) -> Step:
    pen = Pen(subject, key, f"version of {subject.name}")
    newest = str(versions[-1]["Version"]) if versions else None
    # The digest makes AWS refuse when somebody else's code came between.
    parameters = {"FunctionName": subject.name, "CodeSha256": unit.package.digest}
    return pen(
        "publish", Verb.CREATE, "PublishVersion", parameters,
        changes=(Change("version", newest, "a new one"),), after=(subject.ref("function"),), wait="version-active",
    )  # fmt: skip


def _alias(subject: Subject, key: str, unit: Unit, alias: Mapping[str, Any] | None, goal: Any) -> Iterator[Step]:
    name = unit.wish.alias
    pen = Pen(subject, key, f"alias {subject.name}:{name}")
    parameters = {"FunctionName": subject.name, "Name": name, "FunctionVersion": goal}
    after = (subject.ref(key, "publish"), subject.ref("function"))
    was = alias["FunctionVersion"] if alias else None
    weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") if alias else None
    if was == goal and not weights:
        return
    changes = [Change("version", was, goal if isinstance(goal, str) else "the new one")]
    if weights:
        changes.append(Change("weights", weights, None))
    rollout = unit.wish.rollout
    plain = rollout.strategy == "all-at-once" and not rollout.smoke_event and not rollout.alarms
    if plain and alias is None:
        yield pen("create", Verb.CREATE, "CreateAlias", parameters, changes=tuple(changes), after=after)
    elif plain:
        parameters["RoutingConfig"] = {"AdditionalVersionWeights": {}}
        yield pen("move", Verb.UPDATE, "UpdateAlias", parameters, changes=tuple(changes), after=after)
    else:
        parameters |= {
            "Was": was, "Strategy": rollout.strategy, "Step": rollout.step, "Interval": rollout.interval,
            "SmokeEvent": json.loads(rollout.smoke_event) if rollout.smoke_event else None,
            "MaxErrors": rollout.max_errors, "Alarms": list(rollout.alarms), "LogGroup": log_group(unit),
        }  # fmt: skip
        verb = Verb.UPDATE if alias else Verb.CREATE
        changes.append(Change("roll-out", None, rollout.strategy))
        yield pen("move", verb, "rollout", parameters, changes=tuple(changes), after=after)


def _prune(
    subject: Subject,
    key: str,
    unit: Unit,
    versions: Sequence[Mapping[str, Any]],
    aliases: Sequence[Mapping[str, Any]],
    target: str | None,
) -> Iterator[Step]:
    """Beyond the newest that are kept, after our alias has moved; never what another alias points at."""
    keep = unit.wish.keep_versions or 0
    numbers = [str(version["Version"]) for version in versions]
    newest = set(numbers[-(keep - (target is None)) :]) if keep - (target is None) > 0 else set()
    others = [alias for alias in aliases if alias["Name"] != unit.wish.alias]
    used = {alias["FunctionVersion"] for alias in others}
    for alias in others:
        used |= set((alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {})
    for number in numbers:
        if number in newest | used | {target}:
            continue
        pen = Pen(subject, key, f"version {subject.name}:{number}")
        yield pen(
            f"prune-{number}", Verb.DELETE, "DeleteFunction", {"FunctionName": subject.name, "Qualifier": number},
            changes=(Change("keep-versions", None, keep),),
            after=(subject.ref(key, "move"), subject.ref(key, "create"), subject.ref(key, "publish")),
        )  # fmt: skip
