"""How far a resolution may go, and where its result is kept. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lading.model.target import Target


@dataclass(frozen=True)
class Policy:
    """`offline`: no network at all. `frozen`: a kept lock must exist and fit, it is never written.

    `upgrade`: forget the kept versions; `upgrade_packages`: forget those of these names only.
    """

    offline: bool = False
    frozen: bool = False
    upgrade: bool = False
    upgrade_packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class LockPlace:
    """Where the lock of a project without one is kept: a folder, and a name of it that has no dots (PEP 751)."""

    root: Path
    name: str

    def path(self, target: Target) -> Path:
        """`pylock.{name}-{target.key}.toml` in the folder; other characters than letters, digits, `-` and `_` become `-`."""
        plain = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in self.name)
        return self.root / f"pylock.{plain}-{target.key}.toml"
