"""Every operation of the control plane by name, gathered from the families."""

from __future__ import annotations

from lading.service.control import (
    aliases,
    concurrency,
    event_invoke,
    event_sources,
    functions,
    later,
    layers,
    management,
    policies,
    signing,
    tags,
    urls,
    versions,
)
from lading.service.control.call import Operation

FAMILIES = (
    functions, versions, aliases, layers, policies, tags, concurrency, event_invoke, event_sources, urls, signing,
    management, later,
)  # fmt: skip

OPERATIONS: dict[str, Operation] = {name: run for family in FAMILIES for name, run in family.OPERATIONS.items()}
