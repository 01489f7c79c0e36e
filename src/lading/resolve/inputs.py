"""Everything that decides a resolution, gathered without running anything: its digest, the direct names, the indexes.

On the path of a build with nothing to do: reads small files, imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lading.errors import ResolveError
from lading.model.requirements import RequirementKind, Requirements
from lading.model.target import Target
from lading.resolve.pylock import FORMAT
from lading.resolve.redact import redact
from lading.resolve.requirement_files import RequirementText, read_requirements, take_requirement
from lading.resolve.settings import index_urls, read_settings, relevant

MAX_PROJECTS = 500
"""Local projects (path dependencies, workspace members) that one resolution may reach."""
_SCRIPT_BLOCK = re.compile(r"(?m)^# /// script\s*$\s(?P<content>(^#(| .*)$\s)+)^# ///\s*$")


class BadInputError(ResolveError):
    """A file that states requirements is missing, too large or not in its format."""


@dataclass
class Inputs:
    """What was found. `parts` are labelled texts, without absolute paths and credentials; equal parts resolve equally."""

    directory: Path
    """Where uv runs: paths in the requirements are relative to it."""
    parts: list[tuple[str, str]] = field(default_factory=list)
    text: RequirementText = field(default_factory=RequirementText)
    indexes: tuple[str, ...] = ()

    def add(self, label: str, content: object) -> None:
        text = content if isinstance(content, str) else json.dumps(content, sort_keys=True, default=str)
        self.parts.append((label, redact(text)))

    def relative(self, path: Path) -> str:
        return os.path.relpath(path, self.directory)

    @property
    def digest(self) -> str:
        """sha256 over the parts, lowercase hex."""
        return hashlib.sha256(json.dumps(self.parts).encode()).hexdigest()


def inputs_digest(requirements: Requirements, target: Target) -> str:
    """The sha256 (hex) of all that decides how the requirements resolve on the target. Runs nothing, reads small files."""
    return gather(requirements, target, Path.cwd()).digest


def gather(requirements: Requirements, target: Target, root: Path) -> Inputs:
    """Read what decides; `root` is where inline requirements' relative paths start. Raises BadInputError."""
    inputs = Inputs(requirements.path.parent if requirements.path else root)
    inputs.add("format", FORMAT)
    inputs.add("target", [target.key, target.runtime.os.glibc])
    inputs.add("selection", [requirements.kind, requirements.specifiers, requirements.extras, requirements.groups])
    for specifier in requirements.specifiers:
        take_requirement(specifier, inputs.text, inputs.directory)
    if requirements.path:
        _READERS[requirements.kind](requirements.path, inputs)
    if requirements.member:
        _from_pyproject(requirements.member / "pyproject.toml", inputs)
    _add_projects(inputs.text.folders, inputs)
    settings = read_settings(inputs.directory)
    inputs.add("settings", [settings.variables, settings.tables])
    inputs.indexes = tuple(dict.fromkeys([*inputs.text.indexes, *index_urls(settings)]))
    return inputs


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"can't read {path}: {error}", hint="correct the path in the configuration") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"{path} is not valid TOML: {error}") from error


def _from_file(path: Path, inputs: Inputs) -> None:
    found = read_requirements(path)
    for file, content in found.files.items():
        inputs.add(inputs.relative(file), content.decode("utf-8-sig"))
    inputs.text.names += found.names
    inputs.text.folders += found.folders
    inputs.text.indexes += found.indexes
    inputs.text.options += found.options


def _from_pyproject(path: Path, inputs: Inputs) -> None:
    document = _read_toml(path)
    inputs.add(path.name, _project_part(document))
    _take_stated(document, inputs)
    _add_dynamic(path, document, inputs)
    inputs.text.folders += _source_folders(document, path.parent)


def _take_stated(document: Mapping[str, Any], inputs: Inputs) -> None:
    """PEP 621 dependencies, all extras and groups: those not chosen are no part of the resolution and fall out there."""
    project = document.get("project", {})
    optional = _flat(project.get("optional-dependencies", {})) + _flat(document.get("dependency-groups", {}))
    for requirement in [*project.get("dependencies", ()), *optional]:
        take_requirement(requirement, inputs.text, inputs.directory)


def _flat(table: Mapping[str, Iterable[Any]]) -> list[str]:
    return [item for items in table.values() for item in items if isinstance(item, str)]


def _project_part(document: Mapping[str, Any]) -> dict[str, Any]:
    """Of a pyproject.toml, what decides a resolution; all of it when a build backend computes the dependencies."""
    project = document.get("project", {})
    if "project" not in document or "dependencies" in project.get("dynamic", ()):
        return {"all": document}
    keys = ("name", "version", "dependencies", "optional-dependencies", "requires-python", "dynamic")
    return {
        "project": {key: project[key] for key in keys if key in project},
        "groups": document.get("dependency-groups", {}),
        "uv": relevant(document.get("tool", {}).get("uv", {})),
    }


def _add_dynamic(path: Path, document: Mapping[str, Any], inputs: Inputs) -> None:
    if "all" not in _project_part(document):
        return
    for name in ("setup.py", "setup.cfg", "requirements.txt"):
        file = path.parent / name
        if file.is_file():
            inputs.add(inputs.relative(file), file.read_text("utf-8", errors="replace"))


def _source_folders(document: Mapping[str, Any], base: Path) -> list[Path]:
    """Local folders that [tool.uv.sources] and the workspace point at."""
    uv = document.get("tool", {}).get("uv", {})
    sources = [
        one for source in uv.get("sources", {}).values() for one in (source if isinstance(source, list) else [source])
    ]
    folders = [(base / source["path"]).resolve() for source in sources if "path" in source]
    if any(source.get("workspace") for source in sources) or "workspace" in uv:
        folders += _workspace_members(base)
    return folders


def _workspace_members(base: Path) -> list[Path]:
    """The workspace's root and members, for the nearest folder that declares one."""
    for folder in (base, *base.parents):
        file = folder / "pyproject.toml"
        workspace = _read_toml(file).get("tool", {}).get("uv", {}).get("workspace") if file.is_file() else None
        if workspace is not None:
            members = [path for pattern in workspace.get("members", ()) for path in sorted(folder.glob(pattern))]
            return [folder, *(member for member in members if (member / "pyproject.toml").is_file())]
    return []


def _from_script(path: Path, inputs: Inputs) -> None:
    metadata = script_metadata(path)
    inputs.add(path.name, metadata)
    for requirement in metadata.get("dependencies", ()):
        take_requirement(requirement, inputs.text, inputs.directory)
    inputs.text.folders += _source_folders(metadata, path.parent)


def script_metadata(path: Path) -> dict[str, Any]:
    """The `script` block of PEP 723 as a table. Raises BadInputError where there is none, or more than one."""
    blocks = list(_SCRIPT_BLOCK.finditer(_read_text(path)))
    if len(blocks) != 1:
        found = "no" if not blocks else "more than one"
        raise BadInputError(f"{path} has {found} `# /// script` block", hint="see PEP 723: inline script metadata")
    lines = [line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines()]
    try:
        return tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"{path}: the `# /// script` block is not valid TOML: {error}") from error


def _from_lock(path: Path, inputs: Inputs) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"can't read {path}: {error}", hint="correct the path in the configuration") from error
    inputs.add(path.name, hashlib.sha256(content).hexdigest())
    project = path.with_name("pyproject.toml")
    if project.is_file():
        document = _read_toml(project)
        poetry = document.get("tool", {}).get("poetry", {})
        inputs.add(project.name, {**_project_part(document), "poetry": poetry})
        _take_stated(document, inputs)
        inputs.text.names += [name for name in poetry.get("dependencies", {}) if name != "python"]
    pipfile = path.with_name("Pipfile")
    if path.name == "Pipfile.lock" and pipfile.is_file():
        inputs.text.names += _read_toml(pipfile).get("packages", {})


def _add_projects(folders: Iterable[Path], inputs: Inputs) -> None:
    """The project files of local dependencies, and of theirs: they state more requirements."""
    waiting, seen = list(folders), set[Path]()
    while waiting:
        folder = waiting.pop()
        if folder in seen:
            continue
        seen.add(folder)
        if len(seen) > MAX_PROJECTS:
            raise BadInputError(f"more than {MAX_PROJECTS} local projects depend on each other from {inputs.directory}")
        file = folder / "pyproject.toml"
        if file.is_file():
            document = _read_toml(file)
            inputs.add(inputs.relative(file), _project_part(document))
            _add_dynamic(file, document, inputs)
            waiting += _source_folders(document, folder)
        elif folder.is_dir():
            for name in ("setup.py", "setup.cfg"):
                if (folder / name).is_file():
                    inputs.add(inputs.relative(folder / name), _read_text(folder / name))
        elif folder.is_file():
            inputs.add(inputs.relative(folder), hashlib.sha256(folder.read_bytes()).hexdigest())


_READERS = {
    RequirementKind.FILE: _from_file,
    RequirementKind.PYPROJECT: _from_pyproject,
    RequirementKind.SCRIPT: _from_script,
    RequirementKind.UV_LOCK: _from_lock,
    RequirementKind.POETRY_LOCK: _from_lock,
    RequirementKind.PDM_LOCK: _from_lock,
    RequirementKind.PIPFILE_LOCK: _from_lock,
    RequirementKind.PYLOCK: _from_lock,
}
