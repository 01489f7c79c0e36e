"""Asks uv to resolve for a target, and steps back from versions whose wheels don't fit it (docs/concepts/resolving.md)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lading.errors import ResolveError
from lading.model.progress import Progress
from lading.model.requirements import RequirementKind, Requirements
from lading.model.target import Target
from lading.resolve.candidate import Candidate
from lading.resolve.fit import why_not
from lading.resolve.inputs import Inputs
from lading.resolve.pylock import BadLockError, parse, read_toml
from lading.resolve.uv import explain_failure, run_uv

UV_GLIBC = ((2, 17), (2, 28), *((2, minor) for minor in range(31, 41)))
"""glibc versions that uv has a --python-platform for (`uv pip compile --help`, uv 0.13)."""
MAX_ROUNDS = 8


class NoSolutionError(ResolveError):
    """The requirements contradict each other, or nothing published meets them on the target."""


@dataclass(frozen=True)
class Question:
    """What uv is asked, the same in every round. `directory` is where relative paths start."""

    sources: tuple[str, ...]
    stdin: str
    directory: Path
    target: Target
    offline: bool = False
    options: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    """Lines of the requirements files that say where packages are looked for, as a requirements file may repeat them."""


@dataclass(frozen=True)
class Terms:
    """What one round adds: upper bounds, names whose sdists are refused, versions preferred, the oldest glibc or the nearest."""

    bounds: Mapping[str, str] = field(default_factory=dict)
    only_wheels: frozenset[str] = frozenset()
    preferred: Mapping[str, str] = field(default_factory=dict)
    oldest: bool = False


def question_for(requirements: Requirements, target: Target, inputs: Inputs, *, offline: bool) -> Question:
    """The question that a set of requirements (not a lock) stands for."""
    sources = [str(requirements.path)] if requirements.path else []
    if requirements.specifiers or not sources:
        sources.append("-")
    options = [option for extra in requirements.extras for option in ("--extra", extra)]
    if requirements.kind is RequirementKind.PYPROJECT:
        options += [option for group in requirements.groups for option in ("--group", f"{requirements.path}:{group}")]
    stdin = "\n".join(requirements.specifiers)
    return Question(
        tuple(sources), stdin, inputs.directory, target, offline, tuple(options), tuple(inputs.text.options)
    )


def compile_requirements(question: Question, preferred: Mapping[str, str], progress: Progress) -> tuple[Candidate, ...]:
    """Every package of the resolution, each with a wheel that fits, an sdist or a source. Raises ResolveError."""
    terms = Terms(preferred=preferred)
    found = solve(question, terms)
    sdists: frozenset[str] = frozenset()
    for _ in range(MAX_ROUNDS):
        misfits = _misfits(found, question.target) - sdists
        if not misfits:
            return found
        before, earlier = found, terms
        terms, refused = _step_back(question, terms, misfits)
        sdists |= refused
        if terms == earlier:
            return found
        found = solve(question, terms)
        _tell(before, found, question.target, progress)
    return found


def _misfits(found: Iterable[Candidate], target: Target) -> frozenset[str]:
    return frozenset(candidate.name for candidate in found if not candidate.fits(target))


def _step_back(question: Question, terms: Terms, misfits: frozenset[str]) -> tuple[Terms, frozenset[str]]:
    """New terms under which the misfits come as wheels, and those that never do: they stay sdists."""
    oldest = _platform_glibc(question.target) != question.target.runtime.os.glibc
    probe = replace(terms, oldest=oldest)
    hopeful = _with_wheels(question, misfits, oldest=oldest)
    wanted, refused = terms.only_wheels | hopeful, misfits - hopeful
    solution = _try(question, replace(probe, only_wheels=wanted)) if hopeful else None
    if hopeful and solution is None:
        wanted = terms.only_wheels
        for name in sorted(hopeful):
            attempt = _try(question, replace(probe, only_wheels=wanted | {name}))
            if attempt is None:
                refused |= {name}
            else:
                wanted, solution = wanted | {name}, attempt
    bounds = dict(terms.bounds)
    if oldest and solution:
        bounds |= {candidate.name: candidate.version for candidate in solution if candidate.name in wanted & misfits}
    return replace(terms, only_wheels=wanted, bounds=bounds), refused


def _with_wheels(question: Question, names: frozenset[str], *, oldest: bool) -> frozenset[str]:
    """Of the names, those of which any version at all has a usable wheel. One quick run each, without dependencies: asking
    uv to refuse the sdists of all at once would make it search through every old release of what depends on them.
    """
    from concurrent.futures import ThreadPoolExecutor

    def has_wheels(name: str) -> bool:
        lines = "\n".join([*question.places, name])
        alone = replace(question, sources=("-",), stdin=lines, options=("--no-deps",))
        return _try(alone, Terms(only_wheels=frozenset({name}), oldest=oldest)) is not None

    ordered = sorted(names)
    with ThreadPoolExecutor(4) as pool:
        return frozenset(name for name, found in zip(ordered, pool.map(has_wheels, ordered), strict=True) if found)


def _try(question: Question, terms: Terms) -> tuple[Candidate, ...] | None:
    try:
        return solve(question, terms)
    except NoSolutionError:
        return None


def solve(question: Question, terms: Terms) -> tuple[Candidate, ...]:
    """One run of uv. Raises NoSolutionError, or DownloadError where an index fails."""
    with tempfile.TemporaryDirectory(prefix="lading-") as name:
        folder = Path(name).resolve()
        output, constraints = folder / "pylock.toml", folder / "constraints.txt"
        if terms.preferred:
            output.write_text(_preferences(terms.preferred), "utf-8")
        constraints.write_text("".join(f"{name}<={version}\n" for name, version in terms.bounds.items()), "utf-8")
        result = run_uv(
            _arguments(question, terms, output, constraints),
            directory=question.directory,
            stdin=question.stdin,
            offline=question.offline,
        )
        if result.returncode:
            raise _failure(question, result.stderr)
        entries = parse(read_toml(output), output)
    return tuple(entry.candidate for entry in entries)


def _failure(question: Question, stderr: str) -> Exception:
    doing = f"no resolution for {question.target}"
    error = explain_failure(stderr, doing=doing, offline=question.offline)
    if isinstance(error, ResolveError):
        return NoSolutionError(error.message, details=error.details, hint=error.hint)
    return error


def _arguments(question: Question, terms: Terms, output: Path, constraints: Path) -> list[str]:
    target = question.target
    major, minor = (2, 17) if terms.oldest else _platform_glibc(target)
    arguments = ["pip", "compile", *question.sources, *question.options]
    arguments += ["--python-version", target.runtime.python_version]
    arguments += ["--python-platform", f"{target.architecture.machine}-manylinux_{major}_{minor}"]
    arguments += ["--no-python-downloads", "--no-header", "--quiet"]
    arguments += ["--format", "pylock.toml", "--output-file", str(output)]
    if terms.bounds:
        arguments += ["--constraints", str(constraints)]
    for name in sorted(terms.only_wheels):
        arguments += ["--only-binary", name]
    return arguments


def _platform_glibc(target: Target) -> tuple[int, int]:
    """The oldest glibc uv knows that is not older than the target's: no wheel that fits is overlooked."""
    return min((glibc for glibc in UV_GLIBC if glibc >= target.runtime.os.glibc), default=UV_GLIBC[-1])


def _preferences(preferred: Mapping[str, str]) -> str:
    """A pylock that says only names and versions: uv keeps those of an existing output file where it can."""
    import json

    lines = ['lock-version = "1.0"', 'created-by = "lading"']
    for name, version in preferred.items():
        lines += ["[[packages]]", f"name = {json.dumps(name)}", f"version = {json.dumps(version)}"]
    return "\n".join(lines) + "\n"


def preferred_versions(path: Path) -> dict[str, str]:
    """Name → version of a lock kept earlier; empty when there is none or it can't be read (it is about to be replaced)."""
    try:
        entries = parse(read_toml(path), path) if path.is_file() else ()
    except BadLockError:
        return {}
    return {entry.candidate.name: entry.candidate.version for entry in entries if entry.candidate.version}


def _tell(before: Iterable[Candidate], after: Iterable[Candidate], target: Target, progress: Progress) -> None:
    """A note for each package that stepped back, with the reason."""
    now = {candidate.name: candidate.version for candidate in after}
    for candidate in before:
        if candidate.fits(target) or now.get(candidate.name, candidate.version) == candidate.version:
            continue
        reason = why_not(candidate.wheels[0].name, target) if candidate.wheels else "no wheel of it fits"
        progress.note(f"{candidate.name} {candidate.version} → {now[candidate.name]} on {target}: {reason}")
