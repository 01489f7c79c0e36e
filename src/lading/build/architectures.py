"""Images for several architectures: one build for each, then an index over them in a layout of its own.

The function's own image stays what Lambda takes; the others lie in a folder named after their architecture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lading.build.image import NAME
from lading.build.packing import replacing_text
from lading.build.run import BuildOptions, Report, build_project
from lading.errors import BuildError
from lading.model.artifact import Artifact, manifest_path
from lading.model.progress import Progress
from lading.model.project import FunctionConfig, Project, uses_dockerfile
from lading.model.target import Architecture, Target
from lading.oci.descriptor import ImageFormatError
from lading.oci.image import Image
from lading.oci.layout import Layout, index_of, write_layout
from lading.oci.push import read_attached
from lading.store import Store


class SeveralByDockerfileError(BuildError):
    """A Dockerfile is built for one architecture at a time: builders mix up what they cached for another one."""


def build_architectures(project: Project, store: Store, options: BuildOptions, progress: Progress) -> Report:
    """As `build_project`; then the other architectures of each image that has some, and NAME.index.oci over all of them."""
    several = [
        one for one in project.functions if _has_several(one) and (not options.names or one.name in options.names)
    ]
    for function in filter(uses_dockerfile, several):
        raise SeveralByDockerfileError(
            f"function {function.name!r}: {function.dockerfile} is to be for {' and '.join(function.architectures)}",
            hint="build once for each: lading build --architecture arm64 --output dist/arm64; or set a base in its place",
        )
    own = build_project(project, store, options, progress)
    if not several:
        return own
    folder = options.output or project.output
    reports = {"": own}
    for architecture in Architecture:
        functions = [one for one in several if architecture in _others(one)]
        if functions:
            variant = _variant(project, functions, architecture)
            names = tuple(one.name for one in functions)
            how = replace(options, names=names, output=folder / architecture.value)
            reports[architecture.value] = build_project(variant, store, how, progress)
    images = [artifact for report in reports.values() for artifact in report.artifacts]
    indexes = [_index(one, images, folder) for one in several if not any(artifact.failed for artifact in images)]
    return Report((*images, *indexes), _seconds(reports), own.proposal)


def _has_several(function: FunctionConfig) -> bool:
    return function.package == "image" and bool(_others(function))


def _others(function: FunctionConfig) -> list[Architecture]:
    return [one for one in function.architectures if one is not function.target.architecture]


def _variant(project: Project, functions: Sequence[FunctionConfig], architecture: Architecture) -> Project:
    """The project for another architecture: these functions, and the layers that they may use."""

    def moved(target: Target) -> Target:
        return replace(target, architecture=architecture)

    return replace(
        project,
        functions=tuple(replace(one, target=moved(one.target)) for one in functions),
        layers=tuple(replace(layer, target=moved(layer.target)) for layer in project.layers),
    )


def _index(function: FunctionConfig, artifacts: Sequence[Artifact], folder: Path) -> Artifact:
    """The layout with all images of a function, in the order of its architectures. Left alone where it is that already."""
    parts = {
        Architecture(artifact.manifest.architecture): artifact
        for artifact in artifacts
        if artifact.manifest.name == function.name
    }
    chosen = [parts[architecture] for architecture in function.architectures]
    layouts = [Layout(artifact.path) for artifact in chosen]
    images = [layout.image() for layout in layouts]
    index = index_of(images)
    digest = index.descriptor.hex
    manifest = replace(
        chosen[0].manifest,
        name=f"{function.name}.index",
        package="index",
        architecture=",".join(function.architectures),
        sha256=digest,
        code_sha256=digest,
        size=len(index.data) + stored_size(images),
        unzipped=sum(artifact.manifest.unzipped for artifact in chosen),
        files=sum(artifact.manifest.files for artifact in chosen),
        packages=(),
        left_out=(),
    )
    destination = folder / f"{function.name}.index.oci"
    if _holds(destination, digest) and manifest_path(destination).is_file():
        return Artifact(destination, manifest, built=False, reason="nothing changed")
    attached = [document for layout in layouts for document in read_attached(layout, layout.attached())]
    with replacing_text(manifest_path(destination), manifest.to_json()):
        write_layout(destination, images, attached, name=NAME)
    return Artifact(destination, manifest, reason=f"an index of {len(images)} images; Lambda takes single ones only")


def stored_size(images: Sequence[Image]) -> int:
    """Bytes that a registry stores for images, layers that they share once."""
    shared = {layer.digest: layer.size for image in images for layer in image.layers}
    return sum(len(image.manifest) + len(image.config) for image in images) + sum(shared.values())


def _holds(path: Path, digest: str) -> bool:
    if not path.is_dir():
        return False
    try:
        return [descriptor.hex for descriptor in Layout(path).manifests()] == [digest]
    except ImageFormatError:
        return False


def _seconds(reports: Mapping[str, Report]) -> dict[str, float]:
    """The steps of the own architecture by name, the other ones as wholes."""
    seconds = dict(reports[""].seconds)
    for architecture, report in reports.items():
        if architecture:
            seconds[architecture] = report.seconds["total"]
    total = sum(report.seconds["total"] for report in reports.values())
    return {**{step: time for step, time in seconds.items() if step != "total"}, "total": total}
