"""A Terraform configuration while it is written: blocks, names, and what triggers point at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lading.deploy.export.cloudformation import relative
from lading.deploy.export.hcl import Block, Expression
from lading.deploy.export.portable import Names, Portable, snake
from lading.deploy.unit import Package


@dataclass
class Configuration:
    """A configuration while it is written."""

    portable: Portable
    folder: Path
    blocks: list[Block] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: Names = field(default_factory=lambda: Names(snake))

    def resource(self, kind: str, name: str, attributes: Mapping[str, Any], *blocks: Block) -> str:
        """Its address."""
        self.blocks.append(Block("resource", (kind, name), attributes, blocks))
        return f"{kind}.{name}"

    def file(self, package: Package) -> Expression:
        path = relative(package.path, self.folder).replace("\\", "/")
        return Expression('"${path.module}/' + path.replace('"', '\\"') + '"')


@dataclass(frozen=True)
class Target:
    """What triggers point at: the function, or its alias."""

    function: str
    """Address of the function."""
    arn: Expression
    qualifier: Expression | None = None
