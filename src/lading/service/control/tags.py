"""Tags of functions, code signing configurations and event source mappings."""

from __future__ import annotations

import re

from lading.service.control.call import Call, Operation, Parameters, Result, new_revision
from lading.service.control.facts import facts
from lading.service.control.names import LATEST, other_account
from lading.service.control.refusal import invalid, not_found, not_here
from lading.service.state import Key

_RESOURCE = re.compile(
    r"arn:[\w-]+:lambda:(?P<region>[^:]+):(?P<account>\d{12}):(?P<kind>[a-z-]+):(?P<name>[\w-]+)(?P<rest>:.*)?"
)

_KINDS = {
    "function": ("function", "Function"),
    "code-signing-config": ("code-signing-config", "Code signing config"),
    "event-source-mapping": ("event-source", "Event source mapping"),
}
"""Kind of resource in an ARN → the kind of its records, and AWS's name of it."""


def check_tags(tags: dict[str, str]) -> None:
    if len(tags) > facts()["tags"]:
        raise invalid("Number of tags exceeds resource tag limit.")


def _tagged(call: Call, arn: str, action: str) -> tuple[Key, Result]:
    """The record that an ARN's tags are kept in. Raises ApiError when there is none."""
    match = _RESOURCE.fullmatch(arn)
    if match is None:
        raise invalid(f"Invalid resource: {arn[:200]}")
    if match["account"] != call.scope.account:
        raise other_account(call.scope, action, arn)
    if match["region"] != call.scope.region:
        raise not_found(f"Functions from '{match['region']}' are not reachable in this region ('{call.scope.region}')")
    if match["rest"]:
        raise invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
    if match["kind"] not in _KINDS:
        raise not_here(f"{action} for {match['kind']}")
    kind, name = _KINDS[match["kind"]]
    key = call.key(kind, name=match["name"])
    record = call.state.get(key)
    if record is None:
        raise not_found(f"{name} not found: {arn}")
    return key, record


def _store(call: Call, key: Key, record: Result, tags: dict[str, str]) -> None:
    call.state.put(key, record | {"tags": tags}, position=record.get("_position", 0))
    latest = call.version(key.name, LATEST) if key.kind == "function" else None
    if latest is not None:
        call.put_version(latest | {"RevisionId": new_revision()})


def tag_resource(call: Call, parameters: Parameters) -> Result:
    key, record = _tagged(call, parameters["Resource"], "TagResource")
    if not parameters["Tags"]:
        raise invalid("An error occurred and the request cannot be processed.")
    tags = record["tags"] | parameters["Tags"]
    check_tags(tags)
    _store(call, key, record, tags)
    return {}


def untag_resource(call: Call, parameters: Parameters) -> Result:
    key, record = _tagged(call, parameters["Resource"], "UntagResource")
    gone = set(parameters["TagKeys"])
    _store(call, key, record, {name: value for name, value in record["tags"].items() if name not in gone})
    return {}


def list_tags(call: Call, parameters: Parameters) -> Result:
    _, record = _tagged(call, parameters["Resource"], "ListTags")
    return {"Tags": record["tags"]}


OPERATIONS: dict[str, Operation] = {"TagResource": tag_resource, "UntagResource": untag_resource, "ListTags": list_tags}
