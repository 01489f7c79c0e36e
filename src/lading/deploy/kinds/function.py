"""The function itself: code, configuration, tags, reserved concurrency, code signing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lading.aws.functions import FunctionFound
from lading.deploy.instruction import FILE, HIDDEN, HIDDEN_TEXT, Change, Instruction, Verb, fill
from lading.deploy.kinds.kind import Step, taken
from lading.deploy.parts import part_tags
from lading.deploy.unit import Subject, Unit, looks_secret
from lading.model.quotas import quotas

KEY, SIGNING = "function", "signing"
PATIENCE = 120
"""Seconds until a fresh role is known to Lambda; usually below twenty."""
_EMPTY: Mapping[str, Any] = {
    "Description": "",
    "Environment": {"Variables": {}},
    "Layers": [],
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": [], "Ipv6AllowedForDualStack": False},
    "DeadLetterConfig": {"TargetArn": ""},
    "KMSKeyArn": "",
    "TracingConfig": {"Mode": "PassThrough"},
    "FileSystemConfigs": [],
    "EphemeralStorage": {"Size": 512},
    "SnapStart": {"ApplyOn": "None"},
}
"""What Lambda takes to have nothing, and what a function without has."""


def wanted_configuration(unit: Unit) -> dict[str, Any]:
    """Every field that lading sets, in the form that UpdateFunctionConfiguration takes."""
    wish, config = unit.wish, unit.config
    vpc = wish.vpc
    found: dict[str, Any] = {
        **_EMPTY,
        "Role": unit.role,
        "Description": config.description,
        "Timeout": config.timeout,
        "MemorySize": config.memory,
        "Environment": {"Variables": unit.variables()},
        "DeadLetterConfig": {"TargetArn": wish.dead_letter},
        "KMSKeyArn": wish.kms_key,
        "TracingConfig": {"Mode": "Active" if wish.tracing == "active" else "PassThrough"},
        "FileSystemConfigs": [{"Arn": one.arn, "LocalMountPath": one.path} for one in wish.file_systems],
        "EphemeralStorage": {"Size": config.ephemeral_storage},
        "SnapStart": {"ApplyOn": "PublishedVersions" if config.snap_start else "None"},
        "LoggingConfig": _logging(unit),
    }
    if vpc is not None:
        found["VpcConfig"] = {
            "SubnetIds": sorted(vpc.subnets),
            "SecurityGroupIds": sorted(vpc.security_groups),
            "Ipv6AllowedForDualStack": vpc.ipv6,
        }
    if unit.package.image:
        del found["Layers"]
        return found
    return found | {
        "Layers": list(unit.layers),
        "Runtime": config.target.runtime.name,
        "Handler": config.handler,
    }


def log_group(unit: Unit) -> str:
    return unit.wish.logging.group or f"/aws/lambda/{unit.name}"


def _logging(unit: Unit) -> dict[str, Any]:
    logging = unit.wish.logging
    found = {"LogFormat": logging.format or "Text", "LogGroup": log_group(unit)}
    if logging.format == "JSON":
        found["ApplicationLogLevel"] = logging.application_level or "INFO"
        found["SystemLogLevel"] = logging.system_level or "INFO"
    return found


def observed_configuration(seen: Mapping[str, Any]) -> dict[str, Any]:
    """A FunctionConfiguration in the same form."""
    name = str(seen["FunctionName"])
    found: dict[str, Any] = {key: seen.get(key) or empty for key, empty in _EMPTY.items()}
    found |= {key: seen.get(key) for key in ("Role", "Timeout", "MemorySize", "Runtime", "Handler")}
    found["Environment"] = {"Variables": dict(found["Environment"].get("Variables") or {})}
    found["Layers"] = [layer["Arn"] if isinstance(layer, Mapping) else layer for layer in found["Layers"]]
    vpc = found["VpcConfig"]
    found["VpcConfig"] = {
        "SubnetIds": sorted(vpc.get("SubnetIds") or ()),
        "SecurityGroupIds": sorted(vpc.get("SecurityGroupIds") or ()),
        "Ipv6AllowedForDualStack": bool(vpc.get("Ipv6AllowedForDualStack")),
    }
    found["DeadLetterConfig"] = {"TargetArn": found["DeadLetterConfig"].get("TargetArn") or ""}
    found["SnapStart"] = {"ApplyOn": found["SnapStart"].get("ApplyOn", "None")}
    logging = seen.get("LoggingConfig") or {}
    group = logging.get("LogGroup") or f"/aws/lambda/{name}"
    found["LoggingConfig"] = {**logging, "LogFormat": logging.get("LogFormat") or "Text", "LogGroup": group}
    return found


def configuration_changes(
    unit: Unit, seen: Mapping[str, Any], kept: frozenset[str] = frozenset()
) -> tuple[list[Change], dict[str, Any]]:
    """Field by field, and the parameters that make it so: only what differs. `kept`: keys that the tags tell of."""
    wanted, there = wanted_configuration(unit), observed_configuration(seen)
    changes: list[Change] = []
    parameters: dict[str, Any] = {}
    for key, value in wanted.items():
        if _revealed(value, unit.hidden) == there[key]:
            continue
        parameters[key] = value
        if key == "Environment":
            changes += _variable_changes(unit, there[key]["Variables"], kept)
        else:
            changes.append(Change(_NAMES.get(key, key), _plain(there[key]), _plain(value)))
    return changes, parameters


def _variable_changes(unit: Unit, there: Mapping[str, str], kept: frozenset[str]) -> Iterator[Change]:
    """Never a secret: what is, was or may have been one is not shown, nor what somebody set that the project doesn't know."""
    wanted = unit.variables()
    for name in sorted({*wanted, *there}):
        was, will = there.get(name), wanted.get(name)
        if _revealed(will, unit.hidden) == was:
            continue
        secret = will is None or looks_secret(name) or isinstance(will, Mapping)
        was_secret = secret or hidden_key(name) in kept
        shown_was = HIDDEN_TEXT if was_secret and was is not None else was
        yield Change(f"environment.{name}", shown_was, HIDDEN_TEXT if secret and will is not None else will)


def hidden_key(variable: str) -> str:
    """Tells, in the function's tags, that a variable's value came from where secrets are kept."""
    return f"hidden:{variable}"


def _revealed(value: Any, hidden: Mapping[str, str]) -> Any:
    return fill(value, lambda kind, content: hidden[content] if kind == HIDDEN else {kind: content})


def _plain(value: Any) -> Any:
    """A table of one entry as that entry: {"Size": 512} reads better as 512."""
    return next(iter(value.values())) if isinstance(value, Mapping) and len(value) == 1 else value


_NAMES = {
    "Role": "role", "Description": "description", "Timeout": "timeout", "MemorySize": "memory", "Layers": "layers",
    "VpcConfig": "vpc", "DeadLetterConfig": "dead-letter", "KMSKeyArn": "kms-key", "TracingConfig": "tracing",
    "FileSystemConfigs": "file-systems", "EphemeralStorage": "ephemeral-storage", "SnapStart": "snap-start",
    "LoggingConfig": "logging", "Runtime": "runtime", "Handler": "handler",
}  # fmt: skip


def own_keys(unit: Unit) -> frozenset[str]:
    """What the tags tell of the function itself."""
    signing = {SIGNING} if unit.wish.code_signing else set()
    return frozenset(signing | {hidden_key(variable) for variable in unit.references})


def instructions(unit: Unit, seen: FunctionFound | None, parts: frozenset[str], kept: frozenset[str]) -> Iterator[Step]:
    """`parts` are the keys that are wanted of the function, `kept` those that its tags tell of."""
    if seen is None:
        yield from _create(unit, parts)
    elif not unit.place.owns(seen.tags) and not unit.subject.adopt:
        yield taken(f"function {unit.name}")
    elif seen.configuration.get("PackageType", "Zip") != ("Image" if unit.package.image else "Zip"):
        yield from _replace(unit)
    else:
        yield from _update(unit, seen, parts, kept)


def remove(subject: Subject, after: tuple[str, ...]) -> Instruction:
    """Deletes a function with its versions, aliases, URLs and policies."""
    return Instruction(
        subject.scope, KEY, "delete", Verb.DELETE, f"function {subject.name}", "lambda", "DeleteFunction",
        {"FunctionName": subject.name}, after=after,
    )  # fmt: skip


def code_parameters(unit: Unit) -> dict[str, Any]:
    """Where the code comes from: the request, the bucket, or the repository."""
    from lading.deploy.kinds.package import image_uri, object_key

    package = unit.package
    if package.image:
        return {"ImageUri": image_uri(unit)}
    if package.size > quotas().direct_upload:
        return {"S3Bucket": unit.place.bucket, "S3Key": object_key(unit)}
    return {"ZipFile": {FILE: {"path": str(package.path), "sha256": package.digest}}}


def _wanted_tags(unit: Unit, parts: frozenset[str]) -> dict[str, str]:
    return {**unit.wish.tags, **unit.place.marks(unit.subject.scope), **part_tags(parts)}


def _replace(unit: Unit) -> Iterator[Step]:
    from lading.deploy.instruction import Problem

    was, will = ("zip", "image") if unit.package.image else ("image", "zip")
    yield Problem(
        f"function {unit.name} is a {was} on AWS, which can't become {will}",
        "give it another name, or remove it first: lading destroy",
    )


def _create(unit: Unit, parts: frozenset[str]) -> Iterator[Step]:
    wanted = wanted_configuration(unit)
    stated = {key: value for key, value in wanted.items() if value != _EMPTY.get(key)}
    default_log = {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{unit.name}"}
    if stated["LoggingConfig"] == default_log:
        del stated["LoggingConfig"]
    parameters = {
        "FunctionName": unit.name,
        **stated,
        "Code": code_parameters(unit),
        "PackageType": "Image" if unit.package.image else "Zip",
        "Architectures": [unit.config.target.architecture.value],
        "Tags": _wanted_tags(unit, parts),
    }
    if unit.wish.code_signing:
        parameters["CodeSigningConfigArn"] = unit.wish.code_signing
    shown = {"Runtime", "Handler", "MemorySize", "Timeout", "Role"} & stated.keys()
    changes = [Change(_NAMES[key], None, stated[key]) for key in sorted(shown)]
    changes += _variable_changes(unit, {}, frozenset())
    step = _Steps(unit)
    yield step("create", Verb.CREATE, "CreateFunction", parameters, changes, wait="function-active")
    if unit.wish.reserved_concurrency is not None:
        yield _reserve(step, unit, None)


_ROLE_STEPS = (("role", "create"), ("role-policy", "put"), ("role-managed", "attach-*"))
"""What a function waits for; what its role loses is for after."""


class _Steps:
    """Instructions of one function, one after the other."""

    def __init__(self, unit: Unit, key: str = KEY, after: tuple[str, ...] = ()) -> None:
        self._unit = unit
        self._key = key
        own = unit.subject
        self._before: tuple[str, ...] = after or (
            *(own.ref(f"{kind}:{unit.role_name}", step) for kind, step in _ROLE_STEPS),
            own.ref("upload"),
            own.ref("push"),
            *(layer["$output"][0] for layer in unit.layers if isinstance(layer, Mapping)),
        )

    def __call__(
        self, step: str, verb: Verb, operation: str, parameters: Mapping[str, Any], changes: list[Change], **more: Any
    ) -> Instruction:
        made = Instruction(
            self._unit.subject.scope, self._key, step, verb, f"function {self._unit.name}", "lambda", operation, parameters,
            tuple(changes), self._before, patience=0 if self._unit.wish.role.arn else PATIENCE, **more,
        )  # fmt: skip
        self._before = (made.id,)
        return made


def _reserve(step: _Steps, unit: Unit, was: int | None) -> Instruction:
    will = unit.wish.reserved_concurrency
    changes = [Change("reserved-concurrency", was, will)]
    name = {"FunctionName": unit.name}
    if will is None:
        return step("concurrency", Verb.UPDATE, "DeleteFunctionConcurrency", name, changes)
    more = {"ReservedConcurrentExecutions": will}
    return step("concurrency", Verb.UPDATE, "PutFunctionConcurrency", name | more, changes)


def _update(unit: Unit, seen: FunctionFound, parts: frozenset[str], kept: frozenset[str]) -> Iterator[Step]:
    """In this order: tags that tell what is about to be made; signing; code; configuration; concurrency."""
    step = _Steps(unit)
    tags = _wanted_tags(unit, parts | kept)
    yield from _tag(step, unit, dict(seen.tags), tags, "tags")
    yield from _sign(step, unit, seen)
    yield from _update_code(step, unit, seen)
    changes, parameters = configuration_changes(unit, seen.configuration, kept)
    if changes:
        parameters = {"FunctionName": unit.name, **parameters}
        yield step(
            "configuration", Verb.UPDATE, "UpdateFunctionConfiguration", parameters, changes, wait="function-updated"
        )
    if unit.wish.reserved_concurrency != seen.reserved:
        yield _reserve(step, unit, seen.reserved)


def _sign(step: _Steps, unit: Unit, seen: FunctionFound) -> Iterator[Step]:
    """Before the code: it is the new configuration, or none, that has to take it."""
    will = unit.wish.code_signing
    if will == seen.signing:
        return
    changes = [Change("code-signing", seen.signing or None, will or None)]
    name = {"FunctionName": unit.name}
    if will:
        more = {"CodeSigningConfigArn": will}
        yield step("signing", Verb.UPDATE, "PutFunctionCodeSigningConfig", name | more, changes)
    else:
        yield step("signing", Verb.DELETE, "DeleteFunctionCodeSigningConfig", name, changes)


def _update_code(step: _Steps, unit: Unit, seen: FunctionFound) -> Iterator[Step]:
    there = seen.configuration
    changes = []
    if there.get("CodeSha256") != unit.package.digest:
        changes.append(Change("code", there.get("CodeSha256"), unit.package.digest))
    architecture = [unit.config.target.architecture.value]
    if there.get("Architectures", ["x86_64"]) != architecture:
        changes.append(Change("architecture", there.get("Architectures", ["x86_64"])[0], architecture[0]))
    if changes:
        parameters = {"FunctionName": unit.name, **code_parameters(unit), "Architectures": architecture}
        yield step("code", Verb.UPDATE, "UpdateFunctionCode", parameters, changes, wait="function-updated")


def settle_tags(unit: Unit, parts: frozenset[str], kept: frozenset[str], after: tuple[str, ...]) -> Iterator[Step]:
    """When what was removed is gone, the tags no longer tell of it."""
    if kept <= parts:
        return
    step = _Steps(unit, "settle", after)
    before = _wanted_tags(unit, parts | kept)
    yield from _tag(step, unit, before, _wanted_tags(unit, parts), "parts")


def _tag(step: _Steps, unit: Unit, there: dict[str, str], tags: dict[str, str], name: str) -> Iterator[Step]:
    """A function's tags are the project's, but for those that AWS itself sets."""
    arn = unit.place.function_arn(unit.name)
    there = {key: value for key, value in there.items() if not key.startswith("aws:")}
    changed = {key: value for key, value in tags.items() if there.get(key) != value}
    gone = sorted(there.keys() - tags.keys())
    if changed:
        changes = [Change(f"tags.{key}", there.get(key), value) for key, value in sorted(changed.items())]
        yield step(name, Verb.UPDATE, "TagResource", {"Resource": arn, "Tags": changed}, changes)
    if gone:
        changes = [Change(f"tags.{key}", there[key], None) for key in gone]
        yield step(f"un{name}", Verb.UPDATE, "UntagResource", {"Resource": arn, "TagKeys": gone}, changes)
