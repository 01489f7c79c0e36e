"""What happens to a version after it was accepted: its packages are unpacked, then it becomes Active.

Runs beside the operations. What a kill interrupts is found again at the next start by its state.
"""

from __future__ import annotations

from lading.errors import LadingError
from lading.service.control.call import Result, new_revision
from lading.service.control.packages import Packages
from lading.service.state import Key, State

_REASONS = ("StateReason", "StateReasonCode", "LastUpdateStatusReason", "LastUpdateStatusReasonCode")
_SUCCEEDED: Result = {"State": "Active", "LastUpdateStatus": "Successful"}


def unfinished(state: State) -> list[Key]:
    """The versions whose preparation was not over when the service ended."""
    found = state.find_everywhere("version", "$.State", "Pending")
    found += state.find_everywhere("version", "$.LastUpdateStatus", "InProgress")
    return [record.key for record in found]


def prepare(state: State, packages: Packages, key: Key) -> None:
    """Unpack a version's code and layers, then say so in its state; nothing when it was changed or deleted meanwhile."""
    wanted = state.get(key)
    if wanted is None:
        return
    try:
        for digest in [wanted["_digest"], *(layer["digest"] for layer in wanted.get("_layers", ()))]:
            packages.tree(digest)
        outcome = _SUCCEEDED
    except (LadingError, OSError) as error:
        outcome = _failed(wanted, str(error))
    with state.transaction():
        current = state.get(key)
        if current is None or _subject(current) != _subject(wanted):
            return
        new = {name: value for name, value in current.items() if name not in _REASONS} | outcome
        if new.get("LastUpdateStatus") == "Successful":
            new.pop("_serving", None)
        state.put(key, new | {"RevisionId": new_revision()}, position=int(key.name) if key.name.isdigit() else 0)


def _subject(version: Result) -> tuple[object, ...]:
    """What a preparation was for; a revision may change meanwhile without changing it."""
    return (
        version["_digest"],
        version.get("_layers"),
        version["State"],
        version.get("LastUpdateStatus"),
        version["LastModified"],
    )


def _failed(version: Result, reason: str) -> Result:
    if version["State"] == "Pending":
        return {"State": "Failed", "StateReason": reason, "StateReasonCode": "InvalidZipFileException"}
    return {
        "LastUpdateStatus": "Failed",
        "LastUpdateStatusReason": reason,
        "LastUpdateStatusReasonCode": "InvalidZipFileException",
    }
