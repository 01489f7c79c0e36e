"""What a benchmark works with: a folder of its own, caches of its own for lading, the commands, the number of rounds."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workshop:
    """One benchmark's place. Everything in `folder` is removed when it ends."""

    folder: Path
    rounds: int

    @property
    def lading(self) -> str:
        """The installed command."""
        return str(Path(sys.executable).with_name("lading"))

    @property
    def python(self) -> str:
        return sys.executable

    @property
    def environment(self) -> dict[str, str]:
        """lading's cache starts empty in each benchmark; uv's and pip's are the user's, as on a developer's machine."""
        return {
            "LADING_CACHE_DIR": str(self.folder / "cache"),
            "NO_COLOR": "1",
            "SAM_CLI_TELEMETRY": "0",
            "PYTHONDONTWRITEBYTECODE": "",  # an installed lading has its bytecode, whoever runs this
        }

    def project(self, name: str, files: dict[str, str]) -> Path:
        """A folder with these files."""
        root = self.folder / name
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, "utf-8")
        return root

    def path_with(self, interpreter: Path) -> str:
        """PATH with this interpreter's own folder first, for tools that look for `python3.13` there."""
        return f"{interpreter.resolve().parent}{os.pathsep}{os.environ['PATH']}"


def remove(*paths: Path) -> None:
    """Files and folders, if they are there."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
