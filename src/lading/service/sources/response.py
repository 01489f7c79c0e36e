"""What a function says of its batch: which records it could not do (ReportBatchItemFailures). Pure.

Source: Lambda Developer Guide, "Implementing partial batch responses": what isn't such a response fails the whole batch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence


def failed_records(payload: bytes, identities: Sequence[str]) -> frozenset[str]:
    """The identities of records that failed: none for an empty, null or empty-listed response, all for one that is wrong."""
    everything = frozenset(identities)
    try:
        response = json.loads(payload or b"null")
    except ValueError:
        return everything
    if response is None or response == {}:
        return frozenset()
    failures = response.get("batchItemFailures") if isinstance(response, dict) else everything
    if failures is None:
        return frozenset()
    if not isinstance(failures, list):
        return everything
    failed = set()
    for failure in failures:
        identity = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        if not isinstance(identity, str) or identity not in everything:
            return everything
        failed.add(identity)
    return frozenset(failed)
