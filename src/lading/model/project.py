"""What the user wrote, validated: the functions and layers of a project. Made by `config`, read by everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from lading.model.deployment import FunctionDeployment, ProjectDeployment
from lading.model.requirements import Requirements
from lading.model.target import Architecture, Target


class Bytecode(StrEnum):
    ON = "on"
    """Sources and unchecked-hash bytecode."""
    ONLY = "only"
    """Bytecode in place of sources."""
    OFF = "off"


class Bundled(StrEnum):
    KEEP = "keep"
    DROP = "drop"
    """Leave out the whole SDK family that the runtime brings, all of it or none."""


@dataclass(frozen=True)
class PackOptions:
    """How dependencies and code are packed; the same for a function and a layer."""

    bytecode: Bytecode = Bytecode.ON
    bundled: Bundled = Bundled.KEEP
    strip: bool = False
    """Remove debug symbols from ELF files that stay loadable without."""
    drop_tests: bool = False
    """Leave out dependencies' own test packages."""
    botocore_services: tuple[str, ...] | None = None
    """Keep only these botocore service models; None keeps all."""


@dataclass(frozen=True)
class Source:
    """The user's own files: a folder, or one file."""

    root: Path
    """Absolute folder (all of it, less excludes) or absolute file."""
    include: tuple[str, ...] = ()
    """Globs relative to root; empty means everything."""
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerReference:
    """A layer a function uses: one of this project by name, or a published one by ARN."""

    name: str = ""
    arn: str = ""


@dataclass(frozen=True)
class LayerConfig:
    """A layer to build: requirements under `python/`, and the folders bin, lib and others of `content` as they are."""

    name: str
    target: Target
    requirements: Requirements
    content: Source | None = None
    options: PackOptions = PackOptions()
    description: str = ""


@dataclass(frozen=True)
class FunctionConfig:
    """A function as AWS knows it, with where its code and requirements are. Sizes in MB, times in seconds."""

    name: str
    handler: str
    target: Target
    source: Source
    requirements: Requirements
    layers: tuple[LayerReference, ...] = ()
    options: PackOptions = PackOptions()
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    memory: int = 128
    timeout: int = 3
    ephemeral_storage: int = 512
    snap_start: bool = False
    """Its published versions' environments are restored from a snapshot."""
    description: str = ""
    package: str = "zip"
    """ "zip" or "image"."""
    base: str = ""
    """For images: a registry reference, or a path to a layout or docker-archive relative to the root; empty is AWS's."""
    compression: str = "gzip"
    """Of an image's layers: "gzip" or "zstd"."""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Of an image."""
    deployment: FunctionDeployment = field(default_factory=FunctionDeployment)
    dockerfile: Path | None = None
    """For images: the Dockerfile (absolute) that makes it, unless there is a base."""
    architectures: tuple[Architecture, ...] = ()
    """For images: what they are built for, that of `target` among them; more than one get an index as well."""


def uses_dockerfile(function: FunctionConfig) -> bool:
    """Whether a function is an image that a Dockerfile makes: a base of its own means lading's build."""
    return function.package == "image" and function.dockerfile is not None and not function.base


@dataclass(frozen=True)
class Project:
    """Everything found under one root. `origin` is the file that defined it, for messages."""

    root: Path
    origin: Path
    functions: tuple[FunctionConfig, ...]
    layers: tuple[LayerConfig, ...] = ()
    output: Path = Path("dist")
    """Absolute folder for artifacts."""
    skipped: tuple[str, ...] = ()
    """What the origin states and lading leaves to others, one sentence each."""
    deployment: ProjectDeployment = field(default_factory=ProjectDeployment)

    def layer(self, name: str) -> LayerConfig | None:
        return next((layer for layer in self.layers if layer.name == name), None)

    def function(self, name: str) -> FunctionConfig | None:
        return next((function for function in self.functions if function.name == name), None)
