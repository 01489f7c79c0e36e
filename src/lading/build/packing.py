"""From prepared packages to one artifact: bytecode that fits, audit, zip, manifest. One unit at a time."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lading.audit.codes import found
from lading.audit.graph import Closure, Index
from lading.audit.package import PackageFacts
from lading.audit.run import audit
from lading.audit.subject import Subject
from lading.build.archive import Assembled, Conflict, Selection, assemble, settle
from lading.build.bundle import Bundle
from lading.build.bytecode import bytecode_name
from lading.build.plan import Unit
from lading.build.preparation import Packed, Preparation
from lading.build.space import Fitted, fit
from lading.build.style import Interpreters, style_of
from lading.build.wheel import Recipe
from lading.model.artifact import Artifact, LeftOut, Manifest, PackedPackage, manifest_path
from lading.model.blobs import Blobs
from lading.model.finding import Finding, Severity
from lading.model.lock import Wheel
from lading.model.project import Bytecode
from lading.model.quotas import quotas
from lading.oci.leftovers import remove_left, unfinished
from lading.store.folder import disk_errors


@dataclass(frozen=True)
class Load:
    """All that goes into one artifact, ready: its packages in order of name, then the user's own files."""

    unit: Unit
    packages: tuple[tuple[Wheel, Packed], ...]
    own: Packed | None
    direct: tuple[str, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def parts(self) -> tuple[Packed, ...]:
        packages = tuple(packed for _, packed in self.packages)
        return (*packages, self.own) if self.own else packages

    @property
    def facts(self) -> tuple[PackageFacts, ...]:
        return tuple(facts for packed in self.parts for facts in packed.facts)

    @property
    def unzipped(self) -> int:
        """Bytes without bytecode."""
        return sum(
            packed.bundle.unzipped
            - sum(packed.bundle.sizes[packed.bundle.positions_by_name[name]] for name in packed.sources_dropped)
            for packed in self.parts
        )


@dataclass(frozen=True)
class PackPlan:
    """What will be written, and what the audit says of it."""

    load: Load
    selections: tuple[Selection, ...]
    bytecode: Fitted
    findings: tuple[Finding, ...]


class Packer:
    """Packs loads into artifacts. `allowed` names findings that don't fail a build."""

    def __init__(
        self,
        blobs: Blobs,
        preparation: Preparation,
        interpreters: Interpreters,
        *,
        allowed: frozenset[str],
        today: dt.date | None,
    ) -> None:
        self._blobs = blobs
        self._preparation = preparation
        self._interpreters = interpreters
        self._allowed = allowed
        self._today = today

    def begin(self, unit: Unit, wheel: Wheel) -> None:
        """Start preparing a wheel for a unit while others are still on their way."""
        self._preparation.start(wheel, recipe_of(unit), style_of(unit))

    def load(
        self,
        unit: Unit,
        wheels: Sequence[Wheel],
        own: Bundle | None,
        direct: tuple[str, ...],
        left_out: tuple[LeftOut, ...],
    ) -> Load:
        """Wait for the wheels, and prepare the unit's own files."""
        recipe, style = recipe_of(unit), style_of(unit)
        own_packed = self._preparation.own(own, style) if own else None
        packages = tuple((wheel, self._preparation.wheel(wheel, recipe, style)) for wheel in wheels)
        return Load(unit, packages, own_packed, direct, left_out)

    def plan(self, load: Load, layers: Sequence[Load]) -> PackPlan:
        """Choose the bytecode that fits and audit the whole. `layers` are the unit's own project's, in order."""
        layers_unzipped = sum(layer.unzipped + _bytecode_size(layer) for layer in layers)
        subject = self._subject(load, layers, layers_unzipped)
        compiled = [packed.bytecode for packed in load.parts if packed.bytecode]
        room = sys.maxsize if load.unit.package == "image" else quotas().unzipped - layers_unzipped - load.unzipped
        too_much = sum(bundle.unzipped for bundle in compiled) > room
        replaces_sources = load.unit.options.bytecode is Bytecode.ONLY
        wanted = self._imported_bytecode(subject, load) if too_much else frozenset[str]()
        fitted = Fitted(tuple(map(Selection, compiled))) if replaces_sources else fit(compiled, wanted, max(room, 0))
        selections = (*(packed.selection for packed in load.parts), *fitted.selections)
        settled, conflicts = settle(selections)
        subject = replace(
            subject,
            zipped_size=sum(map(_packed_size, settled)),
            unzipped_size=sum(map(_unpacked_size, settled)),
        )
        findings = [*audit(subject, today=self._today), *map(_conflict_finding, conflicts)]
        return PackPlan(load, selections, fitted, tuple(map(self._judge, findings)))

    def _judge(self, finding: Finding) -> Finding:
        if finding.severity is Severity.ERROR and finding.code in self._allowed:
            return replace(finding, severity=Severity.WARNING)
        return finding

    def _subject(self, load: Load, layers: Sequence[Load], layers_unzipped: int) -> Subject:
        unit = load.unit
        return Subject(
            target=unit.target,
            handlers=(unit.handler,) if unit.handler else (),
            packages=load.facts,
            layers=tuple(facts for layer in layers for facts in layer.facts),
            layer_count=len(unit.layers) + len(unit.foreign_layers),
            unseen_layers=unit.foreign_layers,
            layers_unzipped_size=layers_unzipped,
            layer=unit.kind == "layer",
            image=unit.package == "image",
        )

    def _imported_bytecode(self, subject: Subject, load: Load) -> frozenset[str]:
        """Names of the bytecode of everything that the handlers import."""
        interpreter = self._interpreters.of(style_of(load.unit))
        if interpreter is None:
            return frozenset()
        index = Index(subject.target, (*subject.packages, *subject.layers))
        closure = Closure(index, [handler.rpartition(".")[0].replace("/", ".") for handler in subject.handlers])
        names = set()
        for module in closure.reached:
            owner = index.owners[module]
            path = module.replace(".", "/") + ("/__init__.py" if owner.modules[module].is_package else ".py")
            names.add(bytecode_name(f"{owner.root}/{path}" if owner.root else path, interpreter.tag))
        return frozenset(names)

    def write(self, plan: PackPlan, destination: Path, reason: str) -> Artifact:
        """The artifact and its manifest; neither is touched when a finding is an error."""
        failed = any(finding.severity is Severity.ERROR for finding in plan.findings)
        if failed:
            manifest = manifest_of(plan, None)
            return Artifact(destination, manifest, plan.findings, built=False, reason=f"{reason}; not written")
        assembled = assemble(plan.selections, destination, self._blobs)
        manifest = manifest_of(plan, assembled)
        with replacing_text(manifest_path(destination), manifest.to_json()):
            pass
        return Artifact(destination, manifest, plan.findings, reason=reason)


def recipe_of(unit: Unit) -> Recipe:
    """How the unit's wheels are laid out."""
    options = unit.options
    return Recipe(unit.prefix, options.drop_tests, options.botocore_services, options.strip)


@contextmanager
def replacing_text(path: Path, text: str) -> Iterator[None]:
    """A small file that is written before the block, and takes its place when the block ends well. Raises StoreError."""
    temporary = unfinished(path)
    with disk_errors(f"can't write {path}"):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_left(path)
            temporary.write_text(text, "utf-8")
            yield
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def manifest_of(plan: PackPlan, assembled: Assembled | None) -> Manifest:
    """What the artifact holds and why; without digest and sizes where nothing was assembled."""
    load, unit = plan.load, plan.load.unit
    bytecode = {selection.bundle.name: _unpacked_size(selection) for selection in plan.bytecode.selections}
    return Manifest(
        name=unit.name,
        kind=unit.kind,
        runtime=unit.target.runtime.name,
        architecture=unit.target.architecture.value,
        handler=unit.handler,
        sha256=assembled.sha256 if assembled else "",
        code_sha256=assembled.code_sha256 if assembled else "",
        size=assembled.size if assembled else 0,
        unzipped=assembled.unzipped if assembled else 0,
        files=assembled.members if assembled else 0,
        packages=tuple(
            PackedPackage(
                name=wheel.name,
                version=wheel.version or packed.bundle.version,
                sha256=wheel.sha256,
                size=_unpacked_size(packed.selection),
                compressed=_packed_size(packed.selection),
                direct=wheel.name in load.direct,
                bytecode=bytecode.get(wheel.name, 0),
            )
            for wheel, packed in load.packages
        ),
        left_out=load.left_out,
        layers=(*unit.layers, *unit.foreign_layers),
        bytecode=unit.options.bytecode.value if plan.bytecode.selections else Bytecode.OFF.value,
        bytecode_left_out=plan.bytecode.left_out,
    )


def _conflict_finding(conflict: Conflict) -> Finding:
    message = (
        f"{conflict.loser} and {conflict.winner} bring different files of this name; {conflict.winner}'s is packed"
    )
    return found("file-conflict", message, file=conflict.name, package=conflict.winner)


def _bytecode_size(load: Load) -> int:
    return sum(packed.bytecode.unzipped for packed in load.parts if packed.bytecode)


def _unpacked_size(selection: Selection) -> int:
    bundle = selection.bundle
    return bundle.unzipped - sum(bundle.sizes[bundle.positions_by_name[name]] for name in selection.exclude)


def _packed_size(selection: Selection) -> int:
    """Bytes in the zip, central directory included."""
    bundle = selection.bundle
    left_out = sum(bundle.packed_size(bundle.positions_by_name[name]) for name in selection.exclude)
    return bundle.size + len(bundle.central) - left_out
