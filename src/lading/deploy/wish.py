"""What is to be on AWS: a project and what was built of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lading.deploy.unit import Package
from lading.model.project import FunctionConfig, LayerConfig, Project


@dataclass(frozen=True)
class Wish:
    """`packages` by name of function and layer. With `gone` nothing of the project is to be there."""

    project: Project
    packages: Mapping[str, Package] = field(default_factory=dict, hash=False)
    adopt: bool = False
    names: tuple[str, ...] = ()
    """Only these functions and the layers they use; empty means all, and what is no longer wanted goes."""
    gone: bool = False

    @property
    def functions(self) -> list[FunctionConfig]:
        if self.gone:
            return []
        return [one for one in self.project.functions if not self.names or one.name in self.names]

    @property
    def layers(self) -> list[LayerConfig]:
        if self.gone:
            return []
        used = {layer.name for one in self.functions for layer in one.layers if layer.name}
        return [layer for layer in self.project.layers if not self.names or layer.name in used]
