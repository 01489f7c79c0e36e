"""Include and exclude patterns over a source tree, after gitignore's rules without negation. Pure: paths in, yes or no out.

`*` and `?` stop at a slash, `**` doesn't, `[...]` is a set. A pattern without a slash (but at its end) matches at any
depth, one with a slash from the root. A trailing slash matches folders only. What is below a matching folder matches.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from lading.errors import ConfigError

ALWAYS_EXCLUDED = (
    "__pycache__/",
    ".git/",
    ".hg/",
    ".svn/",
    ".venv/",
    ".tox/",
    ".nox/",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".hypothesis/",
    ".aws-sam/",
    "node_modules/",
    ".DS_Store",
)
"""Never part of a function: caches, environments, version control."""


_RANGE = re.compile(r"(?<=[0-9A-Za-z])\\-(?=[0-9A-Za-z])")


class PatternError(ConfigError):
    """An include or exclude pattern that can't be understood."""


class Patterns:
    """A compiled set of patterns."""

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = [pattern for pattern in patterns if pattern.strip("/")]
        self._any = _union(pattern for pattern in patterns if not pattern.endswith("/"))
        self._folders = _union(pattern.rstrip("/") for pattern in patterns)

    def match(self, path: str, *, folder: bool) -> bool:
        """True if `path`, relative to the root, itself matches."""
        expression = self._folders if folder else self._any
        return expression is not None and expression.fullmatch(path) is not None


def _union(patterns: Iterable[str]) -> re.Pattern[str] | None:
    expressions = sorted({translate(pattern) for pattern in patterns})
    return re.compile("|".join(expressions)) if expressions else None


@functools.cache
def translate(pattern: str) -> str:
    """A pattern as a regular expression for the whole of a path. Raises PatternError."""
    anchored = "/" in pattern
    body = pattern.removeprefix("./").removeprefix("/")
    parts = []
    position = 0
    while position < len(body):
        part, position = _next(body, position)
        parts.append(part)
    expression = ("" if anchored else "(?:.*/)?") + "".join(parts)
    if "[" in body:  # all else is valid
        try:
            re.compile(expression)
        except re.error as error:
            raise PatternError(
                f"pattern {pattern!r} is not valid: {error.msg}", hint="in [a-z] the smaller comes first"
            ) from None
    return expression


def _next(body: str, position: int) -> tuple[str, int]:
    """The expression for what begins at `position`, and where it ends."""
    if body.startswith("**/", position):
        return "(?:.*/)?", position + 3
    if body.startswith("**", position):
        return ".*", position + 2
    letter = body[position]
    if letter == "*":
        return "[^/]*", position + 1
    if letter == "?":
        return "[^/]", position + 1
    negated = body[position + 1 : position + 2] in ("!", "^")
    end = body.find("]", position + 2 + negated)
    if letter == "[" and end > 0:
        inside = body[position + 1 : end]
        members = _RANGE.sub("-", re.escape(inside[1:] if negated else inside))
        return f"(?!/)[{'^' if negated else ''}{members}]", end + 1
    return re.escape(letter), position + 1
