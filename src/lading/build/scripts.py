"""A distribution's commands as files: entry points become scripts, `#!python` lines name Lambda's interpreter. Pure."""

from __future__ import annotations

import configparser
import re

from lading.errors import BuildError

INTERPRETER = "/var/lang/bin/python3"
"""Every managed Python runtime has it, whatever its version, so that scripts are the same for all."""
_NAME = re.compile(r"[\w.+-][\w.+ -]*")
_REFERENCE = re.compile(r"\s*([^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*:\s*([^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*(?:\[[^\]]*\])?\s*")


class EntryPointError(BuildError):
    """A distribution's entry_points.txt can't be read or names something that is not Python's."""


def rewrite_interpreter(content: bytes) -> bytes:
    """A script whose first line says `#!python` or `#!pythonw` (PEP 427), with the interpreter filled in."""
    line, newline, rest = content.partition(b"\n")
    if not line.startswith(b"#!python"):
        return content
    _, _, arguments = line.partition(b" ")
    return b"#!" + INTERPRETER.encode() + (b" " + arguments.strip() if arguments.strip() else b"") + newline + rest


def entry_point_scripts(text: str, label: str) -> dict[str, bytes]:
    """Command name → script, for console and GUI entry points alike. Raises EntryPointError naming `label`.

    The script finds its packages beside its own folder: they may be under /var/task or /opt/python.
    """
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise EntryPointError(
            f"{label}: entry_points.txt is not readable: {error}", hint="the wheel is broken"
        ) from None
    scripts: dict[str, bytes] = {}
    for section in ("console_scripts", "gui_scripts"):
        for name, reference in parser.items(section) if parser.has_section(section) else ():
            match = _REFERENCE.fullmatch(reference)
            if not _NAME.fullmatch(name) or match is None:
                raise EntryPointError(
                    f"{label}: entry point {name} = {reference} is not valid", hint="the wheel is broken"
                )
            scripts[name] = _script(match[1], match[2])
    return scripts


def _script(module: str, attribute: str) -> bytes:
    first = attribute.split(".")[0]
    return (
        f"#!{INTERPRETER}\n"
        "import os\nimport sys\n\n"
        "sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))\n"
        f"from {module} import {first}\n\n"
        f'if __name__ == "__main__":\n    sys.exit({attribute}())\n'
    ).encode()
