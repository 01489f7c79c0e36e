"""Everything that is wrong with one file, gathered, so that the user mends it in one go."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lading.errors import ConfigError


class InvalidConfigError(ConfigError):
    """A configuration file states what can't be; one line of details per problem when there are several."""


class MissingConfigError(ConfigError):
    """There is nothing to build where lading was asked to look."""


class BrokenFileError(ConfigError):
    """A file of the project is missing, unreadable, too large or not in its format."""


@dataclass
class Problems:
    """Problems of `origin`: where in it (a dotted key), what, and what to do."""

    origin: Path
    found: list[tuple[str, str]] = field(default_factory=list)

    def add(self, where: str, message: str, hint: str = "") -> None:
        line = f"{where}: {message}"
        if (line, hint) not in self.found:
            self.found.append((line, hint))

    def take(self, where: str, error: ConfigError) -> None:
        """Keep an error that a deeper reader raised, and go on."""
        self.add(where, error.message, error.hint)

    def raise_any(self) -> None:
        """Raises InvalidConfigError if anything was added."""
        if not self.found:
            return
        name = self.origin.name
        if len(self.found) == 1:
            line, hint = self.found[0]
            raise InvalidConfigError(f"{name}: {line}", hint=hint or f"correct {self.origin}")
        details = [f"{name}: {line}" + (f" ({hint})" if hint else "") for line, hint in self.found]
        raise InvalidConfigError(
            f"{name} has {len(self.found)} problems", details=details, hint=f"correct {self.origin}"
        )
