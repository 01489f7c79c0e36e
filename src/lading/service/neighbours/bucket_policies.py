"""How moto judges by a bucket's policy, replaced: it refuses all that a statement has a condition for, met or not."""

from __future__ import annotations

import functools
import json
from typing import Any


@functools.cache
def leave_conditions_alone() -> None:
    """From now on statements with conditions allow and deny nothing: what their conditions ask for is known to nobody here.
    SAM's and the CDK's buckets deny what comes without TLS."""
    from moto.iam.access_control import IAMPolicy, PermissionResult
    from moto.s3.models import FakeBucket

    def permission(bucket: Any, action: str, resource: str) -> Any:
        if bucket.policy is None:
            return PermissionResult.NEUTRAL
        document = json.loads(bucket.policy)
        statements = document["Statement"]
        listed = statements if isinstance(statements, list) else [statements]
        document["Statement"] = [one for one in listed if not one.get("Condition")]
        return IAMPolicy(json.dumps(document)).is_action_permitted(action, resource)

    FakeBucket.get_permission = permission  # type: ignore[method-assign, assignment]
