"""Which module knows which keys."""

from __future__ import annotations

from lading.deploy.kinds import (
    asynchronous,
    log_group,
    mapping,
    notification,
    permission,
    provisioned,
    role,
    rule,
    schedule,
    url,
    version,
)
from lading.deploy.kinds.kind import Kind, ProjectKind

FUNCTION_KINDS: tuple[tuple[Kind, frozenset[str]], ...] = (
    (role, frozenset({"role", "role-policy", "role-managed"})),
    (version, frozenset({"version", "alias"})),
    (url, frozenset({"url"})),
    (permission, frozenset({"permission"})),
    (asynchronous, frozenset({"async"})),
    (provisioned, frozenset({"provisioned"})),
    (mapping, frozenset({"mapping"})),
    (rule, frozenset({"rule", "target"})),
    (schedule, frozenset({"schedule"})),
)
"""What belongs to one function, by the names of its keys."""
PROJECT_KINDS: tuple[tuple[ProjectKind, str], ...] = ((log_group, "log-group"), (notification, "notification"))
"""What functions may have in common."""
GONE_WITH_FUNCTION = frozenset({"version", "alias", "url", "permission", "async", "provisioned"})
"""What AWS removes with the function itself."""
BEFORE_FUNCTION = frozenset({"mapping", "rule", "target", "schedule", "notification"})
"""What has to stop before a function goes."""
MARKED_BY_FUNCTION = frozenset({"rule", "schedule"})
"""What has no mark that is read with it: it is the project's when the function's tags tell of it."""
