"""What each artifact was last built from, remembered in the cache under the artifact's path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from lading import __version__
from lading.build.bundle import FORMAT
from lading.build.plan import Stamp, Unit
from lading.errors import AuditError
from lading.model.artifact import Manifest, manifest_path, read_manifest
from lading.model.blobs import Actions
from lading.model.finding import Finding, Severity


def fingerprint(unit: Unit, parts: dict[str, str], artifact: Path) -> Stamp:
    """The unit's stamp as of now: the given parts, its settings, lading itself, and the artifact's identity."""
    settings = (
        unit.kind, unit.target.key, unit.handler, unit.layers, unit.foreign_layers, unit.options,
    )  # fmt: skip
    own = {"settings": _digest([repr(settings)]), "lading": f"{__version__} {FORMAT}"}
    return Stamp({**parts, **own}, file_identity(artifact))


def file_identity(artifact: Path) -> str:
    """Size, time and inode of a zip with its manifest beside it; empty when one of them is missing."""
    try:
        facts = artifact.stat()
    except OSError:
        return ""
    if not manifest_path(artifact).is_file():
        return ""
    return f"{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ino}"


def remember(artifact: Path, stamp: Stamp, findings: Iterable[Finding], actions: Actions) -> None:
    """Keep what was built and what the audit said."""
    value = {"parts": dict(stamp.parts), "file": stamp.file, "findings": [finding.as_dict() for finding in findings]}
    actions.put("stamp", str(artifact), json.dumps(value).encode())


def recall(artifact: Path, actions: Actions) -> tuple[Stamp, tuple[Finding, ...]] | None:
    """What `remember` kept; None when it was never built here or the entry is of another shape."""
    entry = actions.get("stamp", str(artifact))
    if entry is None:
        return None
    try:
        value = json.loads(entry)
        findings = tuple(
            Finding(**{**finding, "severity": Severity(finding["severity"])}) for finding in value["findings"]
        )
        return Stamp(value["parts"], value["file"]), findings
    except (ValueError, KeyError, TypeError):
        return None


def read_kept_manifest(artifact: Path) -> Manifest | None:
    """The manifest beside an artifact; None when it is missing or not one."""
    try:
        return read_manifest(manifest_path(artifact).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, AuditError):
        return None


def digest_of(texts: Iterable[str]) -> str:
    """sha256 over a sequence of texts, their boundaries kept."""
    return _digest(texts)


def _digest(texts: Iterable[str]) -> str:
    total = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogateescape")
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()
