"""From a path to an audit: open it, decide what it is for, gather its packages, ask for findings. Prints nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lading.audit.artifact import Opened, open_artifact
from lading.audit.installed import gather_function, gather_layer
from lading.audit.package import PackageFacts
from lading.audit.run import audit
from lading.audit.subject import Subject
from lading.errors import UsageError
from lading.model.artifact import Manifest, read_manifest
from lading.model.finding import Finding, Severity
from lading.model.target import Target, find_target, runtimes

_LARGEST_MANIFEST = 32 << 20
_USUAL_HANDLERS = (
    ("lambda_function", "lambda_handler"), ("lambda_function", "handler"), ("handler", "handler"), ("handler", "lambda_handler"),
    ("app", "lambda_handler"), ("app", "handler"), ("main", "handler"), ("main", "lambda_handler"), ("index", "handler"),
)  # fmt: skip
"""Where AWS's console, SAM and the common templates put the handler, in the order they are tried."""


@dataclass(frozen=True)
class Wanted:
    """What the user said; what is empty is taken from the manifest beside the artifact, or guessed."""

    runtime: str = ""
    architecture: str = ""
    handler: str = ""
    layers: tuple[Path, ...] = ()


@dataclass
class Inspection:
    """An open artifact and what was decided about it. `notes` say what was assumed."""

    opened: Opened
    subject: Subject
    manifest: Manifest | None
    notes: list[str] = field(default_factory=list)

    def findings(self, today: dt.date) -> tuple[Finding, ...]:
        """The audit's findings and those of opening it, errors first."""
        order = list(Severity)
        every = {*self.opened.findings, *audit(self.subject, today=today)}
        return tuple(sorted(every, key=lambda f: (order.index(f.severity), f.code, f.file, f.message)))


def find_manifest(path: Path) -> Manifest | None:
    """The manifest `lading build` wrote beside an artifact, or None. Raises AuditError for a broken one."""
    if path.name in ("", ".."):
        path = path.resolve()
    if not path.name:
        return None
    beside = path.with_name(f"{path.stem if path.suffix == '.zip' else path.name}.manifest.json")
    if not beside.is_file() or beside.stat().st_size > _LARGEST_MANIFEST:
        return None
    return read_manifest(beside.read_text("utf-8"))


@contextmanager
def inspect(path: Path, wanted: Wanted) -> Iterator[Inspection]:
    """Open an artifact and its layers for as long as the context lasts: sources are read when the audit asks for them.

    Raises NoArtifactError for a path that leads nowhere, ArtifactError for what can't be read, ConfigError for an unknown
    runtime or architecture.
    """
    notes: list[str] = []
    manifest = find_manifest(path)
    with ExitStack() as stack:
        opened = stack.enter_context(open_artifact(path))
        layer = manifest.kind == "layer" if manifest else opened.looks_like_layer
        target = _choose_target(opened, wanted, manifest, notes)
        if layer and wanted.handler:
            raise UsageError(f"{path} is a layer and has no handler", hint="give --handler with the function's own zip")
        handlers = _given_handlers(wanted, manifest)
        packages = gather_layer(opened.entries, target) if layer else gather_function(opened.entries, handlers)
        if not handlers and not layer:
            handlers = _guess_handlers(packages, notes)
        layers = [stack.enter_context(open_artifact(layer_path)) for layer_path in wanted.layers]
        unseen = manifest.layers if manifest and not wanted.layers else ()
        subject = Subject(
            target=target,
            handlers=handlers,
            packages=packages,
            layers=tuple(package for one in layers for package in gather_layer(one.entries, target)),
            layer_count=len(wanted.layers) or len(unseen),
            unseen_layers=unseen,
            zipped_size=opened.zipped_size,
            unzipped_size=opened.unzipped_size,
            layers_unzipped_size=sum(one.unzipped_size for one in layers),
            layer=layer,
        )
        yield Inspection(opened, subject, manifest, notes)


def _given_handlers(wanted: Wanted, manifest: Manifest | None) -> tuple[str, ...]:
    handler = wanted.handler or (manifest.handler if manifest else "")
    return (handler,) if handler else ()


def _choose_target(opened: Opened, wanted: Wanted, manifest: Manifest | None, notes: list[str]) -> Target:
    """The user's word, else the manifest's, else what the native files and bytecode in it were made for."""
    runtime = wanted.runtime or (manifest.runtime if manifest else "")
    architecture = wanted.architecture or (manifest.architecture if manifest else "")
    if not runtime:
        runtime = _guess_runtime(entry.path for entry in opened.entries)
        notes.append(f"assuming --runtime {runtime}")
    if not architecture:
        architecture = _guess_architecture(entry.path for entry in opened.entries)
        notes.append(f"assuming --architecture {architecture}")
    return find_target(runtime, architecture)


def _guess_runtime(paths: Iterable[str]) -> str:
    """The runtime most version-tagged files are for; the newest but one where nothing tells."""
    import re
    from collections import Counter

    votes: Counter[str] = Counter()
    for path in paths:
        match = re.search(r"\.cpython-3(\d+)[-.]|/lib/python3\.(\d+)/site-packages/", path)
        if match:
            votes[f"python3.{match[1] or match[2]}"] += 1
    known = list(runtimes())
    likely = [name for name, _ in votes.most_common() if name in known]
    return likely[0] if likely else known[-2]


def _guess_architecture(paths: Iterable[str]) -> str:
    arm = x86 = 0
    for path in paths:
        arm += "aarch64-linux" in path
        x86 += "x86_64-linux" in path
    return "arm64" if arm > x86 else "x86_64"


def _guess_handlers(packages: tuple[PackageFacts, ...], notes: list[str]) -> tuple[str, ...]:
    """A usual handler that exists and is defined."""
    own = next((package for package in packages if not package.name), None)
    if own is None:
        return ()
    for module, function in _USUAL_HANDLERS:
        if module in own.modules:
            defines = own.modules[module].defines
            if defines is not None and function in defines:
                notes.append(f"assuming --handler {module}.{function}")
                return (f"{module}.{function}",)
    return ()
