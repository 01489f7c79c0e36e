"""A Terraform configuration while it is written: blocks, names, and what triggers point at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lading.deploy.export.cloudformation import object_key, relative
from lading.deploy.export.hcl import Block, Expression
from lading.deploy.export.portable import Names, Portable, snake
from lading.deploy.unit import Package
from lading.model.quotas import quotas


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

    def code(self, package: Package) -> dict[str, Any]:
        """Where the zip is: in the request up to Lambda's limit, beyond it an object of a bucket that the user names."""
        if package.size <= quotas().direct_upload:
            return {"filename": self.file(package), "source_code_hash": package.digest}
        bucket = self.names("artifact_bucket")
        if not any(block.labels == (bucket,) for block in self.blocks):
            text = "Bucket that zips above 50 MB are put in."
            self.blocks.append(Block("variable", (bucket,), {"type": Expression("string"), "description": text}))
        attributes = {
            "bucket": Expression(f"var.{bucket}"),
            "key": object_key(package),
            "source": self.file(package),
            "source_hash": package.digest,
        }
        address = self.resource("aws_s3_object", self.names(package.path.stem, "zip"), attributes)
        where = {"s3_bucket": Expression(f"{address}.bucket"), "s3_key": Expression(f"{address}.key")}
        return {**where, "source_code_hash": package.digest}

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
