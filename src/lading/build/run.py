"""Runs a build: locks, wheels, bundles, audit, artifacts. `build_project` reads as the whole program; each step is a method.

What an artifact is made of is decided in cargo.py, whether it is made at all in plan.py.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lading.build.bundle import Bundle
from lading.build.cargo import Cargo, divide
from lading.build.folder import prepare_folder
from lading.build.plan import Step, Unit, decide, units_of, with_layers
from lading.build.stamps import digest_of, fingerprint, read_kept_manifest, recall, remember
from lading.build.stopwatch import Stopwatch
from lading.build.style import Interpreters, style_of
from lading.errors import ConfigError, UsageError
from lading.model.artifact import Artifact
from lading.model.lock import Lock, LockedPackage, Wheel
from lading.model.progress import Progress
from lading.model.project import FunctionConfig, Project, uses_dockerfile
from lading.model.requirements import Requirements
from lading.model.suggest import did_you_mean
from lading.model.target import Target
from lading.resolve import LockPlace, Policy, fetch_each, lock
from lading.store import Store

if TYPE_CHECKING:
    from lading.build.image_base import BaseImages
    from lading.build.packing import Load, Packer, PackPlan
    from lading.build.workers import Compilers


@dataclass(frozen=True)
class BuildOptions:
    """What a caller may ask of a build beyond the project's own settings."""

    names: tuple[str, ...] = ()
    """Only these units and the layers they use; empty means all."""
    policy: Policy = field(default_factory=Policy)
    output: Path | None = None
    """Absolute folder for the artifacts in place of the project's."""
    allowed: frozenset[str] = frozenset()
    """Codes of findings that don't fail the build."""
    share_dependencies: bool = False
    mirror: str = ""
    """For Dockerfiles: a registry that is asked first for what they stand on."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """For images: labels and annotations beside lading's own."""
    today: dt.date | None = None
    """For runtimes near their end; None skips that."""


@dataclass(frozen=True)
class Report:
    """What a build did. `seconds` is wall time by step, "total" last."""

    artifacts: tuple[Artifact, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    proposal: str = ""
    """`[tool.lading]` lines that make shared layers lasting."""
    folders: tuple[Path, ...] = ()
    """On this machine, of which packages were built: path dependencies and workspace members."""

    @property
    def failed(self) -> bool:
        return any(artifact.failed for artifact in self.artifacts)


def build_project(project: Project, store: Store, options: BuildOptions, progress: Progress) -> Report:
    """Bring every artifact of the project up to date. An artifact that fails its audit is not written: see `Report.failed`.

    Raises ConfigError, ResolveError, DownloadError, BuildError, StoreError; artifacts already finished stay.
    """
    by_file = [function for function in project.functions if uses_dockerfile(function)]
    if not by_file:
        return _build_own(project, store, options, progress)
    chosen(units_of(project), options.names)
    wanted = set(options.names)
    images = [function for function in by_file if not wanted or function.name in wanted]
    rest = replace(project, functions=tuple(one for one in project.functions if one not in by_file))
    left = tuple(name for name in options.names if name not in {function.name for function in by_file})
    own = Report(())
    if left or (not wanted and (rest.functions or rest.layers)):
        own = _build_own(rest, store, replace(options, names=left), progress)
    made = _build_images(images, project, store, options)
    seconds = {**own.seconds, "dockerfiles": made.seconds["total"]}
    seconds["total"] = own.seconds.get("total", 0.0) + made.seconds["total"]
    return Report((*own.artifacts, *made.artifacts), seconds, own.proposal, own.folders)


def _build_images(functions: Iterable[FunctionConfig], project: Project, store: Store, options: BuildOptions) -> Report:
    """Those that Dockerfiles make, one after the other."""
    from lading.build.dockerfile import DockerfileOptions, build_dockerfile

    watch = Stopwatch()
    folder = options.output or project.output
    how = DockerfileOptions(options.mirror, options.allowed, options.labels)
    made = tuple(build_dockerfile(one, folder / f"{one.name}.oci", store, how) for one in functions)
    return Report(made, watch.seconds())


def _build_own(project: Project, store: Store, options: BuildOptions, progress: Progress) -> Report:
    """What lading itself puts together."""
    watch = Stopwatch()
    with contextlib.ExitStack() as stack:
        build = Build(project, store, options, progress, stack, watch)
        with watch("resolve"):
            build.lock_all()
        with watch("compare"):
            steps = build.compare()
        if any(step.build for step in steps):
            with watch("prepare"):
                build.prepare(steps)
        artifacts = tuple(build.finish(step) for step in steps)
    return Report(artifacts, watch.seconds(), build.proposal, build.folders)


class Build:
    """One build in progress: what is known so far, by unit name."""

    def __init__(
        self,
        project: Project,
        store: Store,
        options: BuildOptions,
        progress: Progress,
        stack: contextlib.ExitStack,
        watch: Stopwatch,
    ) -> None:
        self.project = project
        self.store = store
        self.options = options
        self.progress = progress
        self.stack = stack
        self.watch = watch
        self.interpreters = Interpreters(store.actions, progress)
        self.proposal = ""
        self.units = chosen(units_of(project), options.names)
        self.locks: dict[str, Lock] = {}
        self.cargo: dict[str, Cargo] = {}
        self.own: dict[str, Bundle | None] = {}
        self.loads: dict[str, Load] = {}

    @functools.cached_property
    def packer(self) -> Packer:
        """Made, and its modules loaded, when something has to be built."""
        from lading.build.packing import Packer
        from lading.build.preparation import Preparation

        blobs, actions = self.store.blobs, self.store.actions
        made = Preparation(blobs, actions, self.interpreters, self.compilers, self.progress)
        preparation, options = self.stack.enter_context(made), self.options
        return Packer(blobs, preparation, self.interpreters, allowed=options.allowed, today=options.today)

    @functools.cached_property
    def compilers(self) -> Compilers:
        """The interpreters that compile, which are ended with the build."""
        from lading.build.workers import Compilers

        return self.stack.enter_context(Compilers())

    @functools.cached_property
    def bases(self) -> BaseImages:
        """What images stand on."""
        from lading.build.image_base import BaseImages

        return BaseImages(self.project.root, self.store, self.options.policy, self.progress)

    def lock_all(self) -> None:
        """One lock per set of requirements and target; then the cargo of each unit."""
        known: dict[tuple[Requirements, Target], Lock] = {}
        for unit in self.units:
            key = (unit.requirements, unit.target)
            if key not in known:
                known[key] = self._lock(unit)
            self.locks[unit.name] = known[key]
        if self.options.share_dependencies:
            self._share()
        layers = {unit.name: self.locks[unit.name].packages for unit in self.units if unit.kind == "layer"}
        self.cargo = {unit.name: divide(unit, self.locks[unit.name], layers) for unit in self.units}

    @property
    def folders(self) -> tuple[Path, ...]:
        """Of which packages of the units are built."""
        sources = [package.source for lock in self.locks.values() for package in lock.packages if package.source]
        return tuple(sorted({source.directory / source.subdirectory for source in sources if source.directory}))

    def _lock(self, unit: Unit) -> Lock:
        name = "lading" if unit.requirements == self._common_requirements() else unit.name
        place = LockPlace(self.project.root, name)
        return lock(unit.requirements, unit.target, place, self.options.policy, self.progress)

    def _common_requirements(self) -> Requirements:
        """The set that most units of the project share, whichever of them are built now: its lock bears no unit's name."""
        sets = [unit.requirements for unit in units_of(self.project)]
        return max(sets, key=sets.count)

    def _share(self) -> None:
        """Rewrite the project so that functions share a layer of what they have in common."""
        from lading.build.share import share_dependencies

        shared = share_dependencies(self.project, self.locks)
        self.project = shared.project
        self.proposal = shared.proposal
        names = {unit.name for unit in self.units} | set(shared.locks)
        self.units = tuple(unit for unit in units_of(shared.project) if unit.name in names)
        self.locks.update(shared.locks)

    def compare(self) -> tuple[Step, ...]:
        """Fingerprint every unit and decide. Where own files changed, the interpreter that compiles them starts meanwhile."""
        steps = []
        for unit in self.units:
            artifact = self.artifact_path(unit)
            kept = recall(artifact, self.store.actions)
            own = self.own[unit.name] = self._own_files(unit)
            if own and kept and kept[0].parts.get("code") != own.index:
                self._begin_compiler(own, unit)
            stamp = fingerprint(unit, self._parts(unit), artifact)
            steps.append(decide(unit, artifact, kept[0] if kept else None, stamp))
        return with_layers(steps)

    def _begin_compiler(self, own: Bundle, unit: Unit) -> None:
        """A process beside this one: a thread would take turns with what is loaded here."""
        interpreter = self.interpreters.of(style_of(unit))
        if interpreter is not None and any(name.endswith(".py") for name in own.names):
            self.compilers.of(interpreter).begin()

    def _own_files(self, unit: Unit) -> Bundle | None:
        if unit.source is None:
            return None
        return prepare_folder(unit.source, "", unit.name, self.store.blobs, self.store.actions)

    def _parts(self, unit: Unit) -> dict[str, str]:
        own, cargo = self.own[unit.name], self.cargo[unit.name]
        interpreter = self.interpreters.of(style_of(unit))
        return {
            "code": own.index if own else "",
            "requirements": digest_of(
                [
                    *(self._identity(package, unit) for package in cargo.packages),
                    *(f"{entry.name} {entry.version} {entry.reason}" for entry in cargo.left_out),
                ]
            ),
            "bytecode interpreter": f"{interpreter.version} {interpreter.magic}" if interpreter else "",
            "allowed findings": ",".join(sorted(self.options.allowed)),
            **(self.bases.parts(unit, self.options.labels) if unit.package == "image" else {}),
        }

    def _identity(self, package: LockedPackage, unit: Unit) -> str:
        """What a package's bytes follow from. A folder or commit is built first, if it changed: its wheel is what counts."""
        file = package.wheel or package.sdist
        if file is not None:
            return f"{package.name} {package.version} {file.sha256}"
        (wheel,) = self._fetch_each(unit, (package,))
        return f"{wheel.name} {wheel.version} {wheel.sha256}"

    def _fetch_each(self, unit: Unit, packages: tuple[LockedPackage, ...]) -> Iterator[Wheel]:
        needed = replace(self.locks[unit.name], packages=packages)
        return fetch_each(
            needed,
            unit.target,
            self.store.blobs,
            self.store.actions,
            policy=self.options.policy,
            progress=self.progress,
        )

    def artifact_path(self, unit: Unit) -> Path:
        suffix = "oci" if unit.package == "image" else "zip"
        return (self.options.output or self.project.output) / f"{unit.name}.{suffix}"

    def prepare(self, steps: tuple[Step, ...]) -> None:
        """Fetch what the units to build need, each wheel once, and prepare it while others are still coming."""
        building = [step.unit for step in steps if step.build]
        used = {layer for unit in building for layer in unit.layers}
        units = [unit for unit in self.units if unit in building or unit.name in used]
        wheels = {unit.name: self._fetch(unit) for unit in units}
        for unit in units:
            self.loads[unit.name] = self._load(unit, wheels[unit.name])

    def _fetch(self, unit: Unit) -> tuple[Wheel, ...]:
        """The unit's wheels in order of name; each begins to be prepared when it arrives."""
        wheels = []
        for wheel in self._fetch_each(unit, self.cargo[unit.name].packages):
            self.packer.begin(unit, wheel)
            wheels.append(wheel)
        return tuple(sorted(wheels, key=lambda wheel: wheel.name))

    def _load(self, unit: Unit, wheels: tuple[Wheel, ...]) -> Load:
        cargo = self.cargo[unit.name]
        direct = self.locks[unit.name].direct
        return self.packer.load(unit, wheels, self.own[unit.name], direct=direct, left_out=cargo.left_out)

    def finish(self, step: Step) -> Artifact:
        """Audit and write, or say that nothing changed."""
        if not step.build:
            kept = recall(step.artifact, self.store.actions)
            manifest = read_kept_manifest(step.artifact)
            if kept is not None and manifest is not None:
                return Artifact(step.artifact, manifest, kept[1], built=False, reason=step.reason)
            self.prepare((replace(step, build=True),))
        load = self.loads[step.unit.name]
        with self.watch("audit"):
            plan = self.packer.plan(load, self._layer_loads(step.unit))
        with self.watch("assemble"):
            write = self._write_image if step.unit.package == "image" else self.packer.write
            artifact = write(plan, step.artifact, step.reason)
        if not artifact.failed:
            stamp = fingerprint(step.unit, self._parts(step.unit), step.artifact)
            remember(step.artifact, stamp, artifact.findings, self.store.actions)
        return artifact

    def _write_image(self, plan: PackPlan, destination: Path, reason: str) -> Artifact:
        """An image holds the layers of its project, which a zip only refers to."""
        from lading.build.image import ImagePacker

        unit = plan.load.unit
        layers = [self.packer.plan(layer, ()) for layer in self._layer_loads(unit)]
        packer = ImagePacker(self.store.blobs, self.store.actions, self.bases.of(unit), self.options.labels)
        return packer.write(plan, layers, destination, reason)

    def _layer_loads(self, unit: Unit) -> tuple[Load, ...]:
        return tuple(self.loads[name] for name in unit.layers)


def chosen(units: tuple[Unit, ...], names: tuple[str, ...]) -> tuple[Unit, ...]:
    """The named units with the layers they use. Raises UsageError for an unknown name, ConfigError for one given twice."""
    by_name = {unit.name: unit for unit in units}
    if len(by_name) != len(units):
        twice = sorted(unit.name for unit in units if by_name[unit.name] is not unit)
        raise ConfigError(
            f"the name {twice[0]!r} is given twice", hint="each function and layer needs a name of its own"
        )
    for name in names:
        if name not in by_name:
            raise UsageError(f"the project has no function or layer {name!r}", hint=did_you_mean(name, by_name))
    wanted = set(names) or set(by_name)
    wanted |= {layer for name in wanted for layer in by_name[name].layers}
    return tuple(unit for unit in units if unit.name in wanted)
