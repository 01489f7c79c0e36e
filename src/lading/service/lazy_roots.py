"""Images of functions that start lazily: converted once into a store in the state folder, mounted while somebody uses them.

The reader runs while any image is mounted. Docs: docs/design/decisions/0015-lazy-roots.md.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lading.errors import LadingError, SandboxError
from lading.lazy import mount
from lading.lazy.collect import Collector
from lading.lazy.convert import Settings as Conversion
from lading.lazy.convert import convert
from lading.lazy.fault import ObjectMissingError
from lading.lazy.images import LazyImage, LazyImages
from lading.lazy.keys import DEFAULT_ACCOUNT, ensure_key
from lading.lazy.objects import FolderObjects
from lading.lazy.opening import Opening, open_source, publish_trace
from lading.lazy.roots import ImageStore
from lading.lazy.settings import ReaderSettings
from lading.model.progress import Silent
from lading.oci.image import Image
from lading.service.pool.image_function import RootLease

log = logging.getLogger("lading.service")
KEEP_EVERY = 60.0
"""Seconds between looks at the leases of what is mounted; they hold an hour."""
_NO_GRACE = -1.0
"""Nobody else uses the store. The moment a root expires is noted in whole seconds, perhaps a little ahead."""


class LazyRoot:
    """One user's hold on a mounted image: what environments get their roots from (`Mounted`)."""

    def __init__(self, images: LazyImages, opening: Opening) -> None:
        """Raises LazyMountError, ObjectMissingError."""
        self.opening = opening
        self._images = images
        self._lock = threading.Lock()
        self._closed = False
        self._generation = images.generation
        self._image: LazyImage = images.open(opening.source)
        try:
            opening.confirm()
        except BaseException:
            images.close(self._image)
            raise

    @property
    def path(self) -> Path:
        return self._image.path

    @property
    def generation(self) -> int:
        """Raises SandboxError."""
        self._check()
        return self._images.generation

    def tree(self) -> int:
        """Raises SandboxError."""
        with self._lock:
            self._check()
            current = self._images.generation
            if current != self._generation:
                self._image = self._images.open(self.opening.source)
                self._generation = current
            return self._image.tree()

    def end(self) -> None:
        """No copies are given from here on."""
        with self._lock:
            self._closed = True

    def recorded(self) -> list[int]:
        """The start, as the next one may fetch it ahead."""
        return self._images.settled(self._image)

    def close(self) -> None:
        try:
            self._images.close(self._image)
        finally:
            self.opening.lease.release()

    def _check(self) -> None:
        if self._closed:
            raise SandboxError("the image's root was given back", hint="invoke the function again")


class LazyRoots:
    """`Roots` whose images are mounted lazily, each once, however many versions and environments use it."""

    def __init__(self, folder: Path, left: Callable[[tuple[Path, ...]], None]) -> None:
        """folder: for this service only. It holds the key (its owner's to read), the store and the cache of chunks.

        left: is told of a root that nobody uses any more, before it is unmounted.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._master = ensure_key(folder / "key")
        self._key = self._master.account(DEFAULT_ACCOUNT)
        self._store = ImageStore(FolderObjects(folder / "store"))
        self._settings = ReaderSettings(folder / "cache", str(folder / "store"))
        self._lock = threading.Lock()
        self._sweeping = threading.Lock()
        self._unused: set[str] = set()
        """What the last look found to be nobody's."""
        self._images: LazyImages | None = None
        self._opening = 0
        self._open: list[LazyRoot] = []
        self._users: Counter[Path] = Counter()
        self._closing = ThreadPoolExecutor(1, "lading-lazy-roots")
        self._over = threading.Event()
        self._keeper: threading.Thread | None = None
        self._left = left
        mount.sweep()

    def prepare(self, image: Image) -> None:
        """Converts it, unless the store has it."""
        workshop = self._folder / "workshop"
        workshop.mkdir(exist_ok=True, mode=0o700)
        convert(image, self._store, Conversion(self._master, DEFAULT_ACCOUNT, workshop), Silent())

    def open(self, image: Image) -> RootLease:
        """Raises LazyMountError, ObjectStoreError, and as `prepare`."""
        with self._lock:
            if self._images is None:
                self._images = LazyImages(self._settings)
            images = self._images
            self._opening += 1
        try:
            root = self._mounted(images, image)
            with self._lock:
                self._open.append(root)
                self._users[root.path] += 1
                if self._keeper is None:
                    self._keeper = threading.Thread(target=self._keep, name="lading-lazy-leases", daemon=True)
                    self._keeper.start()
        finally:
            with self._lock:
                self._opening -= 1
        return RootLease((root.path,), lambda: self._end(root), root)

    def keep_only(self, images: Iterable[Image]) -> None:
        """Forgets other images, and frees what only they need; what is still under a lease, at a later look."""
        self._forget(self._others(images))

    def sweep(self, images: Iterable[Image]) -> None:
        """Forgets what two looks in a row found to be nobody's: one that was just made ready may not be noted yet."""
        others = self._others(images)
        with self._sweeping:
            twice, self._unused = others & self._unused, others
            self._forget(twice)

    def _others(self, images: Iterable[Image]) -> set[str]:
        """Digests in the store."""
        kept = {image.digest for image in images}
        found = {one for root in self._store.roots() for one in self._store.images(root)}
        return {digest for key_id, digest in found if key_id == self._key.id and digest not in kept}

    def _forget(self, digests: Iterable[str]) -> None:
        """Converters and readers at work are not disturbed: what they hold stays until a later look."""
        gone = list(digests)
        for digest in gone:
            self._store.remove(self._key.id, digest)
        if gone or len(self._store.roots()) > 1:
            collector = Collector(self._store, self._master, [DEFAULT_ACCOUNT], grace=_NO_GRACE)
            for _ in range(2):  # what one round empties the next removes
                collector.collect()

    def close(self) -> None:
        """Ends what is still open as well."""
        self._over.set()
        self._closing.shutdown()
        with self._lock:
            images, self._images = self._images, None
            left, self._open = self._open, []
            self._users.clear()
        for root in left:
            root.end()
            root.opening.lease.release()
        if images is not None:
            images.shut_down()

    def _mounted(self, images: LazyImages, image: Image) -> LazyRoot:
        opening = self._find(image)
        try:
            return LazyRoot(images, opening)
        except BaseException:
            opening.lease.release()
            raise

    def _find(self, image: Image) -> Opening:
        try:
            return open_source(self._store, self._key, image.digest)
        except ObjectMissingError:  # prepared by a service that unpacked, or lost since
            self.prepare(image)
            return open_source(self._store, self._key, image.digest)

    def _end(self, root: LazyRoot) -> None:
        """The last holder is gone. The rest may take time, and callers are event loops."""
        root.end()
        if not self._over.is_set():
            self._closing.submit(self._leave, root)

    def _leave(self, root: LazyRoot) -> None:
        with self._lock:
            self._open.remove(root)
            self._users[root.path] -= 1
            last = not self._users[root.path]
            if last:
                del self._users[root.path]
        if last:
            try:
                publish_trace(self._store, self._key, root.opening, root.recorded())
            except (LadingError, OSError) as error:  # costs the next start some time and nothing else
                log.warning("the recorded start of an image was not kept: %s", error)
        try:
            if last:
                self._left((root.path,))
            root.close()
        except (LadingError, OSError) as error:
            log.warning("an image's root was not given back cleanly: %s", error)
        with self._lock:
            if not self._open and not self._opening and self._images is not None:
                self._images.shut_down()
                self._images = None

    def _keep(self) -> None:
        """Renews the leases of what is mounted, so that no collection takes its chunks."""
        while not self._over.wait(KEEP_EVERY):
            with self._lock:
                openings = [root.opening for root in self._open]
            for opening in openings:
                try:
                    opening.lease.keep()
                except LadingError as error:
                    log.warning("the lease of a mounted image was not renewed: %s", error.message)
