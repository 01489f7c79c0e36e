"""Makes sure that locked files are in the store: downloads those that are not, and looks at what came. With everything
there it only looks: no network, no heavy import.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator

from lading.errors import DownloadError
from lading.model.blobs import Blobs
from lading.model.lock import LockedFile
from lading.resolve.workshop import Workshop


class OfflineError(DownloadError):
    """Files are missing from the cache and the network is not allowed."""


class CorruptWheelError(DownloadError):
    """A file has the digest that the lock names but is no wheel."""


def supply(files: Iterable[LockedFile], shop: Workshop) -> Iterator[LockedFile]:
    """Make sure that every file is in the store; yields each as soon as it is.

    Raises OfflineError naming all that are not there and can't be had.
    """
    missing = []
    for file in files:
        if shop.blobs.has(file.sha256):
            yield file
        else:
            missing.append(file)
    if not missing:
        return
    remote = [file.name for file in missing if not file.url.startswith("file:")]
    if remote and shop.policy.offline:
        hint = "run once without --offline; everything is kept after that"
        raise OfflineError(
            f"{len(remote)} files are not in the cache and --offline forbids fetching", details=remote, hint=hint
        )
    from lading.resolve.credentials import Credentials
    from lading.resolve.download import download

    for file in download(missing, shop.blobs, Credentials(shop.indexes), shop.progress):
        if file.name.endswith(".whl"):
            check_wheel(file, shop.blobs)
        yield file


def check_wheel(file: LockedFile, blobs: Blobs) -> None:
    """Raises CorruptWheelError unless the blob is a zip with a dist-info folder."""
    try:
        with blobs.open(file.sha256) as opened, zipfile.ZipFile(opened) as archive:
            found = any(name.endswith(".dist-info/WHEEL") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _corrupt(file, str(error)) from error
    if not found:
        raise _corrupt(file, "it has no .dist-info/WHEEL")


def _corrupt(file: LockedFile, reason: str) -> CorruptWheelError:
    hint = "the file was published broken; choose another version, or report it to the package's maintainers"
    return CorruptWheelError(f"{file.name} is not a wheel: {reason}", details=[f"sha256:{file.sha256}"], hint=hint)
