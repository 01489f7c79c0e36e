"""The runtime of a project that names none: from requires-python, else .python-version, else the default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lading.config.problems import InvalidConfigError
from lading.config.reading import read_text
from lading.model.target import runtimes

DEFAULT_RUNTIME = "python3.13"
"""The newest for which nearly every binary package has wheels."""
DEFAULT_ARCHITECTURE = "x86_64"


def default_runtime(folder: Path, requires: str) -> str:
    """1. .python-version, when requires-python allows it 2. the default, or the newest that requires-python allows."""
    stated = _python_version(folder)
    allowed = _allowed(requires)
    if stated and stated in allowed:
        return stated
    if stated and not requires:
        raise InvalidConfigError(f".python-version names {stated}, which is no Lambda runtime", hint="set `runtime`")
    return DEFAULT_RUNTIME if DEFAULT_RUNTIME in allowed else allowed[-1]


def requires_python(document: Mapping[str, Any]) -> str:
    """Of a pyproject.toml (in its project table) or of a script block."""
    project = document.get("project")
    value = project.get("requires-python", "") if isinstance(project, Mapping) else document.get("requires-python", "")
    if not isinstance(value, str):
        raise InvalidConfigError(f"requires-python must be a string, not {value!r}")
    return value


def _python_version(folder: Path) -> str:
    path = folder / ".python-version"
    if not path.is_file():
        return ""
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
    match = re.fullmatch(r"(?:cpython-|python-?)?(\d+\.\d+)(?:\.\d+)?(?:[-+].*)?", lines[0]) if lines else None
    return f"python{match[1]}" if match else ""


def _allowed(requires: str) -> list[str]:
    """Runtimes that a requires-python allows, oldest first. Raises InvalidConfigError when there is none."""
    if not requires:
        return list(runtimes())
    simple = re.fullmatch(r">= ?3\.(\d{1,3})", requires)
    if simple and (newer := [name for name, runtime in runtimes().items() if runtime.python >= (3, int(simple[1]))]):
        return newer
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        specifier = SpecifierSet(requires)
    except InvalidSpecifier as error:
        raise InvalidConfigError(
            f"requires-python {requires!r} is not a version specifier", hint="such as >=3.12"
        ) from error
    # A patch level no lower bound reaches: ">=3.13.2" means the runtime python3.13, whose patch level AWS moves.
    allowed = [name for name, runtime in runtimes().items() if specifier.contains(f"{runtime.python_version}.999")]
    allowed = allowed or [
        name for name, runtime in runtimes().items() if specifier.contains(f"{runtime.python_version}.0")
    ]
    if not allowed:
        raise InvalidConfigError(
            f"requires-python {requires!r} allows no Lambda runtime", hint="known: " + ", ".join(runtimes())
        )
    return allowed
