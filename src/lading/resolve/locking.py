"""Requirements → Lock: reuse the kept one while its inputs are the same, else resolve, or read the project's own lock."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lading.errors import ResolveError, StoreError
from lading.model.lock import Lock, LockedPackage
from lading.model.names import normalize
from lading.model.progress import Progress
from lading.model.requirements import Requirements
from lading.model.target import Target
from lading.resolve.inputs import Inputs, gather
from lading.resolve.policy import LockPlace, Policy
from lading.resolve.pylock import FORMAT, BadLockError, read_toml, render, to_lock


class FrozenError(ResolveError):
    """The kept lock is missing or does not match the requirements, and `frozen` forbids making it anew."""


def lock(requirements: Requirements, target: Target, place: LockPlace, policy: Policy, progress: Progress) -> Lock:
    """The versions and files for a target. Raises ResolveError (no solution, bad or frozen lock) or DownloadError (index)."""
    if requirements.is_empty:
        return Lock(target.key, ())
    inputs = gather(requirements, target, place.root)
    path = _kept_path(requirements, target, place)
    kept = None if policy.upgrade or policy.upgrade_packages else _reuse(path, inputs.digest, target)
    if kept is None:
        _refuse_if_frozen(requirements, path, policy)
        kept = _resolve(requirements, inputs, path, Ask(target, policy, progress))
    own = requirements.path if requirements.kind.is_lock else path
    return replace(kept, path=own, indexes=inputs.indexes)


def _kept_path(requirements: Requirements, target: Target, place: LockPlace) -> Path:
    """Beside the project; what is only derived from the project's own lock goes to a folder that git ignores."""
    path = place.path(target)
    return path.parent / ".lading" / path.name if requirements.kind.is_lock else path


def _reuse(path: Path, digest: str, target: Target) -> Lock | None:
    if not path.is_file():
        return None
    try:
        document = read_toml(path)
        note: Mapping[str, Any] = document.get("tool", {}).get("lading", {})
        if note.get("inputs") == digest and note.get("format") == FORMAT and note.get("target") == target.key:
            return to_lock(document, path, target)
    except (BadLockError, AttributeError):
        return None
    return None


def _refuse_if_frozen(requirements: Requirements, path: Path, policy: Policy) -> None:
    if not policy.frozen or requirements.kind.is_lock:
        return
    if policy.upgrade or policy.upgrade_packages:
        raise FrozenError("--frozen and --upgrade contradict each other", hint="give one of them")
    what = f"{path.name} does not match the requirements any more" if path.is_file() else f"there is no {path.name}"
    raise FrozenError(f"{what}, and --frozen keeps it so", hint="run once without --frozen and commit the lock")


@dataclass(frozen=True)
class Ask:
    """What a renewal is for and how far it may go."""

    target: Target
    policy: Policy
    progress: Progress


def _resolve(requirements: Requirements, inputs: Inputs, path: Path, ask: Ask) -> Lock:
    if requirements.kind.is_lock and (ask.policy.upgrade or ask.policy.upgrade_packages):
        ask.progress.note(f"{requirements.kind} decides the versions: upgrade it with the tool that made it")
    task = ask.progress.start(f"resolve for {ask.target}")
    if requirements.kind.is_lock:
        from lading.resolve.project_locks import read_project_lock

        packages = read_project_lock(requirements, ask.target, ask.policy, ask.progress)
    else:
        packages = _compile(requirements, inputs, path, ask)
    ask.progress.finish(task)
    made = Lock(ask.target.key, packages, _direct(inputs, packages), path)
    note = {"format": FORMAT, "target": ask.target.key, "inputs": inputs.digest, "direct": made.direct}
    text = render(packages, ask.target, path, note)
    if requirements.kind.is_lock:
        _keep_derived(path, text, ask.progress)
    else:
        _write(path, text)
    return made


def _compile(requirements: Requirements, inputs: Inputs, path: Path, ask: Ask) -> tuple[LockedPackage, ...]:
    from lading.resolve.candidate import settle
    from lading.resolve.compile import compile_requirements, preferred_versions, question_for

    preferred = {} if ask.policy.upgrade else preferred_versions(path)
    for name in ask.policy.upgrade_packages:
        preferred.pop(normalize(name), None)
    question = question_for(requirements, ask.target, inputs, offline=ask.policy.offline)
    return settle(compile_requirements(question, preferred, ask.progress), ask.target)


def _direct(inputs: Inputs, packages: tuple[LockedPackage, ...]) -> tuple[str, ...]:
    """Of the packages, those that the requirements name, or whose folder they name."""
    names = {normalize(name) for name in inputs.text.names}
    folders = set(inputs.text.folders)
    return tuple(
        package.name
        for package in packages
        if package.name in names or (package.source and package.source.directory in folders)
    )


def _keep_derived(path: Path, text: str, progress: Progress) -> None:
    """What the project's own lock means for a target is only a saving of time: where it can't be kept, it is made again."""
    try:
        _write(path.with_name(".gitignore"), "*\n")
        _write(path, text)
    except StoreError as error:
        progress.note(error.message)


def _write(path: Path, text: str) -> None:
    """Replace the file in one step, so that a kill leaves the old or the new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(f"can't write the lock {path}: {error}", hint="make the folder writable") from error
