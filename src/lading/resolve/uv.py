"""Runs uv. The only place that starts it; what it says on stderr becomes one of our errors, without credentials."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lading.errors import DownloadError, LadingError, ResolveError
from lading.resolve.redact import redact

if TYPE_CHECKING:
    from subprocess import CompletedProcess

TIMEOUT = 600
"""Seconds that one resolution may take."""
MAX_DETAILS = 40
"""Lines of uv's explanation that an error carries."""
_UNREACHABLE = (
    "error sending request",
    "Request failed after",
    "HTTP status server error",
    "dns error",
    "operation timed out",
)
_REFUSED = (
    "HTTP status client error (401",
    "HTTP status client error (403",
    "lack of valid authentication",
    "401 Unauthorized",
    "403 Forbidden",
)
_OFFLINE = ("network was disabled", "etwork connectivity is disabled", "was not found in the cache")
_NOISE = ("warning: A managed Python download", "warning: The requested Python version", "Using CPython", "Resolved ")


class UvMissingError(ResolveError):
    """The uv executable is not installed beside lading nor on PATH."""


class UvTimeoutError(ResolveError):
    """uv did not finish within the time allowed."""


@functools.cache
def find_uv() -> str:
    """Path of the uv that lading depends on, else the one on PATH. Raises UvMissingError."""
    try:
        from uv import find_uv_bin  # type: ignore[import-untyped, unused-ignore]

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if not found:
        raise UvMissingError("uv was not found: lading resolves and builds with it", hint="pip install uv")
    return found


def run_uv(
    arguments: Sequence[str], *, directory: Path, stdin: str = "", offline: bool = False, timeout: float = TIMEOUT
) -> CompletedProcess[str]:
    """uv's exit code and output, as text. The user's own uv settings (environment, uv.toml, [tool.uv]) apply."""
    import subprocess

    command = [find_uv(), *arguments, "--no-progress", "--color", "never", *(["--offline"] if offline else [])]
    try:
        return subprocess.run(
            command,
            cwd=directory,
            input=stdin,
            env=_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UvTimeoutError(
            f"uv {arguments[0]} took longer than {timeout:.0f} s and was stopped",
            hint="check the index and the network; see what it does with: uv -v",
        ) from None


def _environment() -> dict[str, str]:
    """The user's, less what would tie a resolution to the virtual environment that lading happens to run in."""
    dropped = {"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "UV_PYTHON", "UV_SYSTEM_PYTHON"}
    return {name: value for name, value in os.environ.items() if name not in dropped}


def explain_failure(stderr: str, *, doing: str, offline: bool) -> LadingError:
    """uv's own words as an error: DownloadError where an index refused or could not or may not be asked, else ResolveError."""
    lines = [line.rstrip() for line in redact(stderr).splitlines()]
    details = [line for line in lines if line and not line.startswith(_NOISE)][:MAX_DETAILS]
    if any(mark in stderr for mark in _REFUSED):
        hint = "give the index's credentials as uv takes them: UV_INDEX_<NAME>_USERNAME and _PASSWORD, netrc or keyring"
        return DownloadError(f"{doing}: an index refused access", details=details, hint=hint)
    if any(mark in stderr for mark in _UNREACHABLE):
        return DownloadError(
            f"{doing}: an index could not be reached", details=details, hint="check the network, or use --offline"
        )
    if offline and any(mark in stderr for mark in _OFFLINE):
        hint = "run once without --offline; everything is kept after that"
        return DownloadError(
            f"{doing}: not everything is in uv's cache and --offline forbids fetching", details=details, hint=hint
        )
    return ResolveError(doing, details=details, hint="loosen or correct the requirement that the explanation names")
