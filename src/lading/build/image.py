"""A function's container image: base, dependency layers, code layer, config; written as an OCI layout folder with its SBOM.

Only puts together: layers come from image_layers.py, the base from lading.oci. Needs no daemon and no network of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lading.build.image_layers import LayerPlan, make_layers, split
from lading.build.image_sbom import attach
from lading.build.packing import PackPlan, manifest_of, replacing_text
from lading.build.plan import Unit
from lading.errors import BuildError
from lading.model.artifact import Artifact, Manifest, manifest_path
from lading.model.blobs import Actions, Blobs
from lading.model.finding import errors
from lading.model.target import Target
from lading.oci.image import EPOCH, Image
from lading.oci.layer import Layer
from lading.oci.layout import write_layout

CLIENT = "awslambdaric"
TASK = "/var/task"
RUNTIME = "/var/runtime"
NAME = "latest"
"""The image's name within its layout: `oci:FOLDER:latest` for clients that want one."""


class NoClientError(BuildError):
    """Neither the base nor the function's packages have a runtime interface client."""


class ImagePacker:
    """Writes images on a base. `labels` also become annotations, and stand over those of the project."""

    def __init__(self, blobs: Blobs, actions: Actions, base: Image, labels: Mapping[str, str]) -> None:
        self._blobs = blobs
        self._actions = actions
        self._base = base
        self._labels = labels

    def write(self, plan: PackPlan, layers: Sequence[PackPlan], destination: Path, reason: str) -> Artifact:
        """The layout folder, with its manifest beside it; neither is touched when a finding is an error.

        Raises NoClientError, StoreError.
        """
        manifest = manifest_of(plan, None)
        if errors(plan.findings):
            return Artifact(destination, manifest, plan.findings, built=False, reason=f"{reason}; not written")
        planned = split(plan, layers)
        made = make_layers(planned, plan.load.unit.compression, self._blobs, self._actions)
        image = self._image(plan, made)
        manifest = _described(manifest, image, self._base, planned)
        with replacing_text(manifest_path(destination), manifest.to_json()):
            write_layout(destination, [image], attach(image, manifest), name=NAME)
        return Artifact(destination, manifest, plan.findings, reason=reason)

    def _image(self, plan: PackPlan, made: Sequence[Layer]) -> Image:
        annotations = self._annotations(plan.load.unit)
        own = self._base.process.get("Labels")
        labels = {**(own if isinstance(own, Mapping) else {}), **annotations}
        process = {**process_of(plan, self._base), "Labels": labels}
        image = self._base.convert(docker=False).append(made)
        return image.configure(process, created=EPOCH).annotate(annotations)

    def _annotations(self, unit: Unit) -> dict[str, str]:
        """The names of the OCI image specification, "annotations"."""
        prefix = "org.opencontainers.image"
        return {
            f"{prefix}.title": unit.name,
            f"{prefix}.created": EPOCH,
            f"{prefix}.base.digest": self._base.digest,
            **dict(unit.labels),
            **self._labels,
        }


def process_of(plan: PackPlan, base: Image) -> dict[str, Any]:
    """What runs: the base's entry point where it is one for Lambda, else the client from the function's own packages.

    Raises NoClientError.
    """
    unit, own = plan.load.unit, base.process
    process: dict[str, Any] = {"Cmd": [unit.handler], "WorkingDir": TASK, "Env": environment(unit.target, base)}
    names = {wheel.name for wheel, _ in plan.load.packages}
    if is_lambda_base(base):
        return process
    if CLIENT not in names:
        raise NoClientError(
            f"function {unit.name!r}: its base {unit.base!r} is no Lambda base and its packages have no {CLIENT}",
            hint=f"add {CLIENT} to the requirements, or use AWS's base",
        )
    return {**process, "Entrypoint": ["/usr/bin/env", "python3", "-m", CLIENT], "User": own.get("User")}


def is_lambda_base(base: Image) -> bool:
    """Whether a base starts Lambda's client by itself, as AWS's do."""
    entry = base.process.get("Entrypoint")
    return isinstance(entry, list) and bool(entry) and "LAMBDA_RUNTIME_DIR" in variables_of(base)


def variables_of(image: Image) -> dict[str, str]:
    """ENV as a table."""
    entries = image.process.get("Env")
    texts = [entry for entry in entries if isinstance(entry, str)] if isinstance(entries, list) else []
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def environment(target: Target, base: Image) -> list[str]:
    """ENV: the base's, and what AWS's base images set where the base does not."""
    own = variables_of(base)
    usual = lambda_variables()
    if not is_lambda_base(base):
        del usual["LAMBDA_RUNTIME_DIR"], usual["LD_LIBRARY_PATH"], usual["PATH"]
    return [f"{name}={value}" for name, value in {**usual, **own}.items()]


def lambda_variables() -> dict[str, str]:
    """What AWS's Python base images set. Source: their published config, the same for every version since 3.12."""
    return {
        "LANG": "en_US.UTF-8",
        "TZ": ":/etc/localtime",
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
        "LAMBDA_TASK_ROOT": TASK,
        "LAMBDA_RUNTIME_DIR": RUNTIME,
    }


def _described(manifest: Manifest, image: Image, base: Image, planned: Sequence[LayerPlan]) -> Manifest:
    selections = [selection for layer in planned for selection in layer.selections]
    digest = image.digest.removeprefix("sha256:")
    return replace(
        manifest,
        package="image",
        sha256=digest,
        code_sha256=digest,
        size=image.size,
        unzipped=sum(layer.unpacked for layer in planned),
        files=sum(len(selection.bundle.names) - len(selection.exclude) for selection in selections),
        base=base.digest,
    )
