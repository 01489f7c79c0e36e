"""One root for every error a user can meet. Imports nothing of lading.

An error names the thing and the value in its message, gives the next step in its hint, and its class decides
the exit code: 2 usage or configuration, 3 resolution, 4 download or index, 5 artifact failed its audit,
6 cache or disk, 7 isolation or execution, 8 deployment, 1 anything else.
"""

from __future__ import annotations

from collections.abc import Iterable


class LadingError(Exception):
    """What went wrong (`message`), what else is known (`details`), what to do next (`hint`), where to read more (`docs`)."""

    exit_code = 1

    def __init__(self, message: str, *, details: Iterable[str] = (), hint: str = "", docs: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.hint = hint
        self.docs = docs


class UsageError(LadingError):
    """The command line asks for something that can't be."""

    exit_code = 2


class ConfigError(LadingError):
    """The project's own files are missing, broken or contradict each other."""

    exit_code = 2


class ResolveError(LadingError):
    """The requirements have no solution on the target, or a lock does not match them."""

    exit_code = 3


class BuildError(LadingError):
    """A source distribution, wheel or source tree could not be turned into an artifact."""

    exit_code = 3


class DownloadError(LadingError):
    """An index or a file could not be reached, or what came is not what the lock promised."""

    exit_code = 4


class AuditError(LadingError):
    """The artifact was built but would fail on Lambda; or an archive given to `check` is not readable safely."""

    exit_code = 5


class StoreError(LadingError):
    """The cache or the disk under it failed."""

    exit_code = 6


class SandboxError(LadingError):
    """This host can't isolate as asked, or an execution environment could not be made."""

    exit_code = 7


class DeployError(LadingError):
    """A deployment can't be planned, or AWS refused a part of it."""

    exit_code = 8
