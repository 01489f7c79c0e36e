"""Versions: publish and list."""

from __future__ import annotations

from lading.service.control.call import (
    Call,
    Operation,
    Parameters,
    Result,
    check_revision,
    limit_of,
    marker_number,
    new_revision,
    page,
)
from lading.service.control.configuration import fingerprint, has_snapshot, listed, shown
from lading.service.control.names import LATEST
from lading.service.control.refusal import conflict, function_not_found, invalid
from lading.service.state.database import FIRST


def publish(call: Call, latest: Result, description: str | None = None) -> Result:
    """The version that $LATEST becomes: the newest one when nothing has changed since it, else a new one."""
    name = latest["FunctionName"]
    mark = fingerprint(latest)
    newest = call.state.list_newest(call.key("version", name), limit=1)[0].document
    if newest["Version"] != LATEST and newest["_fingerprint"] == mark:
        return newest
    function = call.function(name)
    version = latest | {
        "Version": str(function["next"]),
        "RevisionId": new_revision(),
        "LastModified": call.timestamp(),
        "_fingerprint": mark,
    }
    version.pop("_serving", None)
    if description is not None:
        version["Description"] = description
    snapshot = has_snapshot(version)
    if snapshot:
        version["SnapStart"] = version["SnapStart"] | {"OptimizationStatus": "On"}
    if snapshot or latest["State"] == "Pending" or latest["LastUpdateStatus"] == "InProgress":
        for member in ("LastUpdateStatus", "LastUpdateStatusReason", "LastUpdateStatusReasonCode"):
            version.pop(member, None)
        version |= {
            "State": "Pending",
            "StateReason": "The function is being created.",
            "StateReasonCode": "Creating",
        }
        call.later(call.key("version", name, version["Version"]))
    call.state.put(call.key("function", name=name), function | {"next": function["next"] + 1})
    call.put_version(version)
    return version


def publish_version(call: Call, parameters: Parameters) -> Result:
    reference = call.reference(parameters, action="PublishVersion")
    name = reference.name
    latest = call.version(name, LATEST)
    if latest is None:
        raise function_not_found(call.scope.function_arn(name))
    check_revision(parameters.get("RevisionId"), latest["RevisionId"])
    if latest["State"] == "Pending" or latest.get("LastUpdateStatus") == "InProgress":
        state = "Pending" if latest["State"] == "Pending" else "InProgress"
        raise conflict(
            f"The operation cannot be performed at this time. The function is currently in the following state: {state}"
        )
    digest = parameters.get("CodeSha256")
    if digest and digest != latest["CodeSha256"]:
        raise invalid(
            f"CodeSHA256 ({digest}) is different from current CodeSHA256 in $LATEST ({latest['CodeSha256']}). "
            "Please try again with the CodeSHA256 in $LATEST."
        )
    if parameters.get("PublishTo"):
        raise invalid("PublishTo needs a capacity provider, which this function doesn't have.")
    before = call.function(name)["next"]
    version = publish(call, latest, parameters.get("Description"))
    if call.function(name)["next"] != before:
        call.put_version(latest | {"RevisionId": new_revision()})
    return shown(call, version, version["Version"])


def list_versions_by_function(call: Call, parameters: Parameters) -> Result:
    """$LATEST first, then by number."""
    reference = call.reference(parameters, action="ListVersionsByFunction")
    call.function(reference.name)
    limit = limit_of(parameters, 50)
    after = marker_number(parameters, FIRST)
    records = call.state.list_by_position(call.key("version", reference.name), after=after, limit=limit + 1)
    found, marker = page(records, limit, lambda record: str(record.position))
    versions = [listed(call, record.document, record.document["Version"]) for record in found]
    return {"Versions": versions, "NextMarker": marker}


OPERATIONS: dict[str, Operation] = {
    "PublishVersion": publish_version,
    "ListVersionsByFunction": list_versions_by_function,
}
