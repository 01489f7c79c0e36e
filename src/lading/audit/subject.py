"""What an audit looks at: an artifact's packages and what goes with it to Lambda."""

from __future__ import annotations

from dataclasses import dataclass

from lading.audit.package import PackageFacts
from lading.model.target import Target


@dataclass(frozen=True)
class Subject:
    """What is audited: the artifact's packages (own code is one with name ""), and what goes with it."""

    target: Target
    handlers: tuple[str, ...] = ()
    packages: tuple[PackageFacts, ...] = ()
    layers: tuple[PackageFacts, ...] = ()
    """What the function's layers hold; it provides, and is not audited itself."""
    layer_count: int = 0
    unseen_layers: tuple[str, ...] = ()
    """ARNs of layers whose contents nobody has: what is missing may be there."""
    zipped_size: int | None = None
    unzipped_size: int = 0
    layers_unzipped_size: int = 0
    image: bool = False
    layer: bool = False
    """The artifact is a layer, so it has no handler and lies under /opt."""
