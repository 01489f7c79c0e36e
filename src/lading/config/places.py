"""Paths that the user wrote → absolute paths within the repository; and what of a source isn't packed by default."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from lading.config.problems import BrokenFileError, InvalidConfigError
from lading.model.suggest import did_you_mean

DEFAULT_EXCLUDES = (
    "__pycache__/",
    "*.pyc",
    ".git/",
    ".venv/",
    "venv/",
    "node_modules/",
    ".lading/",
    ".aws-sam/",
    "*.egg-info/",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".env",
    ".env.*",
    "/.gitignore",
    "/.python-version",
    "/pyproject.toml",
    "/requirements*.txt",
    "/pylock.toml",
    "/pylock.*.toml",
    "/uv.lock",
    "/poetry.lock",
    "/pdm.lock",
    "/Pipfile",
    "/Pipfile.lock",
    "/template.yaml",
    "/template.yml",
    "/samconfig.toml",
)
"""Caches, environments, secrets, and at the root of a source the files that say how to build it."""


def repository(folder: Path) -> Path:
    """The nearest folder upwards that holds .git; the folder itself when there is none."""
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), folder)


def place(text: str, root: Path, *, what: str) -> Path:
    """An absolute path. Relative ones start from `root` and, links followed, stay in its repository."""
    path = Path(text)
    if path.is_absolute():
        return Path(os.path.normpath(path))
    found = Path(os.path.normpath(root / path))
    bounds = repository(root)
    try:
        inside = found.is_relative_to(bounds) and found.resolve().is_relative_to(bounds.resolve())
    except (OSError, RuntimeError) as error:
        raise BrokenFileError(f"can't follow {text!r}: {error}", hint="correct the path or the link") from error
    if not inside:
        raise InvalidConfigError(
            f"{what} {text!r} leads out of {bounds}", hint="write it as an absolute path if it is meant"
        )
    return found


def existing(text: str, root: Path, *, what: str) -> Path:
    """The same for a file or folder that must be there. Raises BrokenFileError."""
    path = place(text, root, what=what)
    if not path.exists():
        raise BrokenFileError(f"{what} {text!r} does not exist", hint=f"make {path}, or correct the path")
    return path


def excludes(source: Path, output: Path, own: Iterable[str]) -> tuple[str, ...]:
    """Default patterns, less those that `!pattern` lifts, the output folder and the user's own."""
    own = tuple(own)
    lifted = {pattern[1:] for pattern in own if pattern.startswith("!")}
    for pattern in sorted(lifted.difference(DEFAULT_EXCLUDES)):
        hint = did_you_mean(pattern, DEFAULT_EXCLUDES)
        raise InvalidConfigError(f"'!{pattern}' lifts no default exclude", hint=hint)
    made = [f"/{output.relative_to(source).as_posix()}/"] if output != source and output.is_relative_to(source) else []
    kept = [pattern for pattern in DEFAULT_EXCLUDES if pattern not in lifted]
    return (*kept, *made, *(pattern for pattern in own if not pattern.startswith("!")))
