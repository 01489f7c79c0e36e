"""Who is told how the work goes. Modules below `cli` report through this and print nothing."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Steps and amounts; the terminal, JSON and silence are three implementations."""

    def start(self, label: str, total: int | None = None) -> int:
        """Begin a task ("numpy 2.3.4", bytes in all or None); its number."""
        ...

    def advance(self, task: int, amount: int = 1) -> None: ...

    def finish(self, task: int) -> None: ...

    def note(self, message: str) -> None:
        """A line for the user that is neither result nor error ("no python3.14 here: bytecode left out")."""
        ...


class Silent:
    """Progress that tells nobody."""

    def start(self, label: str, total: int | None = None) -> int:
        return 0

    def advance(self, task: int, amount: int = 1) -> None:
        return None

    def finish(self, task: int) -> None:
        return None

    def note(self, message: str) -> None:
        return None
