"""What fetching and building share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lading.model.blobs import Actions, Blobs
from lading.model.progress import Progress
from lading.model.target import Target
from lading.resolve.policy import Policy


@dataclass(frozen=True)
class Workshop:
    """The store, the policy, who is told, the target; where uv runs, and which indexes may want a login."""

    blobs: Blobs
    actions: Actions
    policy: Policy
    progress: Progress
    target: Target
    directory: Path
    indexes: tuple[str, ...] = ()
