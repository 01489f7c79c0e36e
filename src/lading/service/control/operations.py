"""Every operation of the control plane by name, gathered from the families."""

from __future__ import annotations

from lading.service.control import aliases, functions, later, layers, signing, tags, versions
from lading.service.control.call import Operation

FAMILIES = (functions, versions, aliases, layers, tags, signing, later)

OPERATIONS: dict[str, Operation] = {name: run for family in FAMILIES for name, run in family.OPERATIONS.items()}
