"""Reads the project's text files, bounded in size; TOML, and the block of a PEP 723 script."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any

from lading.config.problems import BrokenFileError

LARGEST_FILE = 4 * 1024 * 1024
"""Bytes of a file that lading reads as configuration; the largest that CloudFormation takes is 1 MB."""
_START, _END = "# /// script", "# ///"


def read_text(path: Path) -> str:
    """A file as UTF-8 text. Raises BrokenFileError."""
    try:
        if not path.is_file():
            raise BrokenFileError(f"{path} is not a file", hint="correct the path")
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise BrokenFileError(f"{path} has more than {LARGEST_FILE:,} bytes", hint="is it really configuration?")
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise BrokenFileError(f"can't read {path}: {error}", hint="correct the path or the file") from error


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a table. Raises BrokenFileError with the line."""
    return parse_toml(read_text(path), str(path))


def parse_toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BrokenFileError(f"{where} is not valid TOML: {error}", hint="correct it at the place named") from error


def read_script(path: Path) -> tuple[str, dict[str, Any] | None]:
    """A Python file's text and the table of its `script` block (PEP 723), None where there is no block."""
    text = read_text(path).replace("\r\n", "\n")
    lines = [line.rstrip() for line in text.split("\n")]
    starts = [number for number, line in enumerate(lines) if line == _START]
    if not starts:
        return text, None
    body = list(itertools.takewhile(lambda line: line == "#" or line.startswith("# "), lines[starts[0] + 1 :]))
    if len(starts) > 1 or _END not in body:
        what = "no end" if _END not in body else "a second one"
        raise BrokenFileError(f"{path}: the `# /// script` block has {what}", hint=f"close it with a line `{_END}`")
    # PEP 723: the last closing line of the comment ends the block.
    last = len(body) - 1 - body[::-1].index(_END)
    content = "\n".join(line[2:] for line in body[:last])
    return text, parse_toml(content, f"{path}: the `# /// script` block")
