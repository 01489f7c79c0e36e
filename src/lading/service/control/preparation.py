"""What happens to a version after it was accepted: its packages are unpacked, then it becomes Active.

Runs beside the operations. What a kill interrupts is found again at the next start by its state.
"""

from __future__ import annotations

from collections.abc import Callable

from lading.errors import LadingError
from lading.service.control.call import Result, new_revision
from lading.service.control.configuration import has_snapshot
from lading.service.control.images import ImageProblemError, Images, is_image
from lading.service.control.packages import Packages
from lading.service.state import Key, State

_REASONS = ("StateReason", "StateReasonCode", "LastUpdateStatusReason", "LastUpdateStatusReasonCode")
_SUCCEEDED: Result = {"State": "Active", "LastUpdateStatus": "Successful"}
_INIT_ERROR = "An error occurred during function initialization."
_UNINITIALISED: Result = {
    "State": "Failed",
    "StateReason": _INIT_ERROR,
    "StateReasonCode": "FunctionError",
    "LastUpdateStatus": "Failed",
    "LastUpdateStatusReason": _INIT_ERROR,
    "LastUpdateStatusReasonCode": "FunctionError",
}


def unfinished(state: State) -> list[Key]:
    """The versions whose preparation was not over when the service ended."""
    found = state.find_everywhere("version", "$.State", "Pending")
    found += state.find_everywhere("version", "$.LastUpdateStatus", "InProgress")
    return [record.key for record in found]


def prepare(
    state: State, packages: Packages, images: Images | None, key: Key, take_snapshot: Callable[[Key], None]
) -> None:
    """Unpack a version's code and layers, then say so in its state; nothing when it was changed or deleted meanwhile.

    One with SnapStart is not ready then: `take_snapshot` begins that, and `finish` is for its end. An image waits until
    there is somebody who makes it ready.
    """
    wanted = state.get(key)
    if wanted is None or (is_image(wanted) and images is None):
        return
    try:
        if images is not None and is_image(wanted):
            images.prepare(wanted, key.account)
            wanted_digests: list[str] = []
        else:
            wanted_digests = [wanted["_digest"], *(layer["digest"] for layer in wanted.get("_layers", ()))]
        for digest in wanted_digests:
            packages.tree(digest)
        outcome = _SUCCEEDED
    except ImageProblemError as error:
        outcome = _failed(wanted, str(error), error.code)
    except (LadingError, OSError) as error:
        outcome = _failed(wanted, str(error), "InvalidZipFileException")
    if outcome is _SUCCEEDED and has_snapshot(wanted):
        take_snapshot(key)
    else:
        _conclude(state, key, wanted, outcome)


def finish(state: State, key: Key, wanted: Result, *, failed: bool) -> None:
    """The snapshot of a version is there, or its init failed (seen on AWS: terraform-provider-aws issue 49904)."""
    _conclude(state, key, wanted, _UNINITIALISED if failed else _SUCCEEDED)


def _conclude(state: State, key: Key, wanted: Result, outcome: Result) -> None:
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


def _failed(version: Result, reason: str, code: str) -> Result:
    if version["State"] == "Pending":
        return {"State": "Failed", "StateReason": reason, "StateReasonCode": code}
    return {"LastUpdateStatus": "Failed", "LastUpdateStatusReason": reason, "LastUpdateStatusReasonCode": code}
