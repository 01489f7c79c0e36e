"""What a build makes: a zip and its manifest. The manifest stands beside the zip and says what is in it and why."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lading.errors import AuditError
from lading.model.finding import Finding, errors

MANIFEST_VERSION = 1


@dataclass(frozen=True)
class PackedPackage:
    """One distribution inside an artifact. Sizes in bytes: `size` unzipped, `compressed` as it lies in the zip."""

    name: str
    version: str
    sha256: str
    """Of the wheel it came from; empty where that isn't known."""
    size: int
    compressed: int
    direct: bool = False
    bytecode: int = 0
    """Unzipped bytes of its bytecode, not counted in `size`."""


@dataclass(frozen=True)
class LeftOut:
    """A distribution that was not packed, and why ("bundled with the runtime", "in layer 'shared'")."""

    name: str
    version: str
    reason: str
    size: int
    """Compressed bytes saved; that of the wheel."""


@dataclass(frozen=True)
class Manifest:
    """The content of NAME.manifest.json: no times and no host paths, so it is as reproducible as the zip."""

    name: str
    kind: str
    """ "function" or "layer"."""
    runtime: str
    architecture: str
    handler: str
    sha256: str
    """Of the zip, hex."""
    code_sha256: str
    """The same in base64, as AWS's `CodeSha256`."""
    size: int
    unzipped: int
    files: int
    packages: tuple[PackedPackage, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    layers: tuple[str, ...] = ()
    bytecode: str = "off"
    bytecode_left_out: tuple[str, ...] = ()
    """Names of packages whose bytecode would have broken the size limit."""
    package: str = "zip"
    """ "zip" or "image". For an image `sha256` is its manifest's digest, `size` what a registry stores, base included."""
    base: str = ""
    """For an image: the digest of the image below, "sha256:…"."""

    def to_json(self) -> str:
        data = {"schema_version": MANIFEST_VERSION, **asdict(self)}
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def read_manifest(text: str) -> Manifest:
    """The inverse of `to_json`. Raises AuditError when it isn't a manifest of this version."""
    try:
        data: dict[str, Any] = json.loads(text)
        version = data.pop("schema_version")
        if version != MANIFEST_VERSION:
            raise AuditError(
                f"the manifest has version {version}, not {MANIFEST_VERSION}", hint="build the artifact again"
            )
        data["packages"] = tuple(PackedPackage(**entry) for entry in data["packages"])
        data["left_out"] = tuple(LeftOut(**entry) for entry in data["left_out"])
        for key in ("layers", "bytecode_left_out"):
            data[key] = tuple(data[key])
        return Manifest(**data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise AuditError(f"not a manifest: {error}", hint="build the artifact again") from error


@dataclass(frozen=True)
class Artifact:
    """A finished build of one function or layer: where it lies, what it holds, what the audit says, how it came to be."""

    path: Path
    manifest: Manifest
    findings: tuple[Finding, ...] = ()
    built: bool = True
    """False when nothing had changed and the file was left alone."""
    reason: str = ""
    """Why it was built ("code changed"), or "nothing changed"."""

    @property
    def failed(self) -> bool:
        """True when the audit found an error: then nothing was written."""
        return bool(errors(self.findings))

    @property
    def saved(self) -> int:
        """Compressed bytes that were left out on purpose."""
        return sum(entry.size for entry in self.manifest.left_out)


def manifest_path(artifact: Path) -> Path:
    """Where an artifact's manifest stands: `orders.zip` → `orders.manifest.json`, `orders.oci` → `orders.oci.manifest.json`."""
    if artifact.suffix == ".zip":
        return artifact.with_suffix(".manifest.json")
    return artifact.with_name(f"{artifact.name}.manifest.json")
