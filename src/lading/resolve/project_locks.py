"""The project's own lock → packages for a target: exactly its versions, checked against its digests; never another version."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from lading.errors import ResolveError
from lading.model.lock import LockedPackage
from lading.model.progress import Progress
from lading.model.requirements import RequirementKind, Requirements
from lading.model.target import Target
from lading.resolve.candidate import Candidate, settle
from lading.resolve.compile import NoSolutionError, Question, Terms, solve
from lading.resolve.pins import Pin, applies, check_groups, select
from lading.resolve.policy import Policy
from lading.resolve.pylock import BadLockError, Entry, parse, read_toml
from lading.resolve.uv import explain_failure, run_uv

MOST_NAMED = 10
"""Files of each side that an error about digests lists."""


class LockMismatchError(ResolveError):
    """The index offers other files than the lock's digests name, or the lock does not cover the target."""


def read_project_lock(
    requirements: Requirements, target: Target, policy: Policy, progress: Progress
) -> tuple[LockedPackage, ...]:
    """The packages that the lock gives for the target. Raises ResolveError, or DownloadError where an index is needed."""
    assert requirements.path
    if requirements.kind is RequirementKind.PYLOCK:
        return settle(_from_pylock(requirements.path, requirements, target), target)
    if requirements.kind is RequirementKind.UV_LOCK:
        return settle(_from_uv(requirements.path, requirements, target, policy, progress), target)
    return settle(_from_pins(requirements.path, requirements, target, policy), target)


def _from_pylock(path: Path, requirements: Requirements, target: Target) -> list[Candidate]:
    document = read_toml(path)
    _check_environment(document, path, target)
    groups = {*requirements.groups, *document.get("default-groups", ())}
    return _applying(parse(document, path), path, target, requirements.extras, groups)


def _check_environment(document: Mapping[str, object], path: Path, target: Target) -> None:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    environments = document.get("environments") or []
    if (
        isinstance(environments, list)
        and environments
        and not any(applies(str(one), target, (), ()) for one in environments)
    ):
        raise LockMismatchError(
            f"{path} is locked for other environments than {target}", details=map(str, environments)
        )
    requires = str(document.get("requires-python", ""))
    try:
        fits = SpecifierSet(requires).contains(target.marker_environment["python_full_version"], prereleases=True)
    except InvalidSpecifier:
        raise BadLockError(f"{path}: invalid requires-python {requires!r}") from None
    if not fits:
        hint = "lock again for this Python, or choose a runtime that the lock covers"
        raise LockMismatchError(f"{path} is locked for Python {requires}, not for {target}", hint=hint)


def _applying(
    entries: Iterable[Entry], path: Path, target: Target, extras: Iterable[str], groups: Iterable[str]
) -> list[Candidate]:
    """Those whose marker holds. Two of one name are an error, as PEP 751 asks."""
    chosen: dict[str, Candidate] = {}
    for entry in entries:
        if not applies(entry.marker, target, extras, groups):
            continue
        candidate = entry.candidate
        if candidate.name in chosen:
            versions = f"{chosen[candidate.name].version} and {candidate.version}"
            raise BadLockError(f"{path}: {candidate.name} {versions} both apply to {target}", hint="lock again")
        chosen[candidate.name] = candidate
    return list(chosen.values())


def _from_uv(
    path: Path, requirements: Requirements, target: Target, policy: Policy, progress: Progress
) -> list[Candidate]:
    """What `uv export` makes of it: extras, groups and workspace members are uv's business."""
    _note_if_stale(path, policy, progress)
    arguments = ["export", "--frozen", "--format", "pylock.toml", "--no-emit-project", "--no-default-groups"]
    arguments += ["--no-python-downloads", "--no-header", "--quiet"]
    for flag, names in (("--extra", requirements.extras), ("--group", requirements.groups)):
        arguments += [part for name in names for part in (flag, name)]
    if requirements.member:
        arguments += ["--package", _member_name(requirements.member)]
    with tempfile.TemporaryDirectory(prefix="lading-") as folder:
        output = Path(folder).resolve() / "pylock.toml"
        result = run_uv([*arguments, "--output-file", str(output)], directory=path.parent, offline=policy.offline)
        if result.returncode:
            raise explain_failure(result.stderr, doing=f"can't read {path}", offline=policy.offline)
        document = read_toml(output)
        _check_environment(document, path, target)
        return _applying(parse(document, output), path, target, (), ())


def _member_name(folder: Path) -> str:
    """The project's name, by which uv knows a workspace's member."""
    path = folder / "pyproject.toml"
    name = read_toml(path).get("project", {}).get("name")
    if not isinstance(name, str) or not name:
        raise BadLockError(f"{path} has no project.name, so uv.lock does not know it", hint="add [project] name")
    return name


def _note_if_stale(path: Path, policy: Policy, progress: Progress) -> None:
    """uv.lock is used as it is; that pyproject.toml moved on is worth a line. Asked only when something changed."""
    result = run_uv(["lock", "--check", "--no-python-downloads"], directory=path.parent, offline=policy.offline)
    if result.returncode and "needs to be updated" in result.stderr:
        progress.note(
            f"{path.name} does not match pyproject.toml any more; its versions are used as they are (renew: uv lock)"
        )


def _from_pins(path: Path, requirements: Requirements, target: Target, policy: Policy) -> list[Candidate]:
    from lading.resolve.pinned_formats import read_pins

    lock = read_pins(requirements, path, target)
    check_groups(lock.pins, requirements.groups, path)
    chosen = select(lock.pins, target, requirements.extras, requirements.groups)
    local = [Candidate(pin.name, pin.version, source=pin.source) for pin in chosen.values() if pin.source]
    published = {name: pin for name, pin in chosen.items() if not pin.source}
    return local + _look_up(published, lock.indexes, path, target, policy)


def _look_up(
    pins: Mapping[str, Pin], indexes: tuple[str, ...], path: Path, target: Target, policy: Policy
) -> list[Candidate]:
    """The addresses of pinned files, from the index, less every file whose digest the lock does not have."""
    if not pins:
        return []
    places = [f"--extra-index-url {url}" for url in indexes if not _is_pypi(url)]
    lines = [*places, *(f"{pin.name}=={pin.version}" for pin in pins.values())]
    question = Question(("-",), "\n".join(lines), path.parent, target, policy.offline, ("--no-deps",))
    try:
        found = solve(question, Terms())
    except NoSolutionError as error:
        hint = "the lock names a version that the index does not have for this target; lock again"
        raise LockMismatchError(f"{path} can't be met for {target}", details=error.details, hint=hint) from error
    return [_only_locked(candidate, pins[candidate.name], path) for candidate in found if candidate.name in pins]


def _is_pypi(url: str) -> bool:
    return url.rstrip("/") in ("https://pypi.org/simple", "https://pypi.python.org/simple")


def _only_locked(candidate: Candidate, pin: Pin, path: Path) -> Candidate:
    wheels = tuple(wheel for wheel in candidate.wheels if wheel.sha256 in pin.files)
    sdist = candidate.sdist if candidate.sdist and candidate.sdist.sha256 in pin.files else None
    if not wheels and not sdist:
        offered = [
            f"the index: {file.name} sha256:{file.sha256}" for file in (*candidate.wheels, candidate.sdist) if file
        ]
        locked = [f"the lock: {name} sha256:{sha256}" for sha256, name in pin.files.items()]
        hint = "the files were replaced at the index, or the lock was made for other platforms; lock again"
        raise LockMismatchError(
            f"{path.name} has no digest of any file of {pin.name} {pin.version} that the index offers",
            details=[*locked[:MOST_NAMED], *offered[:MOST_NAMED]],
            hint=hint,
        )
    return replace(candidate, wheels=wheels, sdist=sdist)
