"""The service's registry as the rest of the service sees it: repositories and their bytes, and images found without HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lading.oci.descriptor import Content as BlobContent
from lading.service.control.names import Scope
from lading.service.registry.catalog import Catalog, stored_as
from lading.service.registry.content import Content
from lading.service.registry.garbage import collect
from lading.service.registry.names import read_image_uri
from lading.service.state import State

if TYPE_CHECKING:
    from lading.oci.image import Image

THREADS = 8
EVERY = 600.0
"""Seconds between two looks for garbage; a deletion brings the next one forward."""
AFTER = 1.0
"""Seconds that a deletion waits for others."""
T = TypeVar("T")
log = logging.getLogger("lading.service")


@dataclass(frozen=True)
class LocalImage:
    """An image of a local repository. Keep `digest` as `_image` in a version's record: then its blobs stay."""

    uri: str
    digest: str
    media_type: str
    manifest: bytes = field(repr=False)
    blobs: BlobContent = field(repr=False)

    def open(self) -> Image:
        """As a value whose layers are read from the store. Raises ImageFormatError for an index, and for what is broken."""
        from lading.oci.image import read_image

        return read_image(self.manifest, self.blobs, self.media_type)


class LocalRegistry:
    """Repositories of all accounts and regions. `start` and `close` on the service's loop; what blocks runs beside it."""

    def __init__(self, state: State, folder: Path, now: Callable[[], float]) -> None:
        self.catalog = Catalog(state, now)
        self.content = Content(folder / "registry")
        self._threads = ThreadPoolExecutor(THREADS, "registry")
        self._deleted = asyncio.Event()
        self._collecting: asyncio.Task[None] | None = None

    def resolve(self, uri: str, scope: Scope, endpoint: str) -> LocalImage | None:
        """What an ImageUri means now to a caller of `scope` who reached the service at `endpoint`; None when it names another
        registry. Blocks. Raises RepositoryNotFoundException and ImageNotFoundException (ApiError), ImageReferenceError.
        """
        asked = read_image_uri(uri, scope, endpoint)
        if asked is None:
            return None
        found = self.catalog.find(asked.place, tag=asked.tag, digest=asked.digest)
        # AWS pins by sha256, whatever the image was pushed under.
        return self.pinned(uri, f"sha256:{stored_as(found)}", found["mediaType"])

    def pinned(self, uri: str, digest: str, media_type: str) -> LocalImage:
        """An image resolved before, by its digest. Raises StoreError when it is gone."""
        manifest = self.content.blobs.read(digest.removeprefix("sha256:"))
        return LocalImage(uri, digest, media_type, manifest, self.content.blobs)

    async def run(self, action: Callable[[], T]) -> T:
        """Something that blocks, beside the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, action)

    def something_deleted(self) -> None:
        """From the loop: there may be garbage."""
        self._deleted.set()

    async def start(self) -> None:
        self._collecting = asyncio.get_running_loop().create_task(self._collect())

    async def close(self) -> None:
        if self._collecting is not None:
            self._collecting.cancel()
            await asyncio.gather(self._collecting, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)
        self.content.close()

    async def _collect(self) -> None:
        while True:
            try:
                await self.run(lambda: collect(self.catalog, self.content))
            except Exception:
                log.exception("the registry's garbage could not be collected")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._deleted.wait(), EVERY)
                await asyncio.sleep(AFTER)
            self._deleted.clear()
