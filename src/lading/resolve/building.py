"""Makes wheels of what is none yet: sdists, folders, git commits. Each is built once per content and target, in uv's isolated
build environment, and accepted only when it will run on the target.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lading.errors import BuildError
from lading.model.lock import LockedPackage, Wheel
from lading.resolve.redact import redact
from lading.resolve.supply import supply
from lading.resolve.workshop import Workshop

TIMEOUT = 1800
"""Seconds that one build may take."""
MAX_WHEEL = 1 << 30
"""Bytes that a built wheel may have."""
DETAIL_LINES = 30


class BuildFailedError(BuildError):
    """The package's own build backend failed, or made something else than one wheel of that package."""


class NeedsNetworkError(BuildError):
    """A build needs its tools from an index, and the network is not allowed."""


@dataclass(frozen=True)
class Built:
    """A wheel that came out of a build, and whether the target's Python made it."""

    path: Path
    matching_python: bool


def build_wheels(packages: Iterable[LockedPackage], shop: Workshop) -> list[Wheel]:
    """A wheel for each package, from the cache where it was built before. Raises BuildError naming the package."""
    wheels, todo = [], []
    for package in packages:
        keys = _keys(package, shop)
        wheel = _remembered(package, keys, shop)
        if wheel:
            wheels.append(wheel)
        else:
            todo.append((package, keys))
    list(supply([package.sdist for package, _ in todo if package.sdist], shop))
    return wheels + [_build(package, keys, shop) for package, keys in todo]


@dataclass(frozen=True)
class Keys:
    """Names of a build's result: one for any target (a wheel without native code), one for this target."""

    everywhere: str
    here: str


def _keys(package: LockedPackage, shop: Workshop) -> Keys:
    if package.sdist:
        content = f"sdist:{package.sdist.sha256}"
    elif package.source and package.source.directory:
        from lading.resolve.source_tree import tree_digest

        content = f"folder:{tree_digest(package.source.directory / package.source.subdirectory)}"
    else:
        assert package.source
        content = f"git:{package.source.commit}:{package.source.subdirectory}"
    glibc = ".".join(map(str, shop.target.runtime.os.glibc))
    return Keys(f"{package.name}:{content}", f"{package.name}:{content}:{shop.target.key}:{glibc}")


def _remembered(package: LockedPackage, keys: Keys, shop: Workshop) -> Wheel | None:
    for key in (keys.here, keys.everywhere):
        entry = shop.actions.get("wheel", key)
        if not entry:
            continue
        known = json.loads(entry)
        if shop.blobs.has(known["sha256"]):
            path = shop.blobs.path(known["sha256"])
            return Wheel(
                package.name, known["version"], known["filename"], known["sha256"], known["size"], path, built=True
            )
    return None


def _build(package: LockedPackage, keys: Keys, shop: Workshop) -> Wheel:
    from lading.resolve.acceptance import accept, is_portable

    label = f"{package.name} {package.version}".strip()
    task = shop.progress.start(f"build {label}")
    with tempfile.TemporaryDirectory(prefix="lading-build-") as folder:
        built = _run(package, Path(folder).resolve(), shop)
        version = accept(built.path, package, shop.target, matching_python=built.matching_python)
        digest = shop.blobs.adopt(built.path)
        size, filename = built.path.stat().st_size, built.path.name
        key = keys.everywhere if is_portable(built.path) else keys.here
    known = {"version": version, "filename": filename, "sha256": digest, "size": size}
    shop.actions.put("wheel", key, json.dumps(known).encode())
    shop.progress.finish(task)
    return Wheel(package.name, version, filename, digest, size, shop.blobs.path(digest), built=True)


def _run(package: LockedPackage, folder: Path, shop: Workshop) -> Built:
    """Build with the target's Python where there is one, else with ours: enough for a pure wheel, tried in that order."""
    from lading.resolve.acceptance import is_portable
    from lading.resolve.interpreters import find_interpreter

    source = _prepare(package, folder, shop)
    version = shop.target.runtime.python_version
    python = find_interpreter(shop.target.runtime.python, shop.actions)
    if python:
        return Built(_uv_build(package, source, folder / "out", python.path, shop), matching_python=True)
    import sys

    built = _uv_build(package, source, folder / "out", sys.executable, shop)
    if is_portable(built) or shop.policy.offline:
        return Built(built, matching_python=False)
    return Built(_uv_build(package, source, folder / "again", version, shop), matching_python=True)


def _prepare(package: LockedPackage, folder: Path, shop: Workshop) -> Path:
    """What uv is pointed at: the sdist under its own name, the folder itself, or a checkout of the commit."""
    if package.sdist:
        archive = folder / package.sdist.name
        archive.symlink_to(shop.blobs.path(package.sdist.sha256).absolute())
        return archive
    source = package.source
    assert source
    if source.directory:
        place = source.directory
    else:
        from lading.resolve.source_tree import check_out

        place = check_out(source, folder / "checkout", name=package.name, offline=shop.policy.offline)
    return place / source.subdirectory


def _uv_build(package: LockedPackage, source: Path, output: Path, python: str, shop: Workshop) -> Path:
    from lading.resolve.uv import run_uv

    arguments = ["build", "--wheel", str(source), "--out-dir", str(output), "--python", python, "--no-create-gitignore"]
    result = run_uv(arguments, directory=shop.directory, offline=shop.policy.offline, timeout=TIMEOUT)
    wheels = sorted(output.glob("*.whl"))
    label = f"{package.name} {package.version}".strip()
    if result.returncode or len(wheels) != 1:
        details = [line for line in redact(result.stderr).splitlines() if line.strip()][-DETAIL_LINES:]
        if shop.policy.offline:
            hint = "builds need their tools: run once without --offline; the result is kept"
            raise NeedsNetworkError(f"can't build {label} offline", details=details, hint=hint)
        hint = (
            f"choose a version that has a wheel for {shop.target}, or build one yourself and give it with --find-links"
        )
        raise BuildFailedError(f"{label} could not be built into a wheel", details=details, hint=hint)
    if wheels[0].stat().st_size > MAX_WHEEL:
        raise BuildFailedError(f"{label} was built into a wheel of more than {MAX_WHEEL >> 20} MiB")
    return wheels[0]
