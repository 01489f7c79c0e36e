"""Which file states a function's requirements. Looks at names and tables only; resolving is not its business."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any

from lading.config.problems import BrokenFileError, Problems
from lading.config.reading import read_toml
from lading.model.names import normalize
from lading.model.requirements import RequirementKind, Requirements
from lading.model.suggest import did_you_mean

LOCKS = {
    "pylock.toml": RequirementKind.PYLOCK,
    "uv.lock": RequirementKind.UV_LOCK,
    "poetry.lock": RequirementKind.POETRY_LOCK,
    "pdm.lock": RequirementKind.PDM_LOCK,
    "Pipfile.lock": RequirementKind.PIPFILE_LOCK,
}
"""In order of precedence. A lock beats the loose file beside it."""
NONE = Requirements(RequirementKind.INLINE)
_PLAIN = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?(?: ?(?:==|>=|<=|~=|<|>|!=) ?\d+(?:\.\d+)*)?")
"""Most requirements: known to be right without importing a parser."""
_GROUPED = {
    RequirementKind.PYPROJECT,
    RequirementKind.UV_LOCK,
    RequirementKind.POETRY_LOCK,
    RequirementKind.PDM_LOCK,
    RequirementKind.PIPFILE_LOCK,
    RequirementKind.PYLOCK,
}


def find_requirements(folder: Path, document: Mapping[str, Any] | None = None) -> Requirements:
    """What a folder states: 1. a lock, its own or its uv workspace's 2. pyproject.toml 3. requirements.txt 4. nothing."""
    for name, kind in LOCKS.items():
        if (folder / name).is_file():
            return Requirements(kind, folder / name)
    project = folder / "pyproject.toml"
    if project.is_file():
        document = read_toml(project) if document is None else document
        if _states_dependencies(document):
            workspace = _workspace_lock(folder)
            if workspace:
                return Requirements(RequirementKind.UV_LOCK, workspace, member=folder)
            return Requirements(RequirementKind.PYPROJECT, project)
    loose = folder / "requirements.txt"
    return Requirements(RequirementKind.FILE, loose) if loose.is_file() else NONE


def _workspace_lock(folder: Path) -> Path | None:
    """The uv.lock of the uv workspace that the folder is a member of. The nearest workspace above decides, as for uv."""
    for place in folder.parents:
        project = place / "pyproject.toml"
        workspace = _table(read_toml(project), "tool", "uv").get("workspace") if project.is_file() else None
        if isinstance(workspace, Mapping):
            lock = place / "uv.lock"
            return lock if lock.is_file() and _is_member(folder.relative_to(place), workspace) else None
    return None


def _is_member(folder: PurePath, workspace: Mapping[str, Any]) -> bool:
    """By the patterns of `members` and `exclude`, in which `*` stays within one folder's name."""

    def among(key: str) -> bool:
        return any(_matches(folder.parts, PurePath(pattern).parts) for pattern in map(str, workspace.get(key, ())))

    return among("members") and not among("exclude")


def _matches(parts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return _matches(parts, patterns[1:]) or bool(parts and _matches(parts[1:], patterns))
    return bool(parts and fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:]))


def _states_dependencies(document: Mapping[str, Any]) -> bool:
    project = document.get("project")
    if not isinstance(project, Mapping):
        return bool(document.get("dependency-groups"))
    dynamic = project.get("dynamic", ())
    stated = ("dependencies", "optional-dependencies")
    return any(key in project for key in stated) or "dependencies" in dynamic or "dependency-groups" in document


def kind_of(path: Path) -> RequirementKind:
    """What a file is, by its name. Raises BrokenFileError for one that states no requirements."""
    if path.name in LOCKS:
        return LOCKS[path.name]
    if path.name.startswith("pylock.") and path.suffix == ".toml":
        return RequirementKind.PYLOCK
    if path.name == "pyproject.toml":
        return RequirementKind.PYPROJECT
    if path.suffix == ".py":
        return RequirementKind.SCRIPT
    if path.suffix in {".txt", ".in"}:
        return RequirementKind.FILE
    known = ", ".join(["*.txt", "*.in", "*.py", "pyproject.toml", *LOCKS])
    raise BrokenFileError(f"{path.name} is no file of requirements that lading knows", hint=f"known: {known}")


def requirements_at(path: Path) -> Requirements:
    """Those of a named file. Raises BrokenFileError when it isn't there or isn't one."""
    kind = kind_of(path)
    if not path.is_file():
        raise BrokenFileError(f"{path} is not a file", hint="correct the path")
    return Requirements(kind, path)


def with_packages(requirements: Requirements, packages: Iterable[str], where: str, problems: Problems) -> Requirements:
    """The same with PEP 508 requirements added, each checked."""
    packages = tuple(packages)
    if packages and requirements.kind.is_lock:
        assert requirements.path is not None
        problems.add(
            where, f"{requirements.path.name} is a lock: packages can't be added to it", "add them to what it locks"
        )
        return requirements
    for package in packages:
        problem = _specifier_problem(package)
        if problem:
            problems.add(where, f"{package!r} is not a requirement: {problem}", 'such as "requests>=2.32"')
    return replace(requirements, specifiers=packages)


def _specifier_problem(text: str) -> str:
    """Local paths and editables are pip's own notation, and are checked where they are resolved."""
    if text.startswith(("-e ", "--editable ", ".", "/")) or _PLAIN.fullmatch(text):
        return ""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(text)
    except InvalidRequirement as error:
        return str(error).splitlines()[0]
    return ""


def with_selection(
    requirements: Requirements, extras: Iterable[str], groups: Iterable[str], where: str, problems: Problems
) -> Requirements:
    """The same with extras and groups, which the pyproject.toml must have where there is one."""
    extras, groups = tuple(extras), tuple(groups)
    if not extras and not groups:
        return requirements
    if requirements.kind not in _GROUPED or requirements.path is None:
        name = requirements.path.name if requirements.path else "a list"
        problems.add(
            where, f"extras and groups need a pyproject.toml or a lock, not {name}", "name the packages instead"
        )
        return requirements
    project = (requirements.home or requirements.path.parent) / "pyproject.toml"
    if project.is_file():
        known_extras, known_groups = _selectable(read_toml(project))
        _check_names(extras, known_extras, f"{where}.extras", problems)
        _check_names(groups, known_groups, f"{where}.groups", problems)
    return replace(requirements, extras=extras, groups=groups)


def _selectable(document: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Extras and groups that a pyproject.toml offers, by PEP 621, PEP 735, Poetry's and PDM's own tables."""
    extras = {*_table(document, "project", "optional-dependencies"), *_table(document, "tool", "poetry", "extras")}
    groups = {
        *_table(document, "dependency-groups"),
        *_table(document, "tool", "poetry", "group"),
        *_table(document, "tool", "pdm", "dev-dependencies"),
    }
    return extras, groups


def _table(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    value: object = document
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _check_names(names: Iterable[str], known: set[str], where: str, problems: Problems) -> None:
    normal = {normalize(name) for name in known}
    for name in names:
        if normalize(name) not in normal:
            hint = did_you_mean(name, sorted(known)) if known else "pyproject.toml has none"
            problems.add(where, f"there is no {name!r} in pyproject.toml", hint)
