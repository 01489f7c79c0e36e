"""What has to be built and why: decided from fingerprints alone, without touching a file. The plan is a list of frozen steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lading.model.project import FunctionConfig, LayerConfig, PackOptions, Project, Source
from lading.model.requirements import Requirements
from lading.model.target import Target

LAYER_PREFIX = "python/"
"""Where Lambda looks for a layer's Python packages: /opt/python."""


@dataclass(frozen=True)
class Unit:
    """A function or a layer, as the build sees both: requirements and own files under prefixes."""

    name: str
    kind: str
    """ "function" or "layer"."""
    target: Target
    requirements: Requirements
    source: Source | None
    options: PackOptions
    handler: str = ""
    layers: tuple[str, ...] = ()
    """Names of the project's own layers it uses, in order."""
    foreign_layers: tuple[str, ...] = ()
    """ARNs of published layers it uses: their content isn't known here."""
    package: str = "zip"
    """ "zip" or "image"."""
    base: str = ""
    """For an image: what it stands on, as the user wrote it."""
    compression: str = "gzip"
    labels: tuple[tuple[str, str], ...] = ()
    """Of an image."""

    @property
    def prefix(self) -> str:
        """Where packages go in the zip."""
        return LAYER_PREFIX if self.kind == "layer" else ""

    @property
    def mount(self) -> str:
        """Where the zip is unpacked on Lambda."""
        return "/opt" if self.kind == "layer" else "/var/task"


def units_of(project: Project) -> tuple[Unit, ...]:
    """Layers first, then functions, each in the order they were written."""
    return (*map(_layer_unit, project.layers), *map(_function_unit, project.functions))


def _layer_unit(layer: LayerConfig) -> Unit:
    return Unit(layer.name, "layer", layer.target, layer.requirements, layer.content, layer.options)


def _function_unit(function: FunctionConfig) -> Unit:
    return Unit(
        name=function.name,
        kind="function",
        target=function.target,
        requirements=function.requirements,
        source=function.source,
        options=function.options,
        handler=function.handler,
        layers=tuple(reference.name for reference in function.layers if reference.name),
        foreign_layers=tuple(reference.arn for reference in function.layers if reference.arn),
        package=function.package,
        base=function.base,
        compression=function.compression,
        labels=tuple(function.labels.items()),
    )


@dataclass(frozen=True)
class Stamp:
    """What an artifact was last built from (part → digest), and the file that came of it."""

    parts: Mapping[str, str]
    file: str
    """Identity of the finished zip: size, modification time and inode; empty when there is none."""


@dataclass(frozen=True)
class Step:
    """One unit's turn: build it or leave it, with the reason."""

    unit: Unit
    build: bool
    reason: str
    artifact: Path


def decide(unit: Unit, artifact: Path, old: Stamp | None, new: Stamp) -> Step:
    """Compare fingerprints: 1. never built here 2. the zip is gone 3. parts differ 4. the zip was changed 5. nothing to do."""
    if old is None:
        return Step(unit, build=True, reason="not built before", artifact=artifact)
    if not new.file:
        return Step(unit, build=True, reason="the artifact is missing", artifact=artifact)
    changed = sorted(part for part in {*old.parts, *new.parts} if old.parts.get(part) != new.parts.get(part))
    if changed:
        return Step(unit, build=True, reason=f"{' and '.join(changed)} changed", artifact=artifact)
    if old.file != new.file:
        return Step(unit, build=True, reason="the artifact was changed by somebody else", artifact=artifact)
    return Step(unit, build=False, reason="nothing changed", artifact=artifact)


def with_layers(steps: Sequence[Step]) -> tuple[Step, ...]:
    """A function whose own inputs are the same is still built again when a layer of its own project is."""
    rebuilt = {step.unit.name for step in steps if step.build and step.unit.kind == "layer"}

    def follow(step: Step) -> Step:
        moved = [name for name in step.unit.layers if name in rebuilt]
        if step.build or not moved:
            return step
        return Step(step.unit, build=True, reason=f"layer {moved[0]!r} changed", artifact=step.artifact)

    return tuple(map(follow, steps))
