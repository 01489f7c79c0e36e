"""Images of functions that start lazily: converted once into a store in the state folder, mounted while somebody uses them.

The reader runs while any image is mounted. Docs: docs/design/decisions/0015-lazy-roots.md.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lading.errors import LadingError, SandboxError
from lading.lazy import mount
from lading.lazy.accounts import give
from lading.lazy.collect import Collector
from lading.lazy.convert import Settings as Conversion
from lading.lazy.convert import convert
from lading.lazy.fault import ObjectMissingError
from lading.lazy.images import LazyImage, LazyImages
from lading.lazy.keys import DEFAULT_ACCOUNT, AccountKey, ensure_key
from lading.lazy.objects import FolderObjects
from lading.lazy.opening import Opening, open_source, publish_trace
from lading.lazy.roots import ImageStore
from lading.lazy.settings import ReaderSettings
from lading.lazy.usage import read_usage
from lading.model.progress import Silent
from lading.service.events import ImageChanged
from lading.service.image_metrics import image_text
from lading.service.pool.image_function import OwnedImage, RootLease

_Sealed = tuple[bytes, str]
"""A manifest in the store: its key's id, the image's digest."""
log = logging.getLogger("lading.service")
KEEP_EVERY = 60.0
"""Seconds between looks at the leases of what is mounted; they hold an hour."""
_NO_GRACE = 0.0
"""Nobody else uses the store."""


class LazyRoot:
    """One user's hold on a mounted image: what environments get their roots from (`Mounted`)."""

    def __init__(self, images: LazyImages, opening: Opening, account: str) -> None:
        """account: its user's. Raises LazyMountError, ObjectMissingError."""
        self.opening = opening
        self.account = account
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
    def digest(self) -> str:
        """ "sha256:…" of the image's own manifest."""
        return self.opening.source.manifest.digest

    @property
    def reader_name(self) -> str:
        return self._image.digest

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
    """`Roots` whose images are mounted lazily, each once, however many accounts, versions and environments use it.

    Each account has manifests of its own, under a key of its own; chunks are shared.
    """

    def __init__(
        self,
        folder: Path,
        left: Callable[[tuple[Path, ...]], None],
        tell: Callable[[ImageChanged], None] = lambda event: None,
    ) -> None:
        """folder: for this service only. It holds the key (its owner's to read), the store and the cache of chunks.

        left: is told of a root that nobody uses any more, before it is unmounted. tell: takes events.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._master = ensure_key(folder / "key")
        self._store = ImageStore(FolderObjects(folder / "store"))
        if not self._store.living():
            self._store.new_root()  # the first two images at once would make one each
        self._settings = ReaderSettings(folder / "cache", str(folder / "store"))
        self._lock = threading.Lock()
        self._sweeping = threading.Lock()
        self._accounts = {DEFAULT_ACCOUNT}
        """That were heard of. All images were the default one's, once: they are given to the accounts that use them."""
        self._unused: set[_Sealed] = set()
        """What the last look found to be nobody's."""
        self._images: LazyImages | None = None
        self._opening = 0
        self._open: list[LazyRoot] = []
        self._users: Counter[Path] = Counter()
        self._starters: Counter[tuple[Path, str]] = Counter()
        """The same by account, whose recorded start is kept when its last user goes."""
        self._closing = ThreadPoolExecutor(1, "lading-lazy-roots")
        self._over = threading.Event()
        self._keeper: threading.Thread | None = None
        self._left, self._tell = left, tell
        self._restarts = 0
        """Of readers that are no more."""
        self._names: dict[str, str] = {}
        """Digests of images by the reader's names."""
        mount.sweep()

    def prepare(self, owned: OwnedImage) -> None:
        """Converts it, unless the account has it. What another account has already is only sealed for this one as well."""
        with self._event("ready", owned.image.digest, owned.account):
            if not self._given(owned):
                workshop = self._folder / "workshop"
                workshop.mkdir(exist_ok=True, mode=0o700)
                convert(owned.image, self._store, Conversion(self._master, owned.account, workshop), Silent())

    def open(self, owned: OwnedImage) -> RootLease:
        """Raises LazyMountError, ObjectStoreError, and as `prepare`."""
        with self._lock:
            if self._images is None:
                self._images = LazyImages(self._settings)
            images = self._images
            self._opening += 1
        try:
            with self._event("mounted", owned.image.digest, owned.account):
                root = self._mounted(images, owned)
            with self._lock:
                self._names[root.reader_name] = root.digest
                self._open.append(root)
                self._users[root.path] += 1
                self._starters[root.path, root.account] += 1
                if self._keeper is None:
                    self._keeper = threading.Thread(target=self._keep, name="lading-lazy-leases", daemon=True)
                    self._keeper.start()
        finally:
            with self._lock:
                self._opening -= 1
        return RootLease((root.path,), lambda: self._end(root), root)

    def keep_only(self, images: Iterable[OwnedImage]) -> None:
        """Forgets other images, and frees what only they need; what is still under a lease, at a later look."""
        kept = {(self._key(owned.account).id, owned.image.digest): owned for owned in images}
        found = self._sealed()
        for missing in kept.keys() - found:
            self._given(kept[missing])
        self._forget(found - kept.keys())

    def sweep(self, images: Iterable[OwnedImage]) -> None:
        """Forgets what two looks in a row found to be nobody's: one that was just made ready may not be noted yet."""
        kept = {(self._key(owned.account).id, owned.image.digest) for owned in images}
        others = self._sealed() - kept
        with self._sweeping:
            twice, self._unused = others & self._unused, others
            self._forget(twice)

    @contextlib.contextmanager
    def _event(self, state: str, image: str, account: str) -> Iterator[None]:
        """Told once it is over, unless it fails."""
        began = time.monotonic()
        yield
        self._tell(ImageChanged(time.time(), image, account, state, (time.monotonic() - began) * 1e3))

    def _key(self, account: str) -> AccountKey:
        with self._lock:
            self._accounts.add(account)
        return self._master.account(account)

    def _given(self, owned: OwnedImage) -> bool:
        """Whether the account has an image, now at the latest, from others."""
        own = self._key(owned.account)
        with self._lock:
            others = [self._master.account(account) for account in self._accounts - {owned.account}]
        return give(self._store, owned.image.digest, others, own)

    def _sealed(self) -> set[_Sealed]:
        """What the store has, of whatever account."""
        return {one for root in self._store.roots() for one in self._store.images(root)}

    def _forget(self, others: Iterable[_Sealed]) -> None:
        """Converters and readers at work are not disturbed: what they hold stays until a later look."""
        gone = list(others)
        for key_id, digest in gone:
            self._store.remove(key_id, digest)
        if gone or len(self._store.roots()) > 1:
            with self._lock:
                accounts = list(self._accounts)
            collector = Collector(self._store, self._master, accounts, grace=_NO_GRACE)
            for _ in range(2):  # what one round empties the next removes
                collector.collect()

    def metrics(self) -> str:
        """Counted by all readers that this folder ever had, up to seconds ago; empty before the first."""
        with self._lock:
            images = self._images
            mounted = len(self._users)
            names = dict(self._names)
            restarts = self._restarts + (images.restarts if images is not None else 0)
        counted = read_usage(self._settings.cache / "usage")
        return image_text({**counted, "mounted": mounted, "restarts": restarts}, names) if counted or mounted else ""

    def close(self) -> None:
        """Ends what is still open as well."""
        self._over.set()
        self._closing.shutdown()
        with self._lock:
            images, self._images = self._images, None
            left, self._open = self._open, []
            self._users.clear()
            self._starters.clear()
        for root in left:
            root.end()
            root.opening.lease.release()
        if images is not None:
            images.shut_down()

    def _mounted(self, images: LazyImages, owned: OwnedImage) -> LazyRoot:
        opening = self._find(owned)
        try:
            return LazyRoot(images, opening, owned.account)
        except BaseException:
            opening.lease.release()
            raise

    def _find(self, owned: OwnedImage) -> Opening:
        key = self._key(owned.account)
        try:
            return open_source(self._store, key, owned.image.digest)
        except ObjectMissingError:  # prepared by a service that unpacked, or lost since
            self.prepare(owned)
            return open_source(self._store, key, owned.image.digest)

    def _end(self, root: LazyRoot) -> None:
        """The last holder is gone. The rest may take time, and callers are event loops."""
        root.end()
        if not self._over.is_set():
            self._closing.submit(self._leave, root)

    def _leave(self, root: LazyRoot) -> None:
        starter = root.path, root.account
        with self._lock:
            self._open.remove(root)
            self._users[root.path] -= 1
            self._starters[starter] -= 1
            last, last_of_account = not self._users[root.path], not self._starters[starter]
            if last:
                del self._users[root.path]
            if last_of_account:
                del self._starters[starter]
        if last_of_account:
            try:
                publish_trace(self._store, self._key(root.account), root.opening, root.recorded())
            except (LadingError, OSError) as error:  # costs the next start some time and nothing else
                log.warning("the recorded start of an image was not kept: %s", error)
        try:
            if last:
                self._left((root.path,))
            with self._event("unmounted", root.digest, root.account) if last else contextlib.nullcontext():
                root.close()
        except (LadingError, OSError) as error:
            log.warning("an image's root was not given back cleanly: %s", error)
        with self._lock:
            if not self._open and not self._opening and self._images is not None:
                self._images.shut_down()
                self._restarts += self._images.restarts
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
