"""Reads requirements.txt files with what they include, as lines. Finds what decides a resolution; uv alone interprets it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lading.errors import ResolveError

MAX_BYTES = 8 << 20
MAX_FILES = 200
_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*(?:[<>=!~;@(,]|$|\s--?\w)")
_OPTION = re.compile(r"(-[a-zA-Z]|--[a-z-]+)(?:\s*=\s*|\s+|(?<=-[a-zA-Z]))?(.*)", re.DOTALL)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_INCLUDES = {"-r", "--requirement", "--requirements", "-c", "--constraint", "--constraints"}
_INDEXES = {"-i", "--index-url", "--extra-index-url", "--index", "--default-index"}
_PLACES = _INDEXES | {"-f", "--find-links", "--no-index", "--pre", "--trusted-host"}


class BadRequirementsError(ResolveError):
    """A requirements file can't be read or includes too much."""


@dataclass
class RequirementText:
    """What a tree of requirements files says, in reading order."""

    files: dict[Path, bytes] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    """As written, of the direct requirements (not of constraints)."""
    folders: list[Path] = field(default_factory=list)
    """Absolute, of local requirements: a folder or a file."""
    options: list[str] = field(default_factory=list)
    """Lines that say where to look for packages, as written."""
    indexes: list[str] = field(default_factory=list)
    """Index URLs as written, credentials and all."""


def read_requirements(path: Path) -> RequirementText:
    """The file and everything it includes with -r and -c. Raises BadRequirementsError."""
    text = RequirementText()
    _read(path, text, base=path.parent, direct=True)
    return text


def _read(path: Path, text: RequirementText, *, base: Path, direct: bool) -> None:
    if path in text.files:
        return
    if len(text.files) >= MAX_FILES:
        raise BadRequirementsError(f"{path}: more than {MAX_FILES} requirements files include each other")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadRequirementsError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
        data = path.read_bytes()
        content = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        hint = "correct the path, or the -r or -c line that names it"
        raise BadRequirementsError(f"can't read requirements file {path}: {error}", hint=hint) from error
    text.files[path] = data
    for line in content.replace("\\\r\n", "").replace("\\\n", "").splitlines():
        stripped = _COMMENT.sub("", line).strip()
        if stripped:
            _take(stripped, path, text, base=base, direct=direct)


def _take(line: str, path: Path, text: RequirementText, *, base: Path, direct: bool) -> None:
    option, value = _split_option(line)
    if option in _INCLUDES:
        if "://" not in value:
            _read((path.parent / value).absolute(), text, base=base, direct=direct and option.lstrip("-")[0] == "r")
    elif option in _PLACES:
        text.options.append(line)
        if option in _INDEXES:
            text.indexes.append(value)
    elif direct and option in ("", "-e", "--editable"):
        take_requirement(value, text, base)


def _split_option(line: str) -> tuple[str, str]:
    if not line.startswith("-"):
        return "", line
    match = _OPTION.match(line)
    return (match[1], match[2].strip().strip("'\"")) if match else ("", line)


def take_requirement(line: str, text: RequirementText, base: Path) -> None:
    """Note the name, the local path, or both, that one PEP 508 (or pip-style path) requirement gives."""
    match = _NAME.match(line)
    location = line.split("@", 1)[1].strip() if match and "@" in line else ""
    if match and not _is_path(line):
        text.names.append(match[1])
    else:
        location = line
    local = _local_path(location.split(";")[0].split(" --")[0].strip(), base)
    if local:
        text.folders.append(local)


def _is_path(line: str) -> bool:
    return line.startswith((".", "/", "file:")) or ("/" in line.split("[")[0].split(";")[0] and "@" not in line)


def _local_path(location: str, base: Path) -> Path | None:
    location = re.sub(r"\[[^\]]*\]$", "", location)
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    if not location or "://" in location or location.startswith("git+"):
        return None
    return Path(unquote(str((base / location).resolve())))
