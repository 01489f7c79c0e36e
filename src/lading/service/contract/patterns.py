"""The regular expressions of service models, which are Java's, as Python's.

Only what the models use is translated; anything else fails when it is compiled, not silently when it is matched.
"""

from __future__ import annotations

import functools
import re

SEPARATORS = "\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's category Z, as the inside of a character class."""
PROPERTIES = {"L": r"\w", "N": r"\w", "Z": SEPARATORS}
r"""`\p{…}` inside a class. `\w` is L, N and the underscore: exact for the models, whose classes all name the underscore."""
_PROPERTY = re.compile(r"\\p\{(\w+)\}")


@functools.cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A model's pattern; use `fullmatch`, as Java's `matches` does. Raises ValueError for a property not in the table."""
    flags = re.ASCII

    def translate(match: re.Match[str]) -> str:
        nonlocal flags
        flags = re.NOFLAG
        if match[1] not in PROPERTIES:
            raise ValueError(f"pattern {pattern!r} uses the unknown property {match[0]}")
        return PROPERTIES[match[1]]

    return re.compile(_PROPERTY.sub(translate, pattern), flags)


def matches(pattern: str, value: str) -> bool:
    return compile_pattern(pattern).fullmatch(value) is not None
