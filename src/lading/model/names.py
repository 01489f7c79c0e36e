"""Names of distributions as the packaging standards compare them."""

from __future__ import annotations

import re


def normalize(name: str) -> str:
    """The form that PEP 503 compares, and PEP 685 for extras and PEP 735 for groups: `Zope.Interface` → `zope-interface`."""
    return re.sub(r"[-_.]+", "-", name).lower()
