"""What an audit says: findings as data. All of them at once, each with a code, the file, and a fix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    ERROR = "error"
    """It would fail on Lambda."""
    WARNING = "warning"
    """It may fail, or fail later."""
    ADVICE = "advice"
    """It works; this would be smaller, faster or safer."""


@dataclass(frozen=True)
class Finding:
    """One fact about an artifact. `code` is stable ("elf-machine", "missing-module", …) and documented."""

    code: str
    severity: Severity
    message: str
    file: str = ""
    """Path inside the artifact, or empty when the whole is meant."""
    package: str = ""
    """Normalized name of the distribution the file belongs to, where known."""
    fix: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Those that make a build fail."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]
