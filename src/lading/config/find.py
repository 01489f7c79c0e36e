"""Finds what defines the project, from a folder or a file, and reads it into a Declaration."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lading.config.assembly import NO_HANDLER, assemble, valid_name
from lading.config.declaration import Declaration
from lading.config.handlers import handler_in
from lading.config.problems import BrokenFileError, MissingConfigError, Problems
from lading.config.reading import parse_toml, read_script, read_text, read_toml
from lading.config.requirement_source import find_requirements, kind_of
from lading.config.stages import with_stage
from lading.model.project import Project

TEMPLATES = ("template.yaml", "template.yml", "template.json")


def load(
    start: Path,
    *,
    runtime: str | None = None,
    architecture: str | Sequence[str] | None = None,
    handler: str | None = None,
    stage: str = "",
) -> Project:
    """The project of a folder or a file; the overrides hold for all its functions and layers. Raises ConfigError.

    Several architectures are for images; the first is that of everything else.
    """
    several = [architecture] if isinstance(architecture, str) else list(architecture or ())
    given = {"runtime": runtime, "architecture": several[0] if several else None, "handler": handler}
    overrides: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if several:
        overrides["architectures"] = several
    declaration = with_stage(_declare(Path(os.path.normpath(start.absolute()))), stage)
    return assemble(declaration, overrides, stage)


def _declare(start: Path) -> Declaration:
    if start.is_dir():
        return _from_folder(start)
    if not start.exists():
        raise MissingConfigError(f"{start} does not exist", hint="give the project's folder, or one of its files")
    if start.name == "pyproject.toml":
        return _from_pyproject(start, read_toml(start))
    if start.suffix in {".yaml", ".yml", ".json"}:
        return _from_template(start)
    if start.suffix == ".py":
        return _from_script(start)
    kind_of(start)
    return Declaration(
        start.parent, start, name=valid_name(start.parent.name), document=_document(start.parent), requirements=start
    )


def _from_folder(folder: Path) -> Declaration:
    """1. [tool.lading] here or above 2. a template here 3. a pyproject.toml here 4. a handler here."""
    for place in _upwards(folder):
        path = place / "pyproject.toml"
        text = read_text(path) if path.is_file() else ""
        document = parse_toml(text, str(path)) if "lading" in text else {}
        if _lading_table(document) is not None:
            return _from_pyproject(path, document)
    for name in TEMPLATES:
        if (folder / name).is_file():
            return _from_template(folder / name)
    if (folder / "pyproject.toml").is_file():
        return _from_pyproject(folder / "pyproject.toml", read_toml(folder / "pyproject.toml"))
    return Declaration(folder, _origin(folder), name=valid_name(folder.name))


def _origin(folder: Path) -> Path:
    """For messages: the file of requirements, or the folder."""
    return find_requirements(folder).path or folder


def _upwards(folder: Path) -> list[Path]:
    """The folder and its parents, up to the repository's root or below the home folder."""
    places = [folder]
    home = Path.home()
    for parent in folder.parents:
        if (places[-1] / ".git").exists() or places[-1] == home or parent == home or parent == Path(parent.anchor):
            break
        places.append(parent)
    return places


def _lading_table(document: Mapping[str, Any]) -> object:
    tool = document.get("tool")
    return tool.get("lading") if isinstance(tool, Mapping) else None


def _document(folder: Path) -> dict[str, Any]:
    path = folder / "pyproject.toml"
    return read_toml(path) if path.is_file() else {}


def _from_pyproject(path: Path, document: Mapping[str, Any]) -> Declaration:
    problems = Problems(path)
    table = _lading_table(document)
    settings = _split(table if table is not None else {}, problems)
    problems.raise_any()
    project = document.get("project")
    stated = project.get("name") if isinstance(project, Mapping) else None
    name = stated if isinstance(stated, str) and stated else path.parent.name
    return Declaration(path.parent, path, **settings, name=valid_name(name), document=document)


def _split(table: object, problems: Problems) -> dict[str, Any]:
    """[tool.lading] as defaults, functions and layers."""
    if not isinstance(table, Mapping):
        problems.add("tool.lading", f"must be a table, not {table!r}")
        return {}
    parts: dict[str, Any] = {"defaults": {}, "functions": {}, "layers": {}}
    for key, value in table.items():
        if key not in parts or key == "defaults":
            parts["defaults"][key] = value
        elif isinstance(value, Mapping):
            parts[key] = value
        else:
            problems.add(
                f"tool.lading.{key}", f"must be a table of tables, not {value!r}", f"write [tool.lading.{key}.NAME]"
            )
    return parts


def _from_script(path: Path) -> Declaration:
    """One file is one function: its own block says what it needs, else what stands beside it does."""
    _, block = read_script(path)
    function = handler_in(path)
    if block is None and not function:
        raise MissingConfigError(f"{path.name} defines neither lambda_handler nor handler", hint=NO_HANDLER)
    problems = Problems(path)
    table = _lading_table(block or {})
    settings = _split(table if table is not None else {}, problems)
    if settings.get("functions") or settings.get("layers"):
        problems.add(
            "tool.lading", "one script is one function, without functions or layers of its own", "use pyproject.toml"
        )
    problems.raise_any()
    defaults = {"source": path.name, **settings["defaults"]}
    if block is None:
        beside, document = find_requirements(path.parent).path, _document(path.parent)
    else:
        beside, document = (path if block.get("dependencies") else None), block
    if beside is None:
        defaults.setdefault("requirements", [])
    return Declaration(path.parent, path, defaults, name=valid_name(path.stem), document=document, requirements=beside)


def _from_template(path: Path) -> Declaration:
    from lading.config.sam import read_template

    try:
        return read_template(path)
    except RecursionError as error:
        raise BrokenFileError(f"{path} is nested too deeply", hint="is it a SAM template?") from error
