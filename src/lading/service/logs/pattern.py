"""Filter patterns: over unstructured text terms, "phrases", ?optional ones and -excluded ones; over JSON see `json_pattern.py`.

Source: CloudWatch Logs User Guide, "Filter pattern syntax". Patterns over columns and regular expressions are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lading.service.contract.errors import ApiError
from lading.service.control.refusal import not_here
from lading.service.logs.json_pattern import compile_json_pattern

_TERM = re.compile(r'([?-]?)(?:"((?:[^"\\]|\\.)*)"|([\w.:/@+=,;#*&!-]+))')
_ESCAPED = re.compile(r"\\(.)")


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Whether a message matches. Raises ApiError for a pattern that is wrong or of a kind that isn't here."""
    text = pattern.strip()
    if text.startswith("{"):
        return compile_json_pattern(text)
    if text[:1] in ("[", "%"):
        raise not_here("a filter pattern over columns or regular expressions", "use terms, phrases or JSON selectors")
    needed: list[str] = []
    optional: list[str] = []
    excluded: list[str] = []
    at = 0
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None:
            raise ApiError("InvalidParameterException", f"Invalid filter pattern: {pattern[:200]}")
        word = _ESCAPED.sub(r"\1", match[2]) if match[2] is not None else match[3]
        {"": needed, "?": optional, "-": excluded}[match[1]].append(word)
        at = match.end()
        while at < len(text) and text[at].isspace():
            at += 1

    def matches(message: str) -> bool:
        if any(word in message for word in excluded) or not all(word in message for word in needed):
            return False
        return bool(needed) or not optional or any(word in message for word in optional)

    return matches
